//! Limits on the heads of requests and responses, and their keys.

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::head::{assert_rejected, get, to_cases, with_lines};
use crate::support::{BASE, Backend, Client, Proxy, RawResponse, read_response, route};

/// A plain request with these lines.
fn plain(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

/// This many short fields.
fn fields(count: usize) -> String {
    (0..count).map(|n| format!("X-{n}: y\r\n")).collect()
}

/// A field of this many bytes.
fn field(bytes: usize) -> String {
    format!("X: {}\r\n", "y".repeat(bytes - 5))
}

// Requirements: RL25, RL26, H24.
#[tokio::test]
async fn rejects_heads_beyond_size_and_field_limits() {
    let sized = |bytes: usize| plain(&field(bytes - plain("").len()));
    let cases = [
        plain(&fields(100)),
        sized((32 << 10) + 1),
        plain(&field(32 << 10)),
        plain(&format!("{}: y\r\n", "x".repeat(32 << 10))),
        get(&format!("/{}", "a".repeat(32 << 10))),
        with_lines(field(33_000).trim_end()),
        plain(&"A: b\r\n".repeat(1000)),
    ];
    assert_rejected(to_cases(cases, 431, "head_invalid")).await;
    let backend = Backend::app("HTTP/1.1 204 No Content\r\n\r\n").await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    let target = |bytes: usize| get(&format!("/?token={}", "a".repeat(bytes - 8)));
    for valid in [plain(&fields(99)), sized(32 << 10), target(16 << 10)] {
        assert_eq!(client.request(valid.as_bytes()).await.status, 204, "{valid:.100}");
    }
    assert_eq!(client.request(target((16 << 10) + 1).as_bytes()).await.status, 414);
    assert_eq!(proxy.end_record("uri_too_long").await["key"], "listener.request_head_size");
}

/// Kubernetes and others send a bearer token as a subprotocol, next to the cookies of an OAuth proxy.
#[tokio::test]
async fn long_tokens_pass_by_default() {
    let backend = Backend::app("").await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let token = "t".repeat(8 << 10);
    let lines =
        format!("Sec-WebSocket-Protocol: {token}\r\nCookie: a={token}\r\nCookie: b={token}");
    let client = Client::new(&proxy).await;
    assert_eq!(client.request(with_lines(&lines).as_bytes()).await.status, 101);
    let received = RawResponse { status: 0, head: backend.heads().pop().unwrap() };
    assert_eq!(received.header("sec-websocket-protocol"), Some(&*token));
}

#[tokio::test]
async fn listener_keys_limit_requests() {
    let backend = Backend::app("HTTP/1.1 204 No Content\r\n\r\n").await;
    let listener = |name: &str, size: &str, fields: usize| {
        format!(
            "[[listener]]\nname = \"{name}\"\naddress = \"127.0.0.1:0\"\ntls = false\n\
             request_head_size = \"{size}\"\nrequest_head_fields = {fields}\n"
        )
    };
    let listeners = listener("small", "8KiB", 5) + &listener("large", "64KiB", 1000);
    let routes = route(&[backend.address], "");
    let proxy = Proxy::start_bare(&format!("{BASE}{listeners}{routes}")).await;
    let status = async |listener: &str, request: &str| {
        let stream = TcpStream::connect(proxy.address(listener).await).await.unwrap();
        let mut stream = BufReader::new(stream);
        stream.write_all(request.as_bytes()).await.unwrap();
        read_response(&mut stream).await.status
    };
    let long = get(&format!("/{}", "a".repeat(30_000)));
    for (request, small) in
        [(plain(&field(60_000)), 431), (plain(&fields(999)), 431), (long, 431), (get("/"), 204)]
    {
        assert_eq!(status("large", &request).await, 204, "{request:.100}");
        assert_eq!(status("small", &request).await, small, "{request:.100}");
    }
    // Records are written when the connections have ended, in any order.
    proxy.nth_end_record(3).await;
    let details: Vec<String> = proxy.outcomes().iter().map(|r| r["detail"].to_string()).collect();
    let naming = |key: &str| details.iter().filter(|detail| detail.contains(key)).count();
    let named = ["listener.request_head_size", "listener.request_head_fields"].map(naming);
    assert_eq!((named, details.len()), ([2, 1], 3), "{details:?}");
}

#[tokio::test]
async fn route_keys_limit_responses() {
    let response = |lines: &str| format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 0\r\n\r\n");
    for (lines, statuses) in [
        (fields(5), [502, 200, 200]),
        (fields(100), [502, 502, 200]),
        (field(8 << 10), [502, 200, 200]),
        (field(32 << 10), [502, 502, 200]),
        (field(60_000), [502, 502, 200]),
        (String::new(), [200, 200, 200]),
    ] {
        let backend = Backend::app(response(&lines)).await;
        let of = |path: &str, keys: &str| {
            let settings = route(&[backend.address], &format!("path = \"{path}\"\n{keys}"));
            settings.replace("name = \"all\"", &format!("name = \"{path}\""))
        };
        let small = "response_head_size = \"8KiB\"\nresponse_head_fields = 5\n";
        let large = "response_head_size = \"64KiB\"\nresponse_head_fields = 1000\n";
        let routes = of("/small", small) + &of("/", "") + &of("/large", large);
        let proxy = Proxy::start(&routes).await;
        let client = Client::new(&proxy).await;
        for (path, status) in ["/small", "/", "/large"].into_iter().zip(statuses) {
            let found = client.request(get(path).as_bytes()).await;
            assert_eq!(found.status, status, "{path} {lines:.40}");
        }
        if statuses[0] == 502 {
            let record = proxy.end_record("backend_handshake_invalid").await;
            assert!(record["detail"].as_str().unwrap().contains("route.response_head_size"));
        }
    }
}
