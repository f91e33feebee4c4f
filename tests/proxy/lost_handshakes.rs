//! Plain requests that were meant as handshakes: a proxy in front has changed them. They are forwarded as
//! they are, and the log says what is wrong with them.

use crate::support::{Backend, Client, HANDSHAKE, Proxy, Record, route};

/// Requests that name the path `/ws`, and what the log says about them.
fn lost() -> [(String, &'static str); 3] {
    let without_upgrade = HANDSHAKE.replace("Upgrade: websocket\r\n", "");
    // The default of nginx.
    let stripped = without_upgrade.replace("Connection: Upgrade", "Connection: close");
    [
        (HANDSHAKE.replace("HTTP/1.1", "HTTP/1.0"), "handshake with HTTP/1.0"),
        (without_upgrade, "handshake without Upgrade"),
        (stripped.replace("HTTP/1.1", "HTTP/1.0"), "handshake with HTTP/1.0 and without Upgrade"),
    ]
}

fn is_warning(record: &Record) -> bool {
    record["message"].as_str().is_some_and(|text| text.starts_with("WebSocket handshake arrived"))
}

// Requirements: UH41.
#[tokio::test]
async fn lost_handshake_is_forwarded_and_logged() {
    for (sent, detail) in lost() {
        let backend =
            Backend::answering("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        let trusted =
            "[trusted_proxies]\naddresses = [\"127.0.0.0/8\"]\nheader = \"x-forwarded-for\"\n";
        let proxy = Proxy::start(&route(&[backend.address], trusted)).await;
        let client = Client::new(&proxy).await;
        let forwarded = sent.replace("\r\n\r\n", "\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n");
        assert_eq!(client.request(forwarded.as_bytes()).await.status, 400);
        assert_eq!(backend.heads().len(), 1, "{detail}");
        let warning = proxy.record(detail, is_warning).await;
        assert_eq!([&warning["level"], &warning["route"]], ["WARN", "all"], "{warning}");
        assert_eq!([&warning["detail"], &warning["client"]], [detail, "203.0.113.9"], "{warning}");
        assert!(warning["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{warning}");
    }
}

// Requirements: UH41.
#[tokio::test]
async fn lost_handshakes_are_logged_once_per_route() {
    let backend = Backend::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let all = route(&[backend.address], "");
    let strict = route(&[backend.address], "path = \"/ws\"\nhttp = false");
    let proxy = Proxy::start(&(all + &strict.replace("\"all\"", "\"strict\""))).await;
    let client = Client::new(&proxy).await;
    // Requests that were not meant as a handshake.
    let plain = "GET /plain HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    for (version, more) in [
        ("1.1", ""),
        ("1.0", ""),
        ("1.0", "Upgrade: h2c\r\n"),
        ("1.1", "Connection: upgrade\r\nUpgrade: h2c\r\nSec-WebSocket-Key: abc\r\n"),
        ("1.1", "Sec-WebSocket-Version: 13\r\n"),
    ] {
        let sent = format!("{}{more}\r\n", plain.replace("1.1", version));
        assert_eq!(client.request(sent.as_bytes()).await.status, 204, "{sent}");
    }
    let deletion = format!("{plain}Sec-WebSocket-Key: abc\r\n\r\n").replace("GET", "DELETE");
    assert_eq!(client.request(deletion.as_bytes()).await.status, 204);
    for _ in 0..2 {
        for (sent, _) in lost() {
            let elsewhere = sent.replace("/ws", "/plain");
            assert_eq!(client.request(elsewhere.as_bytes()).await.status, 204);
            assert_eq!(client.request(sent.as_bytes()).await.status, 426);
        }
        proxy.reload().await;
    }
    let warnings: Vec<_> = proxy.records().into_iter().filter(is_warning).collect();
    let routes: Vec<_> =
        warnings.iter().map(|warning| warning["route"].as_str().unwrap()).collect();
    assert_eq!(routes, ["all", "strict"], "{warnings:#?}");
    assert_eq!(warnings[0]["detail"], "handshake with HTTP/1.0");
}
