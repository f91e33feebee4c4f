//! The memory of connections without a tunnel is limited: what is closed and what is rejected when it is used up.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::support::http2::{
    CONTINUATION, END_HEADERS, END_STREAM, GET as FIELDS, HEADERS, Http2Client, PING, RawHttp2,
    SETTINGS, fields, frame, get_frame, http2_proxy,
};
use crate::support::{
    Backend, BackendEvent, Client, HANDSHAKE, MockBackend, Proxy, close_normally, connect,
    exchange, read_response, read_to_end, route, upgrade, within_timeout,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
/// After this time without a byte, a connection has no buffers.
const RESTED: Duration = Duration::from_millis(250);

async fn start(backend: &Backend, memory: &str) -> (Proxy, Client) {
    let config = format!(
        "[concurrency]\npending_memory = \"{memory}\"\n[timeouts]\nrequest_header = \"5m\"\ntls = \"5m\"\n"
    );
    let proxy = Proxy::start(&route(&[backend.address], &config)).await;
    let client = Client::new(&proxy).await;
    (proxy, client)
}

#[tokio::test]
async fn idle_connections_are_closed_before_silent_ones() {
    let backend = Backend::app(OK).await;
    let (proxy, client) = start(&backend, "2MiB").await;
    let mut idle = Vec::new();
    for _ in 0..40 {
        let mut stream = BufReader::new(connect([127, 0, 6, 1], client.plain).await);
        assert_eq!(exchange(&mut stream, GET).await.0.status, 200);
        idle.push(stream);
    }
    // At 10 KiB each, there is memory for 204 of both.
    sleep(RESTED).await;
    let mut silent = Vec::new();
    for n in 0..190 {
        silent.push(connect([127, 0, 6, 2 + n % 10], client.plain).await);
    }
    proxy.wait_for_connections(204).await;
    let scrape = proxy.scrape().await;
    let [used, max] = ["", "_max"]
        .map(|end| scrape.value(&format!("tidegate_pending_memory{end}_bytes"), &[]) as u64 >> 10);
    // One may just be counted for which another is closed.
    assert!((2000..=2064).contains(&used) && max == 2048, "{used} of {max} KiB");
    let record = proxy.end_record("shed").await;
    assert_eq!([&record["key"], &record["value"]], ["concurrency.pending_memory", "2MiB"]);
    let mut closed = Vec::new();
    for stream in &mut idle {
        closed.push(!is_open(stream.get_mut()).await);
    }
    assert!(closed[..26].iter().all(|closed| *closed), "the oldest first: {closed:?}");
    assert!(!closed[26..].contains(&true), "{closed:?}");
    assert_eq!(exchange(&mut idle[39], GET).await.0.status, 200);
    for stream in &mut silent[..150] {
        assert!(is_open(stream).await);
    }
}

#[tokio::test]
async fn requests_beyond_the_memory_are_rejected() {
    let backend = Backend::raw(|head, mut stream, events| async move {
        let _ = events.send(BackendEvent::Bytes(Vec::new()));
        if head.to_ascii_lowercase().contains("sec-websocket-key") {
            let response = crate::support::switching_protocols(&head);
            stream.write_all(response.as_bytes()).await.unwrap();
        }
        read_to_end(&mut stream).await;
    })
    .await;
    let (proxy, client) = start(&backend, "1MiB").await;
    // A tunnel does not count.
    let mut tunnel = upgrade(client.connect_plain().await).await;
    backend.bytes().await;
    let long = GET.replace("\r\n\r\n", &format!("\r\nCookie: {}\r\n\r\n", "x".repeat(12_000)));
    let mut held = Vec::new();
    let rejected = loop {
        // Of a client each.
        let from = [127, 0, 6, held.len() as u8 + 1];
        let mut stream = BufReader::new(client.connect_plain_from(from).await);
        stream.write_all(long.as_bytes()).await.unwrap();
        tokio::select! {
            _ = backend.bytes() => held.push(stream),
            response = read_response(&mut stream) => break response,
        }
        assert!(held.len() < 20);
    };
    assert_eq!(rejected.status, 503);
    assert!(rejected.header("retry-after").is_some());
    assert!(held.len() > 4, "{}", held.len());
    let record = proxy.end_record("memory_limit").await;
    assert_eq!([&record["key"], &record["value"]], ["concurrency.pending_memory", "1MiB"]);
    // Those that wait have made room, and those in progress stay.
    assert!(is_open(held[0].get_mut()).await);
    held.truncate(2);
    within_timeout("memory to be free again", async {
        let mut stream = BufReader::new(client.connect_plain().await);
        stream.write_all(HANDSHAKE.as_bytes()).await.unwrap();
        while read_response(&mut stream).await.status != 101 {
            stream = BufReader::new(client.connect_plain().await);
            stream.write_all(HANDSHAKE.as_bytes()).await.unwrap();
        }
    })
    .await;
    assert!(is_open(tunnel.get_mut()).await);
}

#[tokio::test]
async fn client_with_its_share_leaves_room_for_others() {
    let backend = Backend::raw(|_, mut stream, events| async move {
        let _ = events.send(BackendEvent::Bytes(Vec::new()));
        read_to_end(&mut stream).await;
    })
    .await;
    let (_proxy, client) = start(&backend, "4MiB").await;
    // About 108 KiB each, of an eighth of the budget.
    let long = GET.replace("\r\n\r\n", &format!("\r\nCookie: {}\r\n\r\n", "x".repeat(12_000)));
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut stream = client.connect_plain_from([127, 0, 6, 1]).await;
        stream.write_all(long.as_bytes()).await.unwrap();
        backend.bytes().await;
        held.push(stream);
    }
    let mut idle = client.connect_plain_from([127, 0, 6, 2]).await;
    let mut stream = BufReader::new(client.connect_plain_from([127, 0, 6, 1]).await);
    stream.write_all(long.as_bytes()).await.unwrap();
    assert_eq!(read_response(&mut stream).await.status, 503);
    assert!(is_open(&mut idle).await, "nothing is closed for it");
    idle.write_all(long.as_bytes()).await.unwrap();
    backend.bytes().await;
}

#[tokio::test]
async fn http2_connection_with_a_tunnel_does_not_count() {
    let backend = MockBackend::new().await;
    let config = route(&[backend.address()], "[concurrency]\npending_memory = \"1MiB\"\n");
    let proxy = http2_proxy(&config).await;
    let client = Client::new(&proxy).await;
    let mut open = Vec::new();
    // At 42 KiB each, there would be memory for 24.
    for _ in 0..40 {
        let mut http2 = Http2Client::connect(&client).await;
        let tunnel = http2.tunnel("/ws").await;
        open.push((http2, tunnel, backend.accept().await));
    }
    // Each counts again without its tunnel.
    let mut idle = Vec::new();
    for (http2, tunnel, stream) in open {
        close_normally(tunnel, stream).await;
        idle.push(http2);
    }
    proxy.end_record("shed").await;
}

#[tokio::test]
async fn http2_responses_without_credit_count() {
    let backend = Backend::app(OK).await;
    let config = "[concurrency]\npending_memory = \"1MiB\"\n[timeouts]\nrequest_header = \"5m\"\n";
    let routes = route(&[backend.address], config).replace("\"*\"\nor", "\"other\"\nor");
    let proxy = http2_proxy(&routes).await;
    let client = Client::new(&proxy).await;
    let mut raw = RawHttp2::connect(&client).await;
    let no_window = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let requests = (0..100).flat_map(|n| get_frame(2 * n + 1, &[]));
    raw.write(&no_window.into_iter().chain(requests).collect::<Vec<u8>>()).await;
    for _ in 0..100 {
        raw.read_first(&[HEADERS]).await.unwrap();
    }
    // The connection and its streams take 442 KiB, and each of these 10.
    let mut silent = Vec::new();
    for _ in 0..62 {
        silent.push(connect([127, 0, 6, 2], client.plain).await);
    }
    proxy.end_record("shed").await;
}

// Requirements: H233.
#[tokio::test]
async fn incomplete_http2_heads_count() {
    let backend = Backend::raw(|head, mut stream, _| async move {
        if head.to_ascii_lowercase().contains("sec-websocket-key") {
            let response = crate::support::switching_protocols(&head);
            stream.write_all(response.as_bytes()).await.unwrap();
            read_to_end(&mut stream).await;
        } else {
            stream.write_all(OK.as_bytes()).await.unwrap();
        }
    })
    .await;
    // A client has an eighth of it, which is room for one such head.
    let config = route(&[backend.address], "[concurrency]\npending_memory = \"4MiB\"\n");
    let proxy = http2_proxy(&config).await;
    let client = Client::new(&proxy).await;
    let head = |stream| frame(HEADERS, END_STREAM, stream, &fields(&FIELDS));
    let end = |stream| frame(CONTINUATION, END_HEADERS, stream, &fields(&[("x", "y")]));
    // A tunnel does not hide it.
    let mut first = RawHttp2::connect(&client).await;
    let connect =
        [(":method", "CONNECT"), (":protocol", "websocket"), FIELDS[1], FIELDS[2], FIELDS[3]];
    first.write(&frame(HEADERS, END_HEADERS, 1, &fields(&connect))).await;
    first.read_until(HEADERS, 1).await;
    // The answer to the PING shows that what follows it was read.
    first.write(&[frame(PING, 0, 0, b"12345678"), head(3)].concat()).await;
    first.read_until(PING, 0).await;
    let mut second = RawHttp2::connect(&client).await;
    second.write(&head(1)).await;
    assert_eq!(second.goaway_code().await, None);
    let record = proxy.end_record("shed").await;
    assert_eq!([&record["key"], &record["value"]], ["concurrency.pending_memory", "4MiB"]);
    // Counts no more once it is complete.
    first.write(&end(3)).await;
    first.read_until(HEADERS, 3).await;
    let mut third = RawHttp2::connect(&client).await;
    third.write(&head(1)).await;
    third.write(&end(1)).await;
    // 200 in the static table (RFC 7541 A).
    assert_eq!(third.read_until(HEADERS, 1).await.payload[0], 0x80 | 8);
}

/// Whether the proxy has not closed this connection, on which it sends nothing.
async fn is_open(stream: &mut TcpStream) -> bool {
    timeout(Duration::from_millis(20), stream.read(&mut [0])).await.is_err()
}
