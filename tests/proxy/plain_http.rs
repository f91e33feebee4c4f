//! Plain HTTP requests: responses of every framing, keep-alive connections, and
//! everything that is not forwarded.

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::head::{get, with_lines};
use crate::support::{
    Backend, Client, HANDSHAKE, Proxy, RawResponse, exchange, read_body, read_response,
    read_to_end, route,
};

async fn proxy_for(backend: &Backend) -> (Proxy, BufReader<TcpStream>) {
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let stream = BufReader::new(Client::new(&proxy).await.connect_plain().await);
    (proxy, stream)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn heads_are_rebuilt_and_application_fields_pass() {
    let backend = Backend::app(
        "HTTP/1.1 207 Odd Words\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nETag: W/\"x\"\r\n\
         Content-Encoding: gzip\r\nX-Gone: 1\r\nConnection: x-gone, close\r\nKeep-Alive: 5\r\n\
         Proxy-Authenticate: Basic\r\nUpgrade: h2c\r\nVia: 1.1 before\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let (_proxy, mut stream) = proxy_for(&backend).await;
    let target = "/a%2Fb/../c;x?y=%00z&token=s";
    let request = format!(
        "PROPFIND {target} HTTP/1.1\r\nHost: a\r\nCookie: c\r\nAuthorization: Basic eDp5\r\nX-B: 2\r\n\
         Connection: x-b, keep-alive\r\nTE: trailers\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n\
         X-Forwarded-For: 6.6.6.6\r\nX_F: 6\r\nAccept-Encoding: br\r\n\r\n"
    );
    let (response, body) = exchange(&mut stream, &request).await;
    assert_eq!((response.status, &body[..]), (207, &b"ok"[..]));
    assert_eq!(response.all("set-cookie"), "a=1, b=2");
    assert_eq!(response.header("etag"), Some("W/\"x\""));
    assert_eq!(response.header("content-encoding"), Some("gzip"));
    for name in ["x-gone", "keep-alive", "proxy-authenticate", "upgrade", "connection"] {
        assert_eq!(response.header(name), None, "{name}");
    }
    let [head] = backend.heads().try_into().unwrap();
    assert!(head.starts_with(&format!("PROPFIND {target} HTTP/1.1\r\n")), "{head}");
    let seen = RawResponse { status: 0, head };
    assert_eq!(seen.header("cookie"), Some("c"));
    assert_eq!(seen.header("authorization"), Some("Basic eDp5"));
    assert_eq!(seen.header("accept-encoding"), Some("br"));
    assert_eq!(seen.all("x-forwarded-for"), "127.0.0.1");
    assert_eq!((seen.header("via"), &*seen.all("cdn-loop")), (None, "tidegate"));
    assert_eq!(seen.header("te"), Some("trailers"));
    for name in ["x-b", "upgrade", "http2-settings", "x_f", "transfer-encoding"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
}

#[tokio::test]
async fn responses_of_every_framing_pass() {
    for (sent, expected) in [
        (OK.to_owned(), "ok"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\nX-T: 1\r\n\r\n".into(), "ok"),
        ("HTTP/1.1 200 OK\r\nX: y\r\n\r\nok".into(), "ok"),
        ("HTTP/1.0 200 OK\r\n\r\nok".into(), "ok"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".into(), ""),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok".into(), "ok"),
        (format!("{OK}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"), "ok"),
    ] {
        let backend = Backend::app(sent.as_str()).await;
        let (_proxy, mut stream) = proxy_for(&backend).await;
        for _ in 0..2 {
            let (response, body) = exchange(&mut stream, &get("/")).await;
            assert_eq!((response.status, &body[..]), (200, expected.as_bytes()), "{sent:?}");
        }
        assert_eq!(backend.heads().len(), 2, "one backend connection per request");
    }
}

#[tokio::test]
async fn bodyless_responses_keep_the_connection_in_sync() {
    for (method, sent) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nX-A: b\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 1234\r\nX-A: b\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nX-A: b\r\n\r\n"),
    ] {
        let backend = Backend::app(sent).await;
        let (_proxy, mut stream) = proxy_for(&backend).await;
        for _ in 0..3 {
            stream.write_all(get("/").replace("GET", method).as_bytes()).await.unwrap();
            let response = read_response(&mut stream).await;
            assert_eq!(response.header("x-a"), Some("b"), "{sent:?} became {response:?}");
            assert_eq!(response.status, sent[9..12].parse::<u16>().unwrap());
            let length = response.header("content-length");
            match (method, response.status) {
                ("HEAD", _) if sent.contains("1234") => assert_eq!(length, Some("1234")),
                (_, 204) => assert_eq!(length, None),
                // RFC 9110 8.6: the length a 200 would have had, or none.
                _ => assert!(length.is_none_or(|length| length == "1234"), "{response:?}"),
            }
        }
    }
}

// Requirements: RL39.
#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::raw(|head, mut stream, _| async move {
        let target = head.split(' ').nth(1).unwrap();
        let response =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len());
        let _ = stream.write_all(response.as_bytes()).await;
    })
    .await;
    let (_proxy, mut stream) = proxy_for(&backend).await;
    let all: String = (0..100).map(|n| get(&format!("/{n}"))).collect();
    stream.write_all(all.as_bytes()).await.unwrap();
    for n in 0..100 {
        let response = read_response(&mut stream).await;
        assert_eq!(read_body(&mut stream, &response).await, format!("/{n}").as_bytes());
    }
}

// Requirements: H36.
#[tokio::test]
async fn http_1_0_client_gets_an_unchunked_response() {
    let backend =
        Backend::app("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
            .await;
    let proxy = Proxy::start(&route(&[backend.address], "via = \"edge-1\"")).await;
    let mut stream = BufReader::new(Client::new(&proxy).await.connect_plain().await);
    stream.write_all(b"GET / HTTP/1.0\r\nHost: a\r\nUpgrade: websocket\r\n\r\n").await.unwrap();
    let all = String::from_utf8(read_to_end(&mut stream).await).unwrap();
    assert!(all.ends_with("\r\n\r\nok") && !all.contains("chunked"), "{all}");
    let [head] = backend.heads().try_into().unwrap();
    let head = RawResponse { status: 0, head };
    assert!(head.head.starts_with("GET / HTTP/1.1\r\n"), "{head:?}");
    assert_eq!((head.all("via").as_str(), head.header("upgrade")), ("1.0 edge-1", None));
}

#[tokio::test]
async fn upgrade_to_other_protocols_is_plain_http() {
    let backend = Backend::app(OK).await;
    let (_proxy, mut stream) = proxy_for(&backend).await;
    let h2c = "GET /h2c HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n\
               Upgrade: h2c\r\nHTTP2-Settings: AAMA\r\n\r\n";
    assert_eq!(exchange(&mut stream, &format!("{h2c}{}", get("/next"))).await.1, b"ok");
    assert_eq!(exchange(&mut stream, "").await.1, b"ok");
    // A WebSocket may follow on the same connection.
    stream.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    assert_eq!(read_response(&mut stream).await.status, 101);
    assert_eq!(backend.heads().len(), 3);
}

// Requirements: BM09, BM16.
#[tokio::test]
async fn invalid_backend_responses_become_502() {
    let responses = [
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nleak",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: gzip\r\n\r\nleak",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nleak",
        "HTTP/1.1 200 OK\r\nContent-Length: 4, 5\r\n\r\nleak",
        "HTTP/1.1 200 OK\r\nContent-Length: +4\r\n\r\nleak",
        "HTTP/1.1 200 OK\r\nX Y: leak\r\n\r\n",
        "HTTP/1.1 1000 leak\r\n\r\n",
        "leak\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: leak\r\n",
        "",
    ];
    for sent in responses {
        let backend = Backend::app(sent).await;
        let (proxy, mut stream) = proxy_for(&backend).await;
        stream.write_all(get("/").as_bytes()).await.unwrap();
        let response = read_response(&mut stream).await;
        assert_eq!(response.status, 502, "{sent:?} became {response:?}");
        assert_eq!(read_to_end(&mut stream).await, b"502 Bad Gateway\n", "{sent:?}");
        assert_eq!(proxy.nth_end_record(1).await["end"], "backend_handshake_invalid");
    }
}

/// Responses that other proxies accept, and that cannot be read in two ways.
// Requirements: BM16, H28, H29.
#[tokio::test]
async fn odd_responses_are_corrected() {
    let chunks = "2\r\nok\r\n0\r\n\r\n";
    for (sent, status, name, value) in [
        (
            "HTTP/1.1 200 OK\r\nX-A : 1\r\nContent-Length: 2\r\n\r\nok".to_owned(),
            200,
            "X-A",
            Some("1"),
        ),
        (
            "HTTP/1.1 200 OK\r\nX-A: a\r\n  b\r\nContent-Length: 2\r\n\r\nok".into(),
            200,
            "X-A",
            Some("a b"),
        ),
        (
            format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"
            ),
            200,
            "Content-Length",
            None,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: identity\r\n\r\nok".into(),
            200,
            "Content-Length",
            Some("2"),
        ),
        ("HTTP/1.1 999 No\r\nX-A: 1\r\nContent-Length: 2\r\n\r\nok".into(), 999, "X-A", Some("1")),
        ("HTTP/1.1 600 No\r\nX-A: 1\r\nContent-Length: 2\r\n\r\nok".into(), 600, "X-A", Some("1")),
    ] {
        let backend = Backend::app(sent.as_str()).await;
        let (_proxy, mut stream) = proxy_for(&backend).await;
        for _ in 0..2 {
            let (response, body) = exchange(&mut stream, &get("/")).await;
            assert_eq!((response.status, &body[..]), (status, &b"ok"[..]), "{sent:?}");
            assert_eq!(response.header(name), value, "{sent:?}");
        }
    }
}

// Requirements: RL15.
#[tokio::test]
async fn http_1_0_without_host_is_served_by_any_host() {
    let backend = Backend::app(OK).await;
    let (_proxy, mut stream) = proxy_for(&backend).await;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    assert_eq!(read_response(&mut stream).await.status, 200);
    let [head] = backend.heads().try_into().unwrap();
    let head = RawResponse { status: 0, head };
    assert!(head.header("host").unwrap().starts_with("127.0.0.1:"), "{head:?}");
}

#[tokio::test]
async fn http_1_0_gets_one_connection_option() {
    let backend = Backend::app(OK).await;
    let (_proxy, mut stream) = proxy_for(&backend).await;
    let sent = "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
    stream.write_all(sent.as_bytes()).await.unwrap();
    let response = read_response(&mut stream).await;
    assert_eq!(response.all("connection"), "close", "{response:?}");
    assert_eq!(read_to_end(&mut stream).await, b"ok");
}

#[tokio::test]
async fn truncated_response_never_looks_complete() {
    for sent in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\nzz\r\n",
    ] {
        let backend = Backend::app(sent).await;
        let (_proxy, mut stream) = proxy_for(&backend).await;
        stream.write_all(get("/").as_bytes()).await.unwrap();
        let response = read_response(&mut stream).await;
        assert_eq!(response.status, 200, "{response:?}");
        let rest = String::from_utf8(read_to_end(&mut stream).await).unwrap();
        match response.header("content-length") {
            Some(length) => assert!(rest.len() < length.parse().unwrap(), "{rest:?}"),
            None => assert!(rest.contains("part") && !rest.contains("0\r\n\r\n"), "{rest:?}"),
        }
    }
}

#[tokio::test]
async fn requests_of_one_client_reach_one_backend() {
    let mut backends = Vec::new();
    for _ in 0..4 {
        backends.push(Backend::app(OK).await);
    }
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let proxy = Proxy::start(&route(&addresses, "")).await;
    let client = Client::new(&proxy).await;
    let mut met = std::collections::BTreeSet::new();
    for number in 1..=12_u8 {
        let before: Vec<usize> = backends.iter().map(|backend| backend.heads().len()).collect();
        let host = [127, 0, 1, number];
        for request in [get("/"), HANDSHAKE.to_owned(), get("/again"), with_lines("X: y")] {
            let mut stream = BufReader::new(client.connect_plain_from(host).await);
            stream.write_all(request.as_bytes()).await.unwrap();
            assert!(matches!(read_response(&mut stream).await.status, 200 | 101));
        }
        let grown: Vec<usize> =
            backends.iter().zip(before).map(|(backend, n)| backend.heads().len() - n).collect();
        assert_eq!(grown.iter().max(), Some(&4), "{host:?}: {grown:?}");
        met.insert(grown.iter().position(|n| *n == 4));
    }
    assert!(met.len() > 1, "twelve clients met {met:?}");
}
