//! Accepted WebSocket handshakes: which parts of the client's head reach the backend, and what the
//! 101 returns.

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::support::head::{replacing, with_lines};
use crate::support::{
    Backend, Client, HANDSHAKE, Proxy, RawResponse, read_response, read_to_end, route,
    switching_protocols, within_timeout,
};

/// A backend that accepts handshakes and records the request heads as received.
async fn recording_backend() -> Backend {
    Backend::raw_tunnel(|mut stream, _| async move {
        read_to_end(&mut stream).await;
    })
    .await
}

/// Sends a handshake; returns the one head the backend received, and the client's response.
async fn forwarded_head(sent: &str, more: &str) -> (String, RawResponse) {
    let backend = recording_backend().await;
    let proxy = Proxy::start(&route(&[backend.address], more)).await;
    let response = Client::new(&proxy).await.request(sent.as_bytes()).await;
    assert_eq!(response.status, 101, "{response:?}");
    let [head] = backend.heads().try_into().unwrap();
    (head, response)
}

/// The values of a field in a raw head, in order of appearance.
fn values<'h>(head: &'h str, name: &str) -> Vec<&'h str> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let lines = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name));
    lines.map(|(_, value)| value.trim()).collect()
}

// Requirements: W13, H5, H8.
#[tokio::test]
async fn accept_matches_the_client_key() {
    let (head, response) = forwarded_head(HANDSHAKE, "").await;
    // The key and accept value of RFC 6455 1.3.
    assert_eq!(response.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(response.header("upgrade"), Some("websocket"));
    assert_eq!(response.header("connection"), Some("Upgrade"));
    assert_eq!(response.header("content-length"), None);
    assert_eq!(response.header("transfer-encoding"), None);
    assert!(head.starts_with("GET /ws HTTP/1.1\r\n"), "{head}");
    assert_eq!(values(&head, "sec-websocket-key"), ["dGhlIHNhbXBsZSBub25jZQ=="]);
    assert_eq!(values(&head, "sec-websocket-version"), ["13"]);
    assert_eq!(values(&head, "upgrade"), ["websocket"]);
    assert_eq!(values(&head, "connection"), ["Upgrade"]);
    assert_eq!(values(&head, "host"), ["localhost"]);
}

// Requirements: W2, W3.
#[tokio::test]
async fn accepts_the_headers_firefox_sends() {
    let sent = HANDSHAKE
        .replace("Upgrade: websocket", "upgrade: WebSocket")
        .replace("Connection: Upgrade", "connection: keep-alive\r\nCONNECTION: foo, uPGRADE");
    let (head, _) = forwarded_head(&sent, "").await;
    assert_eq!(values(&head, "connection"), ["Upgrade"]);
}

// Requirements: H20, H21, H18, H19.
#[tokio::test]
async fn application_headers_and_target_pass_unchanged() {
    let target = "/a%2Fb/../c;x/%7e//?y=%00z&token=s3cret&%&q=\\^`{|}'";
    let sent = with_lines(
        "Authorization: Bearer a.b-c_d==\r\nCookie: a=1; b=\"2\"\r\nX-Custom:  \t two  words \t\r\n\
         Cookie: c=3\r\nOrigin: https://Ex.ample:443\r\nUser-Agent: Zo\u{eb}\r\nX-Empty:\r\n\
         Accept-Encoding: gzip;q=0\r\nIf-None-Match: W/\"x\"\r\nRange: bytes=0-",
    )
    .replacen("/ws", target, 1);
    let (head, _) = forwarded_head(&sent, "").await;
    assert!(head.starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{head}");
    assert_eq!(values(&head, "authorization"), ["Bearer a.b-c_d=="]);
    assert_eq!(values(&head, "cookie"), ["a=1; b=\"2\"", "c=3"]);
    assert_eq!(values(&head, "x-custom"), ["two  words"]);
    assert_eq!(values(&head, "origin"), ["https://Ex.ample:443"]);
    assert_eq!(values(&head, "user-agent"), ["Zo\u{eb}"]);
    assert_eq!(values(&head, "x-empty"), [""]);
    assert_eq!(values(&head, "accept-encoding"), ["gzip;q=0"]);
    assert_eq!(values(&head, "if-none-match"), ["W/\"x\""]);
    assert_eq!(values(&head, "range"), ["bytes=0-"]);
}

// Requirements: H1, H2.
#[tokio::test]
async fn hop_by_hop_headers_are_removed() {
    let sent = with_lines(
        "X-A: 1\r\nX-B: 2\r\nx-a: 3\r\nKeep-Alive: 5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\n\
         HTTP2-Settings: AAMA\r\nTrailer: X\r\nProxy-Authorization: Basic eDp5\r\nX-C: stays",
    )
    .replacen("Connection: Upgrade", "Connection: x-A, Upgrade\r\nConnection: keep-alive, X-b", 1);
    let (head, _) = forwarded_head(&sent, "").await;
    for name in [
        "x-a",
        "x-b",
        "keep-alive",
        "proxy-connection",
        "te",
        "http2-settings",
        "trailer",
        "proxy-authorization",
    ] {
        assert_eq!(values(&head, name), [""; 0], "{name} in {head}");
    }
    assert_eq!(values(&head, "x-c"), ["stays"]);
}

// Requirements: XF01, XF06, XF07, RL24.
#[tokio::test]
async fn forwarding_headers_from_clients_are_replaced() {
    let sent = with_lines(
        "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n\
         X-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /evil\r\nX-Forwarded-Client-Cert: evil\r\n\
         Forwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nTrue-Client-IP: 6.6.6.6\r\n\
         CF-Connecting-IP: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nX-Forwarded_For: 6.6.6.6\r\n\
         X_Auth_User: root\r\nProxy: http://evil\r\nEarly-Data: 1\r\nVia: 1.0 before",
    );
    let (head, _) = forwarded_head(&sent, "").await;
    assert_eq!(values(&head, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(values(&head, "x-forwarded-proto"), ["http"]);
    assert_eq!(values(&head, "x-forwarded-host"), ["localhost"]);
    assert_eq!(values(&head, "via"), ["1.0 before"]);
    assert_eq!(values(&head, "cdn-loop"), ["tidegate"]);
    for trace in ["6.6.6.6", "evil", "root", "early-data", "_"] {
        assert!(!head.to_lowercase().contains(trace), "{trace} in {head}");
    }
}

#[tokio::test]
async fn forwarded_scheme_is_https_over_tls() {
    let backend = recording_backend().await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    client.open("/ws").await;
    let heads = backend.heads();
    assert_eq!(values(&heads[0], "x-forwarded-proto"), ["https"]);
}

// Requirements: RL13, RL18.
#[tokio::test]
async fn equivalent_hosts_match_and_absolute_target_wins() {
    let backend = recording_backend().await;
    let config = route(&[backend.address], "").replace("host = \"*\"", "host = \"chat.example\"");
    let proxy = Proxy::start(&config).await;
    let client = Client::new(&proxy).await;
    for host in
        ["chat.example", "CHAT.Example", "chat.example.", "chat.example:80", "chat.example:"]
    {
        let sent = HANDSHAKE.replace("localhost", host);
        assert_eq!(client.request(sent.as_bytes()).await.status, 101, "{host}");
        assert_eq!(values(backend.heads().last().unwrap(), "host"), [host]);
    }
    let sent = HANDSHAKE.replacen("/ws", "http://chat.example:8080/ws?x", 1);
    assert_eq!(client.request(sent.as_bytes()).await.status, 101);
    let head = backend.heads().pop().unwrap();
    assert!(head.starts_with("GET /ws?x HTTP/1.1\r\n"), "{head}");
    assert_eq!(values(&head, "host"), ["chat.example:8080"]);
    assert_eq!(values(&head, "x-forwarded-host"), ["chat.example:8080"]);
}

// Requirements: H41, RL21, RL22.
#[tokio::test]
async fn bare_line_feeds_become_crlf() {
    let sent = format!("{}{}", "\r\n".repeat(100), HANDSHAKE.replace("\r\n", "\n"));
    let (head, _) = forwarded_head(&sent, "").await;
    assert_eq!(head.matches('\n').count(), head.matches("\r\n").count());
    // An absolute target with an empty path, and a path that starts with two slashes.
    let (head, _) = forwarded_head(&HANDSHAKE.replacen("/ws", "http://localhost", 1), "").await;
    assert!(head.starts_with("GET / HTTP/1.1\r\n"), "{head}");
    let (head, _) = forwarded_head(&HANDSHAKE.replacen("/ws", "//evil/x", 1), "").await;
    assert!(head.starts_with("GET //evil/x HTTP/1.1\r\n"), "{head}");
}

// Requirements: RL45, UH10.
#[tokio::test]
async fn accepts_large_cookies_and_empty_body() {
    let cookie = format!("a={}", "b".repeat(8 * 1024));
    let (head, _) =
        forwarded_head(&with_lines(&format!("Cookie: {cookie}\r\nContent-Length: 0")), "").await;
    assert_eq!(values(&head, "cookie"), [cookie]);
    assert_eq!(values(&head, "content-length"), [""; 0]);
}

// Requirements: W9, W10.
#[tokio::test]
async fn backend_chooses_the_subprotocol() {
    let backend = Backend::echo().await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    let sent = with_lines("Sec-WebSocket-Protocol: chat.v2, chat.v1\r\nSec-WebSocket-Protocol: x");
    let response = client.request(sent.as_bytes()).await;
    assert_eq!(
        (response.status, response.header("sec-websocket-protocol")),
        (101, Some("chat.v2"))
    );
    assert!(backend.heads()[0].contains("sec-websocket-protocol: chat.v2, chat.v1, x\n"));
    // Without an offer no subprotocol is selected.
    let response = client.request(HANDSHAKE.as_bytes()).await;
    assert_eq!((response.status, response.header("sec-websocket-protocol")), (101, None));
}

// Requirements: W14, UH26, UH27.
#[tokio::test]
async fn extension_offers_follow_the_compression_setting() {
    let lines = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
                 Sec-WebSocket-Extensions: x-odd; a=\"b\", permessage-deflate;server_max_window_bits=7";
    let (head, response) = forwarded_head(&with_lines(lines), "compression = \"strip\"").await;
    assert_eq!(values(&head, "sec-websocket-extensions"), [""; 0]);
    assert_eq!(response.header("sec-websocket-extensions"), None);
    // Several lines form one list (RFC 6455 11.3.2).
    let offered =
        "permessage-deflate; client_max_window_bits, permessage-deflate; server_max_window_bits=7";
    for mode in ["pass", "inspect"] {
        let setting = format!("compression = \"{mode}\"");
        let (head, response) = forwarded_head(&with_lines(lines), &setting).await;
        assert_eq!(values(&head, "sec-websocket-extensions"), [offered]);
        assert_eq!(response.header("sec-websocket-extensions"), None);
    }
}

#[tokio::test]
async fn concurrent_handshakes_do_not_mix() {
    let backend = Backend::echo().await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    let all = (0..40).map(|number| {
        let client = &client;
        async move {
            let mut socket = client.open(&format!("/{number}")).await;
            let sent = Message::text(format!("I am {number}"));
            socket.send(sent.clone()).await.unwrap();
            assert_eq!(within_timeout("the echo", socket.next()).await.unwrap().unwrap(), sent);
        }
    });
    let mut all: futures_util::stream::FuturesUnordered<_> = all.collect();
    while all.next().await.is_some() {}
    assert_eq!(backend.heads().len(), 40);
}

#[tokio::test]
async fn ipv6_clients_are_reported() {
    // Skipped on machines without IPv6.
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let backend = recording_backend().await;
    let proxy = Proxy::start_bare(&format!(
        "[log]\nformat = \"json\"\nlevel = \"debug\"\n[admin]\nenabled = false\n\
         [[listener]]\nname = \"six\"\naddress = \"[::1]:0\"\ntls = false\n\
         [[listener]]\nname = \"four\"\naddress = \"127.0.0.1:0\"\ntls = false\n{}",
        route(&[backend.address], "[route.limits]\nclose_grace = \"50ms\"")
    ))
    .await;
    for (listener, address, key) in [("six", "::1", "::/64"), ("four", "127.0.0.1", "127.0.0.1")] {
        let listening = proxy.address(listener).await;
        let mut stream = BufReader::new(TcpStream::connect(listening).await.unwrap());
        stream
            .write_all(HANDSHAKE.replace("localhost", &listening.to_string()).as_bytes())
            .await
            .unwrap();
        assert_eq!(read_response(&mut stream).await.status, 101);
        drop(stream);
        let head = backend.heads().pop().unwrap();
        assert_eq!(values(&head, "x-forwarded-for"), [address]);
        assert_eq!(values(&head, "host"), [listening.to_string()]);
        let record = proxy
            .record("the end", |record| {
                record["event"] == "ended" && record["listener"] == listener
            })
            .await;
        assert_eq!(record["client_key"], key);
    }
}

// Requirements: UH37.
#[tokio::test]
async fn query_credentials_are_redacted_in_records() {
    let backend = recording_backend().await;
    let limits = "[route.limits]\nclose_grace = \"50ms\"";
    let proxy = Proxy::start(&route(&[backend.address], limits)).await;
    let client = Client::new(&proxy).await;
    let target = "/ws?a=1&token=s3cret&%74oken=s3cret&SID=s3cret&access_token=s3cret=s3cret";
    let shown =
        "/ws?a=1&token=[redacted]&%74oken=[redacted]&SID=[redacted]&access_token=[redacted]";
    let refused = HANDSHAKE.replacen("/ws", target, 1).replace(": 13", ": 8");
    assert_eq!(client.request(refused.as_bytes()).await.status, 426);
    assert_eq!(proxy.end_record("version").await["target"], shown);
    assert_eq!(client.request(HANDSHAKE.replacen("/ws", target, 1).as_bytes()).await.status, 101);
    assert_eq!(proxy.end_record("client_disconnected").await["target"], shown);
    // The backend receives the target unredacted.
    assert!(backend.heads()[0].starts_with(&format!("GET {target} ")));
    let records = proxy.records();
    assert!(!records.iter().any(|record| record.to_string().contains("s3cret")), "{records:#?}");
}

#[tokio::test]
async fn control_characters_are_escaped_in_records() {
    let backend = recording_backend().await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    // C1 controls, a direction override and a line separator are valid bytes of a field value.
    let sent = with_lines("Origin: \u{9b}31m\u{85}\u{202e}\u{2028}x\"y\\z");
    assert_eq!(client.request(sent.as_bytes()).await.status, 400);
    let sent = HANDSHAKE.replace("localhost", "\u{9b}31m\u{202e}");
    assert_eq!(client.request(sent.as_bytes()).await.status, 400);
    for n in [1, 2] {
        let record = proxy.nth_end_record(n).await;
        for field in ["origin", "host", "target", "detail"] {
            let text = record[field].as_str().unwrap_or_default();
            assert!(text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '), "{text:?}");
            assert!(text.len() < 400);
        }
    }
}

/// What RFC 6455 does not allow, but existing clients send and their servers accept: the backend judges it.
// Requirements: H10, UH05, UH07, UH09, UH22.
#[tokio::test]
async fn odd_handshakes_reach_the_backend() {
    let backend = Backend::raw(|head, mut stream, _| async move {
        stream.write_all(switching_protocols(&head).as_bytes()).await.unwrap();
        read_to_end(&mut stream).await;
    })
    .await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    for (sent, name, value) in [
        (replacing("Sec-WebSocket-Key", "Sec-WebSocket-Key: abc"), "sec-websocket-key", "abc"),
        (
            replacing("Sec-WebSocket-Key", "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEC=="),
            "sec-websocket-key",
            "AQIDBAUGBwgJCgsMDQ4PEC==",
        ),
        (replacing("Upgrade", "Upgrade: h2c, WebSocket"), "upgrade", "websocket"),
        (replacing("Upgrade", "Upgrade: websocket\r\nUpgrade: h2c"), "upgrade", "websocket"),
        (
            with_lines("Sec-WebSocket-Protocol: ogmios.v1:compact, a b, c=="),
            "sec-websocket-protocol",
            "ogmios.v1:compact, a b, c==",
        ),
        (HANDSHAKE.replacen(" /ws", " ws://other.example/ws", 1), "host", "other.example"),
        (HANDSHAKE.replacen(" /ws", " WSS://other.example/ws", 1), "host", "other.example"),
    ] {
        let response = client.request(sent.as_bytes()).await;
        assert_eq!(response.status, 101, "{sent:?}: {response:?}");
        let head = backend.heads().pop().unwrap();
        assert!(head.starts_with("GET /ws HTTP/1.1\r\n"), "{head}");
        assert_eq!(RawResponse { status: 0, head }.all(name), value, "{sent:?}");
    }
}
