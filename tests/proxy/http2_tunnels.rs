//! WebSockets over HTTP/2 (RFC 8441): tunnels like those over HTTP/1.1, many on one connection.

use std::time::Duration;

use h2::Reason;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::http2::{
    END_HEADERS, GOAWAY, HEADERS, Http2Client, RawHttp2, fields, frame, http2_proxy,
    http2_proxy_with,
};
use crate::support::{
    Backend, Client, MockBackend, PlainStream, Proxy, RawResponse, assert_relays, close_normally,
    read_to_end, route, wire, within_timeout,
};

/// A proxy with one backend, and a connection to it.
struct Http2Bed {
    proxy: Proxy,
    client: Client,
    http2: Http2Client,
    backend: MockBackend,
}

impl Http2Bed {
    async fn with(more: &str) -> Self {
        let backend = MockBackend::new().await;
        let proxy = http2_proxy(&route(&[backend.address()], more)).await;
        let client = Client::new(&proxy).await;
        let http2 = Http2Client::connect(&client).await;
        Self { proxy, client, http2, backend }
    }

    async fn open(
        &mut self,
    ) -> (tokio::io::BufReader<crate::support::http2::Http2Tunnel>, PlainStream) {
        (self.http2.tunnel("/ws").await, self.backend.accept().await)
    }
}

// Requirements: E6, E7, E8, E9.
#[tokio::test]
async fn tunnel_relays_and_closes() {
    let mut bed = Http2Bed::with("").await;
    let headers = [
        ("origin", "https://localhost"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("sec-websocket-key", "theclients"),
    ];
    let (head, mut client) = bed.http2.connect_websocket("/ws?x=1", &headers).await;
    assert_eq!(head.status(), 200);
    for name in ["sec-websocket-accept", "upgrade", "connection", "content-length"] {
        assert!(!head.headers().contains_key(name), "{name}");
    }
    let mut backend = bed.backend.accept().await;
    let seen = RawResponse { status: 0, head: bed.backend.last_head() };
    assert!(seen.head.starts_with("GET /ws?x=1 HTTP/1.1\r\n"), "{}", seen.head);
    assert_eq!((seen.all("host"), seen.all("cookie")), ("localhost".into(), "a=1; b=2".into()));
    assert_eq!(
        (seen.all("upgrade"), seen.all("connection")),
        ("websocket".into(), "Upgrade".into())
    );
    assert_eq!(seen.all("sec-websocket-version"), "13");
    let key = seen.all("sec-websocket-key");
    assert!(key.len() == 24 && key != "theclients", "{key}");
    assert_relays(&mut client, &mut backend).await;
    close_normally(&mut client, backend).await;
    assert_eq!(read_to_end(&mut client).await, b"");
    let record = bed.proxy.tunnel_end(1).await;
    assert_eq!((&record["end"], &record["protocol"]), (&"client_closed".into(), &"h2".into()));
    // The connection is still good.
    let (mut client, mut backend) = bed.open().await;
    assert_relays(&mut client, &mut backend).await;
}

#[tokio::test]
async fn subprotocol_and_extensions_are_negotiated() {
    let backend = MockBackend::with(
        "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n",
    )
    .await;
    let more = "compression = \"pass\"";
    let proxy = http2_proxy(&route(&[backend.address()], more)).await;
    let mut http2 = Http2Client::connect(&Client::new(&proxy).await).await;
    let headers = [
        ("sec-websocket-protocol", "other, chat"),
        ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits"),
    ];
    let (head, _client) = http2.connect_websocket("/ws", &headers).await;
    assert_eq!(
        (head.status().as_u16(), &head.headers()["sec-websocket-protocol"]),
        (200, &"chat".parse().unwrap())
    );
    assert_eq!(head.headers()["sec-websocket-extensions"], "permessage-deflate");
    let seen = RawResponse { status: 0, head: backend.last_head() };
    assert_eq!(seen.all("sec-websocket-protocol"), "other, chat");
    assert!(seen.all("sec-websocket-extensions").starts_with("permessage-deflate"));
}

// Requirements: E2, E3, E4, E7, H221, H223, H224, H225.
#[tokio::test]
async fn handshakes_are_checked() {
    let backend = MockBackend::new().await;
    let routes = route(&[backend.address()], "")
        .replace("host = \"*\"", "host = \"localhost\"")
        .replace("origins = [\"*\"]", "origins = [\"same-origin\"]");
    let proxy = http2_proxy(&routes).await;
    let client = Client::new(&proxy).await;
    let mut raw = RawHttp2::connect(&client).await;
    let connect = |authority, protocol| {
        [
            (":method", "CONNECT"),
            (":protocol", protocol),
            (":scheme", "https"),
            (":authority", authority),
            (":path", "/ws"),
            ("origin", "https://localhost"),
        ]
    };
    let websocket = connect("localhost", "websocket");
    let with = |name, value| [&websocket[..], &[(name, value)]].concat();
    let origin = [&websocket[..5], &[("origin", "https://evil.example")]].concat();
    let mut stream = 1;
    for (block, flags, status, end) in [
        (connect("other.example", "websocket").to_vec(), 0, "404", "no_route"),
        (connect("localhost", "foo").to_vec(), 0, "501", "unsupported_protocol"),
        (connect("localhost", "webtransport").to_vec(), 0, "501", "unsupported_protocol"),
        (with("sec-websocket-version", "8"), 0, "426", "version"),
        (with("content-length", "0"), 0, "400", "handshake_invalid"),
        (with("expect", "100-continue"), 0, "417", "expect"),
        (with("host", "other.example"), 0, "400", "request_invalid"),
        (websocket.to_vec(), crate::support::http2::END_STREAM, "400", "handshake_invalid"),
        (origin, 0, "403", "origin"),
    ] {
        raw.write(&frame(HEADERS, END_HEADERS | flags, stream, &fields(&block))).await;
        raw.read_until(HEADERS, stream).await;
        let record = proxy.nth_end_record(usize::try_from(stream / 2 + 1).unwrap()).await;
        assert_eq!(
            (&record["end"], record["status"].to_string()),
            (&end.into(), status.to_owned())
        );
        stream += 2;
    }
    // Firefox sends no version behind a proxy.
    raw.write(&frame(HEADERS, END_HEADERS, stream, &fields(&websocket))).await;
    // 0x88 is `:status: 200` of the static table.
    assert_eq!(raw.read_until(HEADERS, stream).await.payload[0], 0x88);
    backend.accept().await;
}

#[tokio::test]
async fn declined_handshake_is_passed_on() {
    for (sent, expected) in [
        (
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 2\r\n\r\nno",
            401,
        ),
        // A 200 would be the tunnel.
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nlogin", 502),
    ] {
        let backend = Backend::answering(sent).await;
        let proxy = http2_proxy(&route(&[backend.address], "")).await;
        let mut http2 = Http2Client::connect(&Client::new(&proxy).await).await;
        let (head, _) = http2.connect_websocket("/ws", &[]).await;
        assert_eq!(head.status().as_u16(), expected);
        let record = proxy.end_record("backend_rejected").await;
        assert_eq!((&record["protocol"], &record["status"]), (&"h2".into(), &expected.into()));
    }
}

#[tokio::test]
async fn own_response_opens_no_tunnel() {
    let backend = MockBackend::new().await;
    let routes = route(&[backend.address()], "");
    let proxy = http2_proxy_with("health_path = \"/health\"\n", &routes).await;
    let mut http2 = Http2Client::connect(&Client::new(&proxy).await).await;
    assert_eq!(http2.get("/health").await.0.status().as_u16(), 200);
    let (head, _) = http2.connect_websocket("/health", &[]).await;
    assert_eq!(head.status().as_u16(), 502);
}

#[tokio::test]
async fn each_tunnel_counts_against_the_limits() {
    let mut bed = Http2Bed::with("[concurrency]\ntunnels_per_client = 2\n").await;
    let first = bed.open().await;
    let _second = bed.open().await;
    let (head, _) = bed.http2.connect_websocket("/ws", &[]).await;
    assert_eq!(head.status().as_u16(), 429);
    assert_eq!(bed.proxy.health().await["tunnels"], 2);
    assert_eq!(bed.proxy.health().await["connections"], 1);
    let (client, backend) = first;
    close_normally(client, backend).await;
    bed.proxy.tunnel_end(1).await;
    bed.open().await;
}

// Requirements: E9, E10, H226, H227.
#[tokio::test]
async fn ends_of_streams_reach_the_backend() {
    // A heartbeat would find the end as well.
    let mut bed = Http2Bed::with("[heartbeat]\ninterval = \"off\"\n").await;
    let (mut neighbour, mut far) = bed.open().await;
    // A reset, the end within a frame, and the end between frames.
    for (number, partial) in [None, Some(&b"\x82\xfe"[..]), Some(b"")].into_iter().enumerate() {
        let (mut client, mut backend) = bed.open().await;
        assert_relays(&mut client, &mut backend).await;
        match partial {
            None => client.get_mut().sender.send_reset(Reason::CANCEL),
            Some(partial) => {
                if !partial.is_empty() {
                    client.write_all(partial).await.unwrap();
                }
                client.shutdown().await.unwrap();
            }
        }
        let record = bed.proxy.nth_record("an end", number + 1, |r| r["event"] == "ended").await;
        assert_eq!(record["end"], "client_disconnected");
        // As for a client of HTTP/1.1.
        let close = wire::read(&mut backend).await;
        assert!(close.is_none_or(|close| close.code() == 1001));
        assert_relays(&mut neighbour, &mut far).await;
    }
}

// Requirements: E9.
#[tokio::test]
async fn end_of_the_backend_reaches_the_client() {
    let mut bed = Http2Bed::with("[route.limits]\nclose_grace = \"60s\"").await;
    let (mut client, backend) = bed.open().await;
    drop(backend);
    assert_eq!(wire::read(&mut client).await.unwrap().code(), 1012);
    client.write_all(&wire::masked(0x88, &wire::close(1012, ""))).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut client).await, b"");
    assert_eq!(bed.proxy.tunnel_end(1).await["end"], "backend_disconnected");
}

// Requirements: H231.
#[tokio::test]
async fn trailers_end_the_tunnel() {
    let mut bed = Http2Bed::with("").await;
    let (mut client, mut backend) = bed.open().await;
    assert_relays(&mut client, &mut backend).await;
    let trailers = [("x-a".parse::<hyper::header::HeaderName>().unwrap(), "1".parse().unwrap())];
    client.get_mut().sender.send_trailers(trailers.into_iter().collect()).unwrap();
    let reset = std::future::poll_fn(|cx| client.get_mut().sender.poll_reset(cx));
    assert_eq!(within_timeout("a reset", reset).await.unwrap(), Reason::PROTOCOL_ERROR);
    assert_eq!(bed.proxy.tunnel_end(1).await["end"], "client_disconnected");
    bed.open().await;
}

// Requirements: H229.
#[tokio::test]
async fn lost_connection_ends_each_tunnel_once() {
    let mut bed = Http2Bed::with("").await;
    let mut open = Vec::new();
    for _ in 0..32 {
        open.push(bed.open().await);
    }
    assert_eq!(bed.proxy.health().await["tunnels"], 32);
    let Http2Bed { proxy, http2, .. } = bed;
    drop(http2);
    for session in 1..=32 {
        assert_eq!(proxy.tunnel_end(session).await["end"], "client_disconnected");
    }
    proxy.wait_until_idle().await;
    let ends = proxy.records().into_iter().filter(|record| record["event"] == "ended");
    assert_eq!(ends.count(), 32);
}

/// Sizes of messages to backends that do not read, and the number of their tunnels. Left in the library, the small
/// frames of ten tunnels would end the connection.
const STALLS: [(usize, usize); 3] = [(8, 10), (30, 2), (64 << 10, 2)];
/// A stalled tunnel stays open for as long as the test needs.
const NO_TIMEOUTS: &str = "[heartbeat]\ninterval = \"off\"\n[limits]\nwrite_timeout = \"10m\"\n";

// Requirements: E20, H230.
#[tokio::test]
async fn stalled_tunnels_do_not_disturb_others() {
    for (size, tunnels) in STALLS {
        let mut bed = Http2Bed::with(NO_TIMEOUTS).await;
        let (mut neighbour, mut far) = bed.open().await;
        let mut stalled = Vec::new();
        for _ in 0..tunnels {
            let (mut client, backend) = bed.open().await;
            let message = wire::masked(0x82, &vec![7; size]);
            let accepted = wire::fill(&mut client, &message).await;
            stalled.push((client, backend, accepted));
            assert_relays(&mut neighbour, &mut far).await;
        }
        // They go on once their backends read, and nothing was lost.
        for (client, mut backend, accepted) in stalled {
            let reading = async {
                let mut bytes = vec![0; accepted];
                backend.read_exact(&mut bytes).await.unwrap();
            };
            within_timeout("what was accepted", reading).await;
            drop(client);
        }
        assert_relays(&mut neighbour, &mut far).await;
        assert!(bed.proxy.records().iter().all(|record| record["end"] != "http2_flood"));
    }
}

// Requirements: E20, H230.
#[tokio::test]
async fn one_stalled_tunnel_of_a_hundred_stays_alone() {
    let mut bed = Http2Bed::with(NO_TIMEOUTS).await;
    let (mut stalled, _backend) = bed.open().await;
    let mut others = Vec::new();
    for _ in 0..99 {
        others.push(bed.open().await);
    }
    wire::fill(&mut stalled, &wire::masked(0x82, &[7; 30])).await;
    let relays = others.iter_mut().map(|(client, backend)| async {
        for _ in 0..20 {
            assert_relays(client, backend).await;
        }
    });
    futures_util::future::join_all(relays).await;
}

// Requirements: E20.
#[tokio::test]
async fn client_that_does_not_read_one_tunnel_reads_the_others() {
    let mut bed = Http2Bed::with("").await;
    let (_stalled, mut backend) = bed.open().await;
    let (mut neighbour, mut far) = bed.open().await;
    wire::fill(&mut backend, &wire::unmasked(0x82, &[7; 1000])).await;
    for _ in 0..20 {
        assert_relays(&mut neighbour, &mut far).await;
    }
}

// Requirements: E1, E17.
#[tokio::test]
async fn open_tunnels_survive_idle_times_and_reloads() {
    let mut bed =
        Http2Bed::with("[timeouts]\nkeep_alive = \"200ms\"\nrequest_header = \"200ms\"\n").await;
    let (mut client, mut backend) = bed.open().await;
    bed.proxy.reload().await;
    // Nor does a listener that stops offering HTTP/2 (RFC 8441 3).
    bed.proxy.reload_with("name = \"tls\"\n", "name = \"tls\"\nhttp2 = false\n").await;
    // Longer than the timeouts of a connection without streams.
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_relays(&mut client, &mut backend).await;
    let (mut other, mut far) = bed.open().await;
    assert_relays(&mut other, &mut far).await;
    close_normally(client, backend).await;
    close_normally(other, far).await;
    assert!(bed.http2.end().await.is_none());
}

// Requirements: E17.
#[tokio::test]
async fn drain_closes_tunnels_and_then_the_connection() {
    let mut bed = Http2Bed::with("[drain]\nwindow = \"1s\"\n").await;
    let (mut client, mut backend) = bed.open().await;
    let mut raw = RawHttp2::connect(&bed.client).await;
    bed.proxy.signal(Signal::TERM);
    // Without a tunnel, at once.
    raw.read_until(GOAWAY, 0).await;
    let (head, _) = bed.http2.connect_websocket("/ws", &[]).await;
    assert_eq!(head.status().as_u16(), 503);
    let close = wire::read_past_pings(&mut client).await.unwrap();
    assert_eq!(close.code(), 1012);
    client.write_all(&wire::masked(0x88, &close.payload)).await.unwrap();
    let to_backend = wire::read(&mut backend).await.unwrap();
    backend.write_all(&wire::unmasked(0x88, &to_backend.payload)).await.unwrap();
    assert!(bed.http2.end().await.is_none());
    drop(raw);
    assert_eq!(bed.proxy.exit().await, Some(0));
}

#[tokio::test]
async fn heartbeats_reach_each_tunnel() {
    let mut bed = Http2Bed::with("[heartbeat]\ninterval = \"200ms\"\ntimeout = \"300ms\"\n").await;
    let (mut alive, _far) = bed.open().await;
    let (mut silent, _other) = bed.open().await;
    for _ in 0..8 {
        let ping = wire::read(&mut alive).await.unwrap();
        assert_eq!(ping.opcode(), wire::PING);
        alive.write_all(&wire::masked(0x8a, &ping.payload)).await.unwrap();
    }
    let mut last = wire::read(&mut silent).await.unwrap();
    while last.opcode() == wire::PING {
        last = wire::read(&mut silent).await.unwrap();
    }
    assert_eq!(last.code(), 1001);
    assert_eq!(bed.proxy.end_record("heartbeat_timeout").await["session"], 2);
}
