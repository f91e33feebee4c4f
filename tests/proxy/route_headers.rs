//! Header rules of a route, for requests and for responses, including the 101.

use tokio::io::{AsyncWriteExt, BufReader};

use crate::support::head::{get, with_lines};
use crate::support::{
    Backend, Client, Proxy, RawResponse, Record, exchange, read_response, read_to_end, route,
    switching_protocols,
};

const RULES: &str = "\
    [route.request_headers]\nremove = [\"X-Debug\", \"Cookie\"]\n\
    set = [\"X-Env: prod\", \"User-Agent: none\"]\n\
    [route.response_headers]\nremove = [\"Server\"]\n\
    set = [\"Strict-Transport-Security: max-age=1\", \"X-App: chat\"]\n";

const LINES: &str = "X-Debug: 1\r\nx-debug: 2\r\nCookie: a=1\r\nX-Env: mine\r\nX-Env: again\r\n\
    User-Agent: test\r\nX-Own: 1";

/// A backend that upgrades, rejects the upgrade or responds, always with extra fields.
async fn backend_with_extra_fields() -> Backend {
    Backend::raw(|head, mut stream, _| async move {
        let more = "Server: app/1\r\nX-App: old\r\nSet-Cookie: a=1\r\n";
        let response = if head.starts_with("GET /no ") {
            format!("HTTP/1.1 403 Forbidden\r\n{more}Content-Length: 0\r\n\r\n")
        } else if head.to_ascii_lowercase().contains("sec-websocket-key") {
            switching_protocols(&head).replacen("\r\n", &format!("\r\n{more}"), 1)
        } else {
            format!("HTTP/1.1 200 OK\r\n{more}Content-Length: 2\r\n\r\nok")
        };
        stream.write_all(response.as_bytes()).await.unwrap();
        if response.contains(" 101 ") {
            read_to_end(&mut stream).await;
        }
    })
    .await
}

fn assert_response_rules(response: &RawResponse) {
    assert_eq!(response.header("server"), None, "{response:?}");
    assert_eq!(response.all("x-app"), "chat");
    assert_eq!(response.all("strict-transport-security"), "max-age=1");
    assert_eq!(response.all("set-cookie"), "a=1");
}

#[tokio::test]
async fn route_rules_change_request_and_response_headers() {
    let backend = backend_with_extra_fields().await;
    let proxy = Proxy::start(&route(&[backend.address], RULES)).await;
    let client = Client::new(&proxy).await;

    let mut stream = BufReader::new(client.connect_plain().await);
    let request = get("/").replace("\r\n\r\n", &format!("\r\n{LINES}\r\n\r\n"));
    let (answer_plain, body) = exchange(&mut stream, &request).await;
    assert_eq!((answer_plain.status, &body[..]), (200, &b"ok"[..]));
    assert_response_rules(&answer_plain);

    let refused = client.request(with_lines(LINES).replace("/ws", "/no").as_bytes()).await;
    assert_eq!(refused.status, 403);
    assert_response_rules(&refused);

    let mut stream = BufReader::new(client.connect_plain().await);
    stream.write_all(with_lines(LINES).as_bytes()).await.unwrap();
    let upgraded = read_response(&mut stream).await;
    assert_eq!((upgraded.status, upgraded.header("upgrade")), (101, Some("websocket")));
    assert_eq!(upgraded.header("connection"), Some("Upgrade"));
    assert_eq!(upgraded.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_response_rules(&upgraded);

    for head in backend.heads() {
        let received = RawResponse { status: 0, head };
        assert_eq!(
            (received.header("x-debug"), received.header("cookie")),
            (None, None),
            "{received:?}"
        );
        assert_eq!((&*received.all("x-env"), &*received.all("user-agent")), ("prod", "none"));
        assert_eq!((&*received.all("x-own"), &*received.all("x-real-ip")), ("1", "127.0.0.1"));
    }
}

#[tokio::test]
async fn rules_apply_only_to_backend_responses() {
    let backend = backend_with_extra_fields().await;
    let proxy = Proxy::start(&route(&[backend.address], "")).await;
    let plain = Client::new(&proxy).await.request(get("/").as_bytes()).await;
    assert_eq!((plain.header("server"), &*plain.all("x-app")), (Some("app/1"), "old"));
    assert_eq!(RawResponse { status: 0, head: backend.heads().remove(0) }.header("x-env"), None);

    let only_sockets = format!("http = false\n{RULES}");
    let proxy = Proxy::start(&route(&[backend.address], &only_sockets)).await;
    let refused = Client::new(&proxy).await.request(get("/").as_bytes()).await;
    assert_eq!((refused.status, refused.header("x-app")), (426, None));
}

// Requirements: RL24, RL47.
#[tokio::test]
async fn underscore_headers_are_kept_by_name_and_reported() {
    let backend = Backend::app("HTTP/1.1 204 No Content\r\n\r\n").await;
    let proxy =
        Proxy::start(&route(&[backend.address], "underscore_headers = [\"X_Token\"]")).await;
    let client = Client::new(&proxy).await;
    let lines = "x_token: kept\r\nTransfer_Encoding: x\r\nX_User: dropped\r\nX_Forwarded_For: 6.6.6.6\r\nx_user: again";
    let plain = get("/").replace("\r\n\r\n", &format!("\r\n{lines}\r\n\r\n"));
    for (sent, status) in [(with_lines(lines), 101), (plain.clone(), 204), (plain, 204)] {
        assert_eq!(client.request(sent.as_bytes()).await.status, status);
        let received = RawResponse { status: 0, head: backend.heads().pop().unwrap() };
        assert_eq!(received.all("x_token"), "kept");
        for name in ["transfer_encoding", "x_user", "x_forwarded_for"] {
            assert_eq!(received.header(name), None, "{received:?}");
        }
    }
    let dropped = proxy.scrape().await.value("tidegate_headers_dropped_total", &[("route", "all")]);
    assert_eq!(dropped, 9.0, "three names in each of three requests");
    let record = proxy.tunnel_end(1).await;
    assert_eq!(record["dropped_headers"], "transfer_encoding, x_user, x_forwarded_for");
    let is_message = |record: &Record| {
        record["message"].as_str().is_some_and(|text| text.starts_with("header with an underscore"))
    };
    let message = proxy.record("a log message", is_message).await;
    assert_eq!(message["header"], "x_user", "a name that can be listed: {message}");
    assert_eq!(message["key"], "route.underscore_headers");
    assert_eq!(proxy.records().into_iter().filter(is_message).count(), 1);
    // The names are bounded, and absent if there are none.
    let many: Vec<String> = (0..20).map(|n| format!("a_{n}_{}: 1", "x".repeat(300))).collect();
    drop(client.request(with_lines(&many.join("\r\n")).as_bytes()).await);
    let record = proxy.tunnel_end(2).await;
    let named = record["dropped_headers"].as_str().unwrap();
    assert!(named.len() < 400 && named.ends_with(", 12 more"), "{named}");
    drop(client.request(with_lines("x_token: kept").as_bytes()).await);
    assert!(proxy.tunnel_end(3).await["dropped_headers"].is_null());
}
