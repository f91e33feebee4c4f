//! `[error_pages]`: files as the bodies of tidegate's own error responses.

use std::fs;
use std::process::Command;

use serde_json::json;
use tokio::io::{AsyncWriteExt, BufReader};

use crate::support::control::CONTROL;
use crate::support::head::{get, with_lines};
use crate::support::{
    Backend, Client, HANDSHAKE, Proxy, RawResponse, TIDEGATE, TempDir, exchange, read_to_end,
    route, switching_protocols,
};

const HTML: &str = "text/html; charset=utf-8";

/// A backend that sends something invalid, or nothing, or its own error; it accepts handshakes.
async fn failing_backend() -> Backend {
    Backend::raw(|head, mut stream, _| async move {
        match head.split(' ').nth(1).unwrap() {
            "/invalid" => stream.write_all(b"nonsense\r\n\r\n").await.unwrap(),
            "/own" => {
                let own = b"HTTP/1.1 503 Busy\r\nContent-Length: 3\r\n\r\nown";
                stream.write_all(own).await.unwrap();
            }
            "/ws" => {
                stream.write_all(switching_protocols(&head).as_bytes()).await.unwrap();
                read_to_end(&mut stream).await;
            }
            _ => drop(read_to_end(&mut stream).await),
        }
    })
    .await
}

#[tokio::test]
async fn own_errors_have_the_content_of_the_files() {
    let backend = failing_backend().await;
    let folder = TempDir::new();
    let pages = [403, 404, 429, 502, 503, 504].map(|status| {
        let name = if status == 404 { "404.json" } else { &format!("{status}.html") };
        folder.write(name, format!("<p>page {status}"));
        format!("{status} = \"{}\"\n", folder.path().join(name).display())
    });
    let gone = Backend::echo().await.address;
    let down = route(&[gone], "path = \"/down\"").replace("\"all\"", "\"down\"");
    let only = route(&[backend.address], "").replace("host = \"*\"", "host = \"localhost\"");
    let only = only.replace("[\"*\"]", "[\"missing\"]");
    let config = format!(
        "{}{only}[route.timeouts]\nidle = \"300ms\"\n[concurrency]\ntunnels_per_client = 1\n\
         [error_pages]\n{}",
        down.replace("host = \"*\"", "host = \"localhost\""),
        pages.concat()
    );
    let proxy = Proxy::start(&config).await;
    let client = Client::new(&proxy).await;
    let _tunnel = client.raw_tunnel().await;
    let ask = async |request: &str| -> (RawResponse, String) {
        let mut stream = BufReader::new(client.connect_plain().await);
        let (response, body) = exchange(&mut stream, request).await;
        (response, String::from_utf8(body).unwrap())
    };
    for (request, status) in [
        (with_lines("Origin: https://elsewhere.example"), 403),
        (get("/").replace("localhost", "elsewhere"), 404),
        (HANDSHAKE.to_owned(), 429),
        (get("/invalid"), 502),
        (get("/down"), 503),
        (get("/silent"), 504),
    ] {
        let (response, body) = ask(&request).await;
        assert_eq!((response.status, body), (status, format!("<p>page {status}")), "{request}");
        let expected = if status == 404 { "application/json" } else { HTML };
        assert_eq!(response.header("content-type"), Some(expected));
        assert_eq!(response.header("cache-control"), Some("no-store"));
        assert_eq!(response.header("connection"), Some("close"));
        let retry = response.header("retry-after").is_some();
        assert_eq!(retry, matches!(status, 429 | 503), "{response:?}");
    }
    // Other statuses, and what the application sends.
    let invalid = get("/").replace("Host: localhost", "Host: a b");
    assert_eq!(ask(&invalid).await.1, "400 Bad Request\n");
    let (own, body) = ask(&get("/own")).await;
    assert_eq!((own.status, &*body, own.header("content-type")), (503, "own", None));
    // No body follows the head (RFC 9110 9.3.2).
    let mut stream = BufReader::new(client.connect_plain().await);
    stream.write_all(get("/down").replace("GET", "HEAD").as_bytes()).await.unwrap();
    let all = String::from_utf8(read_to_end(&mut stream).await).unwrap();
    assert!(all.ends_with("\r\n\r\n") && all.contains("Content-Length: 11\r\n"), "{all}");
}

#[tokio::test]
async fn reload_reads_the_files_again() {
    let backend = failing_backend().await;
    let folder = TempDir::new();
    folder.write("404", "first");
    let file = folder.path().join("404");
    let only = route(&[backend.address], "").replace("host = \"*\"", "host = \"localhost\"");
    let pages = format!("[error_pages]\n404 = \"{}\"\n", file.display());
    let proxy = Proxy::start(&format!("{only}{pages}{CONTROL}")).await;
    let diff = async || {
        let path = proxy.folder().join("proxy.toml");
        let request = json!({ "command": "diff", "path": path, "text": proxy.config() });
        proxy.command(request).await["changes"].clone()
    };
    let client = Client::new(&proxy).await;
    let body = async || {
        let mut stream = BufReader::new(client.connect_plain().await);
        let (response, body) = exchange(&mut stream, &get("/").replace("localhost", "x")).await;
        (response.header("content-type").unwrap().to_owned(), String::from_utf8(body).unwrap())
    };
    assert_eq!(body().await, ("text/plain; charset=utf-8".to_owned(), "first".to_owned()));
    folder.write("404", "<p>second");
    assert_eq!(body().await.1, "first");
    let shown = format!("\"{}\"", file.display());
    let after = format!("{shown} # content changed");
    let key = json!({ "key": "error_pages.404", "before": shown, "after": after });
    assert_eq!(diff().await[0]["keys"], json!([key]));
    let reloaded = proxy.reload().await;
    assert_eq!(
        (&reloaded["generation"], &reloaded["changed"]),
        (&2.into(), &"error_pages: 404".into())
    );
    assert_eq!(diff().await, json!([]));
    assert_eq!(body().await, (HTML.to_owned(), "<p>second".to_owned()));
    fs::remove_file(&file).unwrap();
    let rejected = "reload rejected; the previous configuration stays active";
    assert_eq!(proxy.reload().await["message"], rejected);
    assert_eq!(body().await.1, "<p>second");
}

#[test]
fn unusable_files_are_faults_with_line_and_key() {
    let folder = TempDir::new();
    fs::create_dir(folder.path().join("dir")).unwrap();
    folder.write("large.html", vec![b'x'; (64 << 10) + 1]);
    folder.write("exact.html", vec![b'x'; 64 << 10]);
    folder.write("latin1.html", b"caf\xe9");
    let check = |pages: &str| {
        let listener = "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = false\n";
        let route = route(&["127.0.0.1:9".parse().unwrap()], "");
        folder.write("proxy.toml", format!("[error_pages]\n{pages}{listener}{route}"));
        let mut command = Command::new(TIDEGATE);
        command.args(["check", "--config", "proxy.toml"]).current_dir(folder.path());
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(check("502 = \"exact.html\"\n504 = \"off\"\n"), (Some(0), String::new()));
    let pages = "403 = \"none.html\"\n404 = \"dir\"\n429 = \"large.html\"\n502 = \"exact.html\"\n\
                 503 = \"latin1.html\"\n";
    let (code, reported) = check(pages);
    assert_eq!(code, Some(78), "{reported}");
    for expected in [
        "proxy.toml:2:7: error_pages.403: none.html: there is no such file",
        "proxy.toml:3:7: error_pages.404: dir: this is a directory (name the file in it)",
        "proxy.toml:4:7: error_pages.429: large.html: larger than 64 KiB, the maximum for an error page",
        "proxy.toml:6:7: error_pages.503: latin1.html: the file is not valid UTF-8",
    ] {
        assert!(reported.contains(expected), "{expected} is not in {reported}");
    }
    assert!(reported.contains("4 errors"), "{reported}");
}
