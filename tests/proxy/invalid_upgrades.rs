//! Rejected upgrade requests, as raw bytes.

use crate::support::head::{assert_rejected, get, replacing, to_cases, with_lines};
use crate::support::{Backend, Client, HANDSHAKE, Proxy, route};

/// Sends each to a route that serves only WebSockets, and expects a 426.
async fn assert_websocket_required(cases: &[String]) {
    let backend = Backend::echo().await;
    let proxy = Proxy::start(&route(&[backend.address], "http = false")).await;
    let client = Client::new(&proxy).await;
    for (number, sent) in cases.iter().enumerate() {
        let response = client.request(sent.as_bytes()).await;
        assert_eq!(response.status, 426, "{sent:?} got {response:?}");
        // RFC 9110 15.5.22 and 7.8.
        assert_eq!(response.header("upgrade"), Some("websocket"));
        assert!(response.all("connection").contains("upgrade"), "{response:?}");
        let record = proxy.nth_end_record(number + 1).await;
        assert_eq!(
            (&record["end"], &record["key"]),
            (&"not_websocket".into(), &"route.http".into())
        );
    }
    assert_eq!(backend.heads(), Vec::<String>::new());
}

// Requirements: UH01.
#[tokio::test]
async fn upgrade_with_another_method_is_405() {
    let method = |name| HANDSHAKE.replacen("GET", name, 1);
    let cases = to_cases(["POST", "PUT", "HEAD", "DELETE", "FOO"].map(method), 405, "method");
    assert_rejected(cases).await;
}

// Requirements: UH02, UH06.
#[tokio::test]
async fn malformed_upgrade_is_400() {
    let cases = to_cases(
        [
            replacing("Connection", ""),
            replacing("Connection", "Connection: keep-alive"),
            replacing("Upgrade", "Upgrade: websocket/13"),
        ],
        400,
        "handshake_invalid",
    );
    assert_rejected(cases).await;
}

// Requirements: UH03, UH04, RL03.
#[tokio::test]
async fn plain_requests_get_426_on_websocket_routes() {
    assert_websocket_required(&[
        replacing("Upgrade", ""),
        replacing("Upgrade", "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__"),
        replacing("Upgrade", "Upgrade: TLS/1.0"),
        replacing("Upgrade", "Upgrade: foo, bar"),
        HANDSHAKE.replacen("HTTP/1.1", "HTTP/1.0", 1),
        get("/"),
    ])
    .await;
}

// Requirements: UH08.
#[tokio::test]
async fn unsupported_websocket_version_is_426() {
    let version = |line: &str| replacing("Sec-WebSocket-Version", line);
    let others = ["8", "12", "14", "013", "+13", "13, 8", "13;", "", "13 13"];
    let mut heads: Vec<String> =
        others.iter().map(|other| version(&format!("Sec-WebSocket-Version: {other}"))).collect();
    heads.push(version(""));
    let backend = Backend::echo().await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    let response = client.request(heads[0].as_bytes()).await;
    assert_eq!(response.header("sec-websocket-version"), Some("13"));
    assert_eq!(response.header("upgrade"), Some("websocket"));
    heads.push(version("Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 8"));
    assert_rejected(to_cases(heads, 426, "version")).await;
}

// Requirements: UH09.
#[tokio::test]
async fn invalid_websocket_key_is_400() {
    let keys = [
        "",
        "Sec-WebSocket-Key:",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key:",
        "Sec-WebSocket-Key: dGhl IHNhbXBsZSBub25jZQ=",
    ];
    let mut heads = keys.map(|line| replacing("Sec-WebSocket-Key", line)).to_vec();
    let long = "A".repeat(1024);
    heads.push(replacing("Sec-WebSocket-Key", &format!("Sec-WebSocket-Key: {long}")));
    assert_rejected(to_cases(heads, 400, "handshake_invalid")).await;
}

// Requirements: UH11.
#[tokio::test]
async fn rejects_upgrades_with_a_body() {
    let mut cases = to_cases(
        [
            with_lines("Content-Length: 5") + "hello",
            with_lines("Content-Length: 5\r\nContent-Length: 5") + "hello",
            with_lines("Content-Length: 00") + "hello",
            with_lines("Transfer-Encoding: chunked") + "5\r\nhello\r\n0\r\n\r\n",
        ],
        400,
        "handshake_invalid",
    );
    cases.extend(to_cases(
        [with_lines("Content-Length: 0\r\nTransfer-Encoding: chunked") + "0\r\n\r\n"],
        400,
        "request_invalid",
    ));
    assert_rejected(cases).await;
}

// Requirements: UH22, UH24, UH25.
#[tokio::test]
async fn rejects_invalid_subprotocol_and_extension_lists() {
    let protocols = ["\u{e9}", "a, b\tc"];
    let mut heads =
        protocols.map(|list| with_lines(&format!("Sec-WebSocket-Protocol: {list}"))).to_vec();
    let extensions = [";", "a;", "a;b=", "a b", "a;b=\"c", "a;b=\"c d\"", "a=1", "a/b"];
    heads.extend(extensions.map(|list| with_lines(&format!("Sec-WebSocket-Extensions: {list}"))));
    heads.push(with_lines(&format!("Sec-WebSocket-Extensions: a{}", ", a".repeat(999))));
    heads.push(with_lines(&format!("Sec-WebSocket-Extensions: a{}", ", a".repeat(16))));
    assert_rejected(to_cases(heads, 400, "handshake_invalid")).await;
}
