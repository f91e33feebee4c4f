//! The memory of connections that wait for a request, and that what they have received is not lost with their
//! buffers.

use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::client::TlsStream;

use crate::support::{
    Backend, Client, Proxy, exchange, read_body, read_response, route, within_timeout,
};

const CONNECTIONS: u64 = 300;
const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// After this time without a byte, a connection has no buffers.
const RESTED: Duration = Duration::from_millis(250);

type TlsConnection = BufReader<TlsStream<TcpStream>>;

async fn start(backend: &Backend) -> (Proxy, Client) {
    let lines = "[timeouts]\nrequest_header = \"5m\"\nkeep_alive = \"5m\"\n\
                 [rates]\nrequests_burst = 1000\n";
    let proxy = Proxy::start(&route(&[backend.address], lines)).await;
    let client = Client::new(&proxy).await;
    (proxy, client)
}

async fn connections(client: &Client) -> Vec<TlsConnection> {
    let mut opened = Vec::new();
    for _ in 0..CONNECTIONS {
        opened.push(BufReader::new(client.connect_tls().await));
    }
    opened
}

/// In KiB, of a debug build. hyper's buffers take 16, and room to discard what a client sends at the end took 4.
#[tokio::test]
async fn waiting_connections_have_no_buffers() {
    let backend = Backend::app(OK).await;
    let (proxy, client) = start(&backend).await;
    // The buffers of the workers, and what the allocator keeps.
    for stream in &mut connections(&client).await {
        assert_eq!(exchange(stream, GET).await.0.status, 200);
    }
    proxy.wait_for_connections(0).await;
    let before = proxy.memory_and_descriptors().0;
    let falls = async |stage: &str, most: u64| {
        within_timeout(stage, async {
            while proxy.memory_and_descriptors().0 > before + most * CONNECTIONS {
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    };
    let mut waiting = connections(&client).await;
    proxy.wait_for_connections(CONNECTIONS as usize).await;
    falls("silent connections to take little", 12).await;
    for stream in &mut waiting {
        assert_eq!(exchange(stream, GET).await.0.status, 200);
    }
    falls("idle connections to take little", 13).await;
    let (first, second) = GET.split_at(GET.len() - 2);
    let cookie = format!("{first}Cookie: {}", "x".repeat(1000));
    for stream in &mut waiting {
        stream.write_all(cookie.as_bytes()).await.unwrap();
    }
    sleep(RESTED).await;
    falls("half a head to take little", 14).await;
    for stream in &mut waiting {
        assert_eq!(exchange(stream, &format!("\r\n{second}")).await.0.status, 200);
    }
    assert!(backend.heads().last().unwrap().contains(&"x".repeat(1000)));
}

#[tokio::test]
async fn head_in_pieces_is_complete_after_rests() {
    let backend = Backend::app(OK).await;
    let (_proxy, client) = start(&backend).await;
    let mut stream = BufReader::new(client.connect_tls().await);
    let two = GET.replace("/ HTTP", "/first HTTP") + &GET.replace("/ HTTP", "/second HTTP");
    // The second piece is the end of the first request, and the beginning of another.
    let pieces = [&two[..20], &two[20..60], &two[60..70], &two[70..]];
    for (index, piece) in pieces.iter().enumerate() {
        stream.write_all(piece.as_bytes()).await.unwrap();
        if index == 1 || index == 3 {
            let response = read_response(&mut stream).await;
            assert_eq!(read_body(&mut stream, &response).await, b"ok");
        }
        sleep(RESTED).await;
    }
    let targets: Vec<_> =
        backend.heads().iter().map(|head| head.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(targets, ["/first", "/second"]);
    // The end of the connection is still noticed.
    stream.write_all(b"\r\n").await.unwrap();
    sleep(RESTED).await;
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
}

/// The response is complete, but the body of the request is not: what follows is no request.
#[tokio::test]
async fn late_body_is_not_taken_for_a_request() {
    let backend = Backend::raw(|_, mut stream, _| async move {
        stream.write_all(OK.as_bytes()).await.unwrap();
        sleep(2 * RESTED).await;
    })
    .await;
    let (_proxy, client) = start(&backend).await;
    let mut stream = BufReader::new(client.connect_tls().await);
    let (begun, rest) = (8 * 1024, GET.replace("/ HTTP", "/body HTTP").repeat(40));
    let head = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{}",
        begun + rest.len(),
        "x".repeat(begun)
    );
    assert_eq!(exchange(&mut stream, &head).await.0.status, 200);
    sleep(RESTED).await;
    // The connection may have been closed.
    let _ = stream.write_all(rest.as_bytes()).await;
    let _ = stream.write_all(GET.as_bytes()).await;
    let mut more = Vec::new();
    let _ = within_timeout("the end", stream.read_to_end(&mut more)).await;
    let heads = backend.heads();
    assert!(heads.iter().all(|head| !head.contains("/body")), "{heads:?}");
    assert!(more.len() <= OK.len() + 200, "{}", String::from_utf8_lossy(&more));
}

#[tokio::test]
async fn resting_connections_end_with_a_drain() {
    let backend = Backend::app(OK).await;
    let (mut proxy, client) = start(&backend).await;
    let mut idle = BufReader::new(client.connect_tls().await);
    assert_eq!(exchange(&mut idle, GET).await.0.status, 200);
    let mut partial = BufReader::new(client.connect_tls().await);
    assert_eq!(exchange(&mut partial, GET).await.0.status, 200);
    partial.write_all(b"GET / HT").await.unwrap();
    sleep(RESTED).await;
    proxy.signal(Signal::TERM);
    for stream in [&mut idle, &mut partial] {
        assert_eq!(within_timeout("the end", stream.read(&mut [0])).await.unwrap(), 0);
    }
    assert_eq!(proxy.exit().await, Some(0));
}
