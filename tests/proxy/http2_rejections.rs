//! Requests over HTTP/2 that are rejected: the connection stays open.

use std::time::Duration;

use hyper::{Request, StatusCode};
use tokio::time::Instant;

use crate::support::http2::{Http2Client, get, http2_proxy};
use crate::support::{Backend, Client, TempDir, route, write_certificate};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

// Requirements: E15, E21, E22, H218, H220.
#[tokio::test]
async fn rejections_leave_the_connection_open() {
    let backend = Backend::app(OK).await;
    let routes = route(&[backend.address], "").replace("\"*\"\nor", "\"localhost\"\nor");
    let proxy = http2_proxy(&routes).await;
    let mut client = Http2Client::connect(&Client::new(&proxy).await).await;
    let request =
        |method: &str, uri: &str| Request::builder().method(method).uri(uri).body(()).unwrap();
    let with = |name: &str, value: &str| {
        let mut request = get("/");
        request
            .headers_mut()
            .insert(name.parse::<hyper::header::HeaderName>().unwrap(), value.parse().unwrap());
        request
    };
    let crumbs = (0..120).fold(get("/"), |mut request, _| {
        request.headers_mut().append("cookie", "a=1".parse().unwrap());
        request
    });
    for (number, (request, status, end)) in [
        (request("GET", "https://other.example/"), 404, "no_route"),
        (request("GET", "https://user@localhost/"), 400, "request_invalid"),
        (request("CONNECT", "localhost:443"), 405, "method"),
        (request("TRACE", "https://localhost/"), 405, "method"),
        (with("host", "other"), 400, "request_invalid"),
        (with("x-a", "a "), 400, "request_invalid"),
        (with("expect", "other"), 417, "expect"),
        (get(&format!("/{}", "a".repeat(17_000))), 414, "uri_too_long"),
        (crumbs, 431, "head_too_large"),
    ]
    .into_iter()
    .enumerate()
    {
        let (response, _) = client.exchange(request).await;
        assert_eq!(response.status().as_u16(), status, "{end}");
        let record = proxy.nth_end_record(number + 1).await;
        assert_eq!((&record["end"], &record["protocol"]), (&end.into(), &"h2".into()));
    }
    assert_eq!(client.get("/").await.0.status(), StatusCode::OK);
    assert_eq!(backend.heads().len(), 1);
}

// Requirements: E21, TL11.
#[tokio::test]
async fn host_of_another_certificate_is_421() {
    let backend = Backend::app(OK).await;
    let folder = TempDir::new();
    write_certificate(folder.path(), &["other.example"]);
    let at = folder.path().display();
    let other = format!("[[certificate]]\nchain = \"{at}/chain.pem\"\nkey = \"{at}/key.pem\"\n");
    let proxy = http2_proxy(&format!("{other}{}", route(&[backend.address], ""))).await;
    let mut client = Http2Client::connect(&Client::new(&proxy).await).await;
    let request = Request::get("https://other.example/").body(()).unwrap();
    assert_eq!(client.exchange(request).await.0.status(), StatusCode::MISDIRECTED_REQUEST);
    assert_eq!(proxy.nth_end_record(1).await["end"], "misdirected");
    assert_eq!(client.get("/").await.0.status(), StatusCode::OK);
}

#[tokio::test]
async fn limits_apply_to_each_stream() {
    let backend = Backend::app(OK).await;
    let limits = "[rates]\nrequests_per_client = \"1/s\"\nrequests_burst = 3\n";
    let proxy = http2_proxy(&format!("{limits}{}", route(&[backend.address], ""))).await;
    let mut client = Http2Client::connect(&Client::new(&proxy).await).await;
    let mut statuses = Vec::new();
    for _ in 0..20 {
        let (response, _) = client.get("/").await;
        if response.status() == 429 {
            assert!(response.headers().contains_key("retry-after"));
        }
        statuses.push(response.status().as_u16());
    }
    assert_eq!(statuses[..3], [200; 3]);
    assert!(statuses.iter().filter(|status| **status == 429).count() > 10, "{statuses:?}");
}

#[tokio::test]
async fn error_page_replaces_the_body() {
    let page = "<p>not here</p>";
    let backend = Backend::app(OK).await;
    let routes = route(&[backend.address], "").replace("\"*\"\nor", "\"other\"\nor");
    let folder = TempDir::new();
    folder.write("404.html", page);
    let file = folder.path().join("404.html");
    let pages = format!("[error_pages]\n404 = \"{}\"\n", file.display());
    let proxy = http2_proxy(&format!("{pages}{routes}")).await;
    let mut client = Http2Client::connect(&Client::new(&proxy).await).await;
    let (response, body) = client.get("/").await;
    assert_eq!((response.status().as_u16(), &body[..]), (404, page.as_bytes()));
    assert_eq!(response.headers()["content-length"], page.len().to_string());
}

#[tokio::test]
async fn rejections_beyond_the_limit_are_delayed() {
    let backend = Backend::app(OK).await;
    let routes = route(&[backend.address], "").replace("\"*\"\nor", "\"other\"\nor");
    let proxy = http2_proxy(&routes).await;
    let mut client = Http2Client::connect(&Client::new(&proxy).await).await;
    let started = Instant::now();
    for _ in 0..230 {
        assert_eq!(client.get("/").await.0.status(), StatusCode::NOT_FOUND);
    }
    // 200 at once, and 50 a second.
    assert!(started.elapsed() > Duration::from_millis(500), "{:?}", started.elapsed());
}
