//! Request heads that are rejected: each gets a status and one record, and reaches no backend.

use tokio::io::{AsyncWriteExt, BufReader};

use crate::support::head::{assert_rejected, get, replacing, to_cases, with_lines};
use crate::support::{Backend, Client, Proxy, read_response, read_to_end, route};

// Requirements: RL01, RL02, RL04, RL06, RL07, RL08.
#[tokio::test]
async fn rejects_malformed_request_lines() {
    let mut cases = to_cases(
        [
            "garbage\r\n\r\n",
            "GET /\r\n\r\n",
            "GET / HTTP/1.2\r\nHost: localhost\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: localhost\r\n\r\n",
            "GET / http/1.1\r\nHost: localhost\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "GE\x01T / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ]
        .map(String::from),
        400,
        "head_invalid",
    );
    cases.extend(to_cases(
        [
            "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
            "TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ]
        .map(String::from),
        405,
        "method",
    ));
    let long = "A".repeat(1024);
    cases.extend(to_cases([get("/").replacen("GET", &long, 1)], 400, "request_invalid"));
    assert_rejected(cases).await;
}

// Requirements: RL05.
#[tokio::test]
async fn rejects_the_http2_preface() {
    let backend = Backend::echo().await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let mut stream = Client::new(&proxy).await.connect_plain().await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let answered = read_to_end(&mut stream).await;
    assert!(answered.is_empty() || answered.starts_with(b"HTTP/1.1 400"));
    drop(stream);
    proxy.end_record("head_invalid").await;
    assert_eq!(backend.heads(), Vec::<String>::new());
}

// Requirements: RL09, RL10, RL14.
#[tokio::test]
async fn rejects_invalid_targets() {
    let mut cases = to_cases([get(&format!("/{}", "a".repeat(16 << 10)))], 414, "uri_too_long");
    cases.extend(to_cases(
        ["/a b", "/a\x01", "/a\0", "/a\x7f", "http:///a"].map(get),
        400,
        "head_invalid",
    ));
    cases.extend(to_cases(
        [
            "/a\u{e9}",
            "/a\\b",
            "a",
            "a:80",
            "*",
            "ftp://localhost/",
            "wsx://localhost/",
            "http://u@localhost/",
            "http://u:p@localhost/",
            "http://localhost:99999/",
        ]
        .map(get),
        400,
        "request_invalid",
    ));
    assert_rejected(cases).await;
}

// Requirements: RL13, RL15, RL16, RL17, RL19.
#[tokio::test]
async fn rejects_invalid_and_unknown_hosts() {
    let host = |lines: &str| replacing("Host", lines);
    let mut cases = to_cases(
        [
            "",
            "Host: localhost\r\nHost: localhost",
            "Host: localhost\r\nX: y\r\nhost: evil",
            "Host:",
            "Host: u@localhost",
            "Host: localhost/x",
            "Host: localhost:99999",
            "Host: localhost:0",
            "Host: localhost, evil",
            "Host: local host",
            "Host: [::1",
            "Host: [::1%25lo]",
            "Host: ::1",
            "Host: localhost:80:80",
            "Host: \u{e9}",
        ]
        .map(host),
        400,
        "request_invalid",
    );
    // With an absolute target `Host` is ignored, but it must still be valid.
    cases.extend(to_cases(
        ["GET http://localhost/ HTTP/1.1\r\nHost: u@a/b\r\n\r\n".to_owned()],
        400,
        "request_invalid",
    ));
    cases.extend(to_cases(
        ["evil", "localhost.evil", "127.0.0.1", "[::1]", "local-host"]
            .map(|name| host(&format!("Host: {name}\r\nConnection: close"))),
        404,
        "no_route",
    ));
    cases.extend(to_cases(
        ["GET http://evil/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned()],
        404,
        "no_route",
    ));
    assert_rejected(cases).await;
}

// Requirements: RL20, RL23.
#[tokio::test]
async fn rejects_malformed_field_lines() {
    let lines = [
        "X: a\rb",
        "X: a\0b",
        "X: a\x01b",
        "X: a\x7fb",
        "X : a",
        "X",
        ": a",
        " X: a",
        "X\x01: a",
        "X\u{e9}: a",
        "X: a\r\n b",
        "X: a\r\n\tb",
    ];
    assert_rejected(to_cases(lines.map(with_lines), 400, "head_invalid")).await;
}

// Requirements: RL29, RL30, RL31.
#[tokio::test]
async fn rejects_ambiguous_body_framing() {
    let post = |lines: &str| {
        format!("POST / HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n\r\n0\r\n\r\n{}", get("/evil"))
    };
    let mut cases = to_cases(
        [
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "content-length: 0\r\ntransfer-encoding: CHUNKED",
            "CONTENT-LENGTH:5\r\nX: y\r\nTransfer-Encoding:\tchunked ",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked, chunked",
        ]
        .map(post),
        400,
        "request_invalid",
    );
    cases.extend(to_cases(
        [
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: 5, 6",
            "Content-Length: +5",
            "Content-Length: -5",
            "Content-Length: 0x5",
            "Content-Length: 5 5",
            "Content-Length:",
            "Content-Length: 18446744073709551616",
            "Transfer-Encoding: gzip",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: chunked, identity",
        ]
        .map(post),
        400,
        "head_invalid",
    ));
    cases.extend(to_cases(
        [post("Transfer-Encoding: chunked")
            .replace("HTTP/1.1\r\nHost: localhost\r\nTr", "HTTP/1.0\r\nHost: localhost\r\nTr")],
        400,
        "head_invalid",
    ));
    assert_rejected(cases).await;
}

// Requirements: RL36, RL37, RL41, RL42, RL43.
#[tokio::test]
async fn rejects_expectations_nominations_and_loops() {
    let mut cases =
        to_cases([with_lines("Expect: 100-continue"), with_lines("Expect: foo")], 417, "expect");
    cases.extend(to_cases(
        [get("/").replace("\r\n\r\n", "\r\nExpect: foo\r\n\r\n")],
        417,
        "expect",
    ));
    let nominated = |name| replacing("Connection", &format!("Connection: Upgrade, {name}"));
    cases.extend(to_cases(
        [
            "X-Forwarded-For",
            "x-forwarded-host",
            "Host",
            "Origin",
            "Cookie",
            "Authorization",
            "Via",
            "CDN-Loop",
            "Forwarded",
            "Sec-WebSocket-Key",
            "sec-websocket-extensions",
            "a b",
            "a\"",
        ]
        .map(nominated),
        400,
        "request_invalid",
    ));
    let many = replacing("Connection", &format!("Connection: Upgrade{}", ", a".repeat(1000)));
    cases.extend(to_cases([many], 400, "request_invalid"));
    cases.extend(to_cases(
        ["CDN-Loop: tidegate, a, TIDEGATE", "CDN-Loop: tidegate\r\nCDN-Loop: tidegate; x=1"]
            .map(with_lines),
        508,
        "loop",
    ));
    assert_rejected(cases).await;
}

// Requirements: RL46.
#[tokio::test]
async fn records_locate_the_mistake() {
    let backend = Backend::echo().await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    let with = |line: &str| get("/").replace("\r\n\r\n", &format!("\r\n{line}\r\n\r\n"));
    let large = format!("Cookie: secret={}", "c".repeat(64 * 1024));
    let cases = [
        (
            with("X-Sensor: \u{1}secret"),
            400,
            "header line 2: invalid byte 0x01 at position 2 of the value of \"X-Sensor\"",
        ),
        (
            with("X Sensor: secret"),
            400,
            "header line 2: invalid byte 0x20 at position 2 of the name",
        ),
        (with("X-Sensor secret"), 400, "header line 2 has no colon"),
        (with("X: a\nsecret; b"), 400, "header line 3 has no colon"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5x\r\n\r\n{secret b c".to_owned(),
            400,
            "content-length",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\nsecret: b c".to_owned(),
            400,
            "transfer-encoding",
        ),
        (get("/?a=<b>"), 400, "or with a character that must be percent-encoded"),
        (get("/a b"), 400, "request line with 3 spaces instead of method, target, version"),
        (
            get("/").replace("1.1", "1.2"),
            400,
            "request line: \"HTTP/1.2\" is not HTTP/1.1 or HTTP/1.0",
        ),
        (with(&large), 431, "; its largest header field is \"Cookie\" with "),
        (with(&["X: secret"; 200].join("\r\n")), 431, " header fields"),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n\r\n".to_owned(), 400, "proxy_protocol = true"),
    ];
    for (n, (sent, status, detail)) in cases.into_iter().enumerate() {
        let mut stream = BufReader::new(client.connect_plain().await);
        // The proxy may close before it has read everything.
        let _ = stream.write_all(sent.as_bytes()).await;
        assert_eq!(read_response(&mut stream).await.status, status, "{detail}");
        drop(stream);
        let record = proxy.nth_end_record(n + 1).await;
        assert_eq!((&record["end"], &record["event"]), (&"head_invalid".into(), &"dropped".into()));
        assert!(record["detail"].as_str().unwrap().contains(detail), "{record}");
        assert!(!record.to_string().contains("secret"), "{record}");
    }
    // A request on a kept connection is recorded as well.
    let backend = Backend::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let mut stream = BufReader::new(Client::new(&proxy).await.connect_plain().await);
    stream.write_all((get("/") + &with("X Y: z")).as_bytes()).await.unwrap();
    assert_eq!(read_response(&mut stream).await.status, 204);
    assert_eq!(read_response(&mut stream).await.status, 400);
    let record = proxy.end_record("head_invalid").await;
    assert!(record["detail"].as_str().unwrap().contains("invalid byte 0x20"), "{record}");
}

/// A browser that opens `wss://` or `https://` on a plain listener.
// Requirements: RL46.
#[tokio::test]
async fn tls_on_a_plain_listener_is_named() {
    let proxy = Proxy::start(&route(&["127.0.0.1:9".parse().unwrap()], "")).await;
    let client = Client::new(&proxy).await;
    assert!(client.tls_over(client.connect_plain().await).await.is_err());
    let record = proxy.end_record("head_invalid").await;
    assert!(record["detail"].as_str().unwrap().starts_with("TLS on a plain listener"), "{record}");
}
