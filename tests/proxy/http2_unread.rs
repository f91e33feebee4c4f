//! Responses over HTTP/2 that clients do not read stay within the budget of memory, and do not stop those of others.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep;

use crate::support::http2::{
    END_HEADERS, END_STREAM, HEADERS, Http2Client, SETTINGS, WINDOW_UPDATE, fields, frame, get,
    http2_plain_proxy, read_body,
};
use crate::support::{Backend, Client, Proxy, read_to_end, route, within_timeout};

const STREAMS: u32 = 100;
const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n";

/// A backend whose responses are as long as their clients read them.
async fn endless() -> Backend {
    Backend::raw(|_, mut stream, _| async move {
        let _ = stream.write_all(HEAD.as_bytes()).await;
        while stream.write_all(&[7; 64 << 10]).await.is_ok() {}
    })
    .await
}

async fn start(backend: &Backend, memory: &str) -> (Proxy, Client) {
    let memory = format!("[concurrency]\npending_memory = \"{memory}\"\n");
    let routes = route(&[backend.address], &memory).replace("\"*\"\no", "\"localhost\"\no");
    let proxy = http2_plain_proxy(&routes).await;
    let client = Client::new(&proxy).await;
    (proxy, client)
}

/// A connection whose streams have this window, and that is not read.
async fn unread(to: SocketAddr, from: [u8; 4], window: u32) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind((from, 0).into()).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    let settings = [&4_u16.to_be_bytes()[..], &window.to_be_bytes()].concat();
    let preface = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(SETTINGS, 0, 0, &settings),
        frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 29).to_be_bytes()),
    ];
    stream.write_all(&preface.concat()).await.unwrap();
    stream
}

/// The heads of as many requests as a connection may have at once.
fn requests(host: &str) -> Vec<u8> {
    let head = [(":method", "GET"), (":scheme", "http"), (":authority", host), (":path", "/")];
    let request = |n| frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &fields(&head));
    (0..STREAMS).flat_map(request).collect()
}

/// Waits until the backend has no new requests, and the proxy takes no more memory. Returns the most that it took, in KiB.
async fn settled(proxy: &Proxy, backend: &Backend) -> u64 {
    let mut most = 0;
    within_timeout("the memory to stay the same", async {
        let mut same = 0;
        let mut before = (0, 0);
        while same < 10 {
            let now = (proxy.memory_and_descriptors().0, backend.heads().len());
            same = if now.0 <= before.0 && now.1 == before.1 { same + 1 } else { 0 };
            before = (now.0.max(before.0), now.1);
            most = before.0;
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    most
}

/// A connection that is not writable leaves 64 KiB of each stream in the HTTP/2 library.
#[tokio::test]
async fn unread_responses_stay_within_the_budget() {
    for window in [0, 1, 65_535] {
        let backend = endless().await;
        let (proxy, client) = start(&backend, "16MiB").await;
        let mut first = unread(client.plain, [127, 0, 9, 1], window).await;
        first.write_all(&requests("localhost")[..200]).await.unwrap();
        let before = settled(&proxy, &backend).await;
        let mut held = Vec::new();
        for address in 2..22 {
            let mut stream = unread(client.plain, [127, 0, 9, address], window).await;
            // Closed for its memory once the others have used up all of it.
            let _ = stream.write_all(&requests("localhost")).await;
            held.push(stream);
        }
        let grown = settled(&proxy, &backend).await - before;
        let served = backend.heads().len();
        assert!(served > 200, "{served}");
        assert!(grown < 18 << 10, "{grown} KiB for {served} requests, window {window}");
    }
}

/// Their requests were rejected, so that nothing but the streams counts.
#[tokio::test]
async fn unread_rejections_are_closed_for_memory() {
    let backend = endless().await;
    let (proxy, client) = start(&backend, "8MiB").await;
    let mut held = Vec::new();
    for _ in 0..60 {
        let mut stream = unread(client.plain, [127, 0, 9, 30], 0).await;
        let _ = stream.write_all(&requests("unknown")).await;
        held.push(stream);
    }
    let record = proxy.end_record("shed").await;
    assert_eq!([&record["key"], &record["value"]], ["concurrency.pending_memory", "8MiB"]);
    // The others go on.
    let stream = client.connect_plain_from([127, 0, 9, 31]).await;
    let mut other = Http2Client::over(stream, &mut h2::client::Builder::new()).await;
    let (response, _) = other.send(get("/"), true).await;
    assert_eq!(within_timeout("a response", response).await.unwrap().status(), 200);
}

#[tokio::test]
async fn responses_that_are_read_continue_without_memory() {
    const LENGTH: usize = 3 << 20;
    let backend = Backend::raw(|head, mut stream, _| async move {
        if head.starts_with("GET /long ") {
            let head = HEAD.replace("100000000", &LENGTH.to_string());
            stream.write_all(head.as_bytes()).await.unwrap();
            let _ = stream.write_all(&vec![7; LENGTH]).await;
        }
        read_to_end(&mut stream).await;
    })
    .await;
    let (proxy, client) = start(&backend, "1MiB").await;
    let stream = client.connect_plain_from([127, 0, 9, 40]).await;
    let mut reader = Http2Client::over(stream, &mut h2::client::Builder::new()).await;
    let (response, _) = reader.send(get("/long"), true).await;
    let mut body = within_timeout("a response", response).await.unwrap().into_body();
    let mut held = Vec::new();
    for address in 41..49 {
        let mut stream = unread(client.plain, [127, 0, 9, address], 0).await;
        let _ = stream.write_all(&requests("localhost")).await;
        held.push(stream);
    }
    proxy.end_record("memory_limit").await;
    assert_eq!(read_body(&mut body).await.len(), LENGTH);
}
