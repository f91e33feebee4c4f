//! Listeners that redirect requests without TLS to `https`.

use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, BufReader};

use crate::support::control::CONTROL;
use crate::support::head::get;
use crate::support::{
    Backend, Client, HANDSHAKE, Proxy, TempDir, connect, exchange, read_response, route,
    write_certificate,
};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A TLS listener and a plain one that has these keys.
fn config_with(listener: &str, more: &str, backend: &Backend) -> String {
    format!(
        "[log]\nformat = \"json\"\nlevel = \"debug\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [[listener]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\n\
         [[listener]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\ntls = false\n{listener}\n\
         [[certificate]]\nchain = \"chain.pem\"\nkey = \"key.pem\"\ndefault = true\n{more}\n{}",
        route(&[backend.address], "")
    )
}

async fn proxy_with(listener: &str, more: &str, backend: &Backend) -> Proxy {
    Proxy::start_bare(&config_with(listener, more, backend)).await
}

#[tokio::test]
async fn plain_requests_are_sent_to_the_same_url() {
    for (kind, get_status) in [("https", 308), ("https-301", 301)] {
        let backend = Backend::app(OK).await;
        let proxy = proxy_with(&format!("redirect = \"{kind}\""), "", &backend).await;
        let client = Client::new(&proxy).await;
        let target = "/a%2Fb;c?token=s&x=//y";
        for (method, status) in [("GET", get_status), ("HEAD", get_status), ("POST", 308)] {
            let sent = get(target).replace("GET", method).replace("localhost", "Chat.example:8080");
            let response = client.request(sent.as_bytes()).await;
            let url = format!("https://chat.example{target}");
            assert_eq!((response.status, response.header("location")), (status, Some(&*url)));
            assert_eq!(response.header("connection"), Some("close"));
        }
        let response = client.request(HANDSHAKE.as_bytes()).await;
        assert_eq!(
            (response.status, response.header("location")),
            (get_status, Some("https://localhost/ws"))
        );
        let record = proxy.nth_end_record(4).await;
        assert_eq!(
            (&record["event"], &record["status"], &record["key"]),
            (&json!("redirected"), &json!(get_status), &json!("listener.redirect"))
        );
        // No name to send the client to.
        let response = client.request(b"GET / HTTP/1.0\r\n\r\n").await;
        assert_eq!((response.status, response.header("location")), (400, None));
        assert_eq!(backend.heads(), [""; 0]);
        let mut secure = BufReader::new(client.connect_tls().await);
        assert_eq!(exchange(&mut secure, &get("/")).await.1, b"ok");
        let redirected = proxy.scrape().await.value("tidegate_requests_redirected_total", &[]);
        assert_eq!((redirected, backend.heads().len()), (4.0, 1));
        // Only the one without a name.
        proxy.status("one rejection", |status| status["requests_rejected"] == 1).await;
    }
}

#[tokio::test]
async fn redirects_are_recorded_at_debug_only() {
    let backend = Backend::app(OK).await;
    let config = config_with("redirect = \"https\"", "", &backend);
    let proxy = Proxy::start_bare(&config.replace("\"debug\"", "\"info\"")).await;
    let client = Client::new(&proxy).await;
    assert_eq!(client.request(get("/").as_bytes()).await.status, 308);
    // Its record is the first.
    assert_eq!(client.request(b"GET / HTTP/1.0\r\n\r\n").await.status, 400);
    assert_eq!(proxy.nth_end_record(1).await["end"], "request_invalid");
}

#[tokio::test]
async fn exempt_paths_are_served_without_tls() {
    let backend = Backend::app(OK).await;
    let keys = "redirect = \"https\"\nhealth_path = \"/lb\"";
    let proxy = proxy_with(keys, "", &backend).await;
    let client = Client::new(&proxy).await;
    let status = async |target: &str| client.request(get(target).as_bytes()).await.status;
    assert_eq!(status("/.well-known/acme-challenge/x").await, 200);
    assert_eq!(status("/lb").await, 200);
    assert_eq!(backend.heads().len(), 1);
    for target in [
        "/.well-known/acme-challengex",
        "/.well-known",
        // A backend may take these for paths outside.
        "/.well-known/acme-challenge/..%2F..%2Fadmin",
        "/.well-known/acme-challenge/%2e%2e/x",
    ] {
        assert_eq!(status(target).await, 308, "{target}");
    }
    let own = format!("{keys}\nredirect_except = [\"/health\"]");
    let proxy = proxy_with(&own, "", &backend).await;
    let client = Client::new(&proxy).await;
    let status = async |target: &str| client.request(get(target).as_bytes()).await.status;
    assert_eq!(status("/health/x").await, 200);
    assert_eq!(status("/.well-known/acme-challenge/x").await, 308);
}

#[tokio::test]
async fn clients_with_tls_in_front_are_served() {
    let backend = Backend::app(OK).await;
    let trusted = "[trusted_proxies]\naddresses = [\"127.0.0.2\"]\n";
    let proxy = proxy_with("redirect = \"https\"", trusted, &backend).await;
    let to = proxy.address("plain").await;
    let request = async |from: [u8; 4], lines: &str| {
        let mut stream = BufReader::new(connect(from, to).await);
        let sent = get("/x").replace("\r\n\r\n", &format!("\r\n{lines}\r\n\r\n"));
        stream.write_all(sent.as_bytes()).await.unwrap();
        read_response(&mut stream).await
    };
    let front = [127, 0, 0, 2];
    assert_eq!(request(front, "X-Forwarded-Proto: https").await.status, 200);
    let named = "X-Forwarded-Proto: http\r\nX-Forwarded-Host: www.example";
    let redirected = request(front, named).await;
    assert_eq!(redirected.header("location"), Some("https://www.example/x"));
    assert_eq!(request([127, 0, 0, 3], "X-Forwarded-Proto: https").await.status, 308);
}

#[tokio::test]
async fn explain_predicts_the_redirect() {
    let backend = Backend::app(OK).await;
    // An explanation depends on the port in the file, so it cannot be 0; the address is this test's own.
    let [.., high, low] = std::process::id().to_be_bytes();
    let extra = format!(
        "[[listener]]\nname = \"extra\"\naddress = \"127.{high}.{low}.80:8080\"\ntls = false\n\
         redirect = \"https-301\"\n{CONTROL}"
    );
    let proxy = proxy_with("", &extra, &backend).await;
    let explain = async |url: &str| {
        let command = json!({"command": "explain", "url": url, "origin": null, "address": null});
        let explained = proxy.command(command).await;
        let last = explained["steps"].as_array().unwrap().last().unwrap()["check"].clone();
        (explained["status"].clone(), explained["reason"].clone(), last)
    };
    assert_eq!(
        explain("ws://localhost:8080/ws").await,
        (json!(301), json!("redirected"), json!("redirect"))
    );
    let (status, _, last) = explain("ws://localhost:8080/.well-known/acme-challenge/x").await;
    assert_eq!((status, last), (Value::Null, json!("limits")));
}

#[test]
fn check_warns_about_port_80_without_redirect() {
    let folder = TempDir::new();
    write_certificate(folder.path(), &["localhost"]);
    let config = |listener: &str| {
        format!(
            "[[listener]]\naddress = \"0.0.0.0:443\"\n\
             [[listener]]\naddress = \"0.0.0.0:80\"\ntls = false\n{listener}\
             [[certificate]]\nchain = \"chain.pem\"\nkey = \"key.pem\"\ndefault = true\n{}",
            route(&["127.0.0.1:9".parse().unwrap()], "")
        )
    };
    let check = |text: String| {
        folder.write("proxy.toml", text);
        let mut command = std::process::Command::new(crate::support::TIDEGATE);
        command.args(["check", "--config", "proxy.toml"]).current_dir(folder.path());
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let warning = check(config(""));
    assert!(warning.contains("proxy.toml:4:11: listener[1].address: port 80 serves"), "{warning}");
    assert!(warning.contains("redirect = \"https\""), "{warning}");
    assert_eq!(check(config("redirect = \"https\"\n")), "");
    assert_eq!(check(config("redirect = \"off\"\n")), "");
}
