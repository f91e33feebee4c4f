//! Which connection is closed when a new one finds no place.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::support::{
    Backend, BackendEvent, Client, HANDSHAKE, PlainStream, Proxy, TestBed, assert_relays, connect,
    exchange, read_response, read_to_end, route, within_timeout,
};

/// A connection that has been silent for this long is old.
const OLD: Duration = Duration::from_millis(2300);
const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[tokio::test]
async fn silent_addresses_do_not_hold_all_places() {
    let bed = TestBed::with("[concurrency]\nconnections = 40\n[timeouts]\ntls = \"5m\"\n").await;
    let mut silent = Vec::new();
    for address in 1..=20 {
        for _ in 0..2 {
            silent.push(connect([127, 0, 4, address], bed.client.tls).await);
        }
    }
    bed.proxy.wait_for_connections(40).await;
    let mut tunnels = Vec::new();
    for _ in 0..10 {
        tunnels.push(bed.open_from([127, 0, 5, 1]).await);
    }
    for (client, backend) in &mut tunnels {
        assert_relays(client, backend).await;
    }
    let record = bed.proxy.end_record("shed").await;
    assert_eq!([&record["key"], &record["value"]], ["concurrency.connections", "40"]);
    let labels = [("reason", "shed")];
    within_timeout("all to be counted", async {
        let name = "tidegate_connections_dropped_total";
        while bed.proxy.scrape().await.sum(name, &labels) != 10.0 {}
    })
    .await;
    // Each address has lost one at most.
    let mut closed = [0; 20];
    for (index, stream) in silent.iter_mut().enumerate() {
        closed[index / 2] += usize::from(!is_open(stream).await);
    }
    assert_eq!(closed.iter().sum::<usize>(), 10);
    assert!(closed.iter().all(|closed| *closed <= 1), "{closed:?}");
}

#[tokio::test]
async fn client_at_its_limit_loses_its_oldest_silent_connection() {
    let bed = TestBed::with(
        "[concurrency]\nconnections_per_client = 3\n[timeouts]\nrequest_header = \"5m\"\n",
    )
    .await;
    let (mut client, mut backend) = bed.open().await;
    let mut first = bed.client.connect_plain().await;
    bed.proxy.wait_for_connections(2).await;
    let mut second = bed.client.connect_plain().await;
    bed.proxy.wait_for_connections(3).await;
    sleep(OLD).await;
    assert_ne!(bed.client.request(GET.as_bytes()).await.status, 0);
    assert_eq!(read_to_end(&mut first).await, b"");
    assert!(is_open(&mut second).await);
    assert_relays(&mut client, &mut backend).await;
    assert_eq!(bed.proxy.end_record("shed").await["key"], "concurrency.connections_per_client");
}

#[tokio::test]
async fn requests_and_tunnels_keep_their_places() {
    let backend = Backend::raw(|head, mut stream, events| async move {
        if head.starts_with("GET /slow") {
            let _ = events.send(BackendEvent::Bytes(Vec::new()));
            read_to_end(&mut stream).await;
        } else if head.starts_with("GET /ws") {
            let head = crate::support::switching_protocols(&head);
            stream.write_all(head.as_bytes()).await.unwrap();
            read_to_end(&mut stream).await;
        } else {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    })
    .await;
    let config = "[concurrency]\nconnections = 3\n";
    let proxy = Proxy::start(&route(&[backend.address], config)).await;
    let client = Client::new(&proxy).await;
    let mut tunnel: PlainStream = BufReader::new(client.connect_plain().await);
    tunnel.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    assert_eq!(read_response(&mut tunnel).await.status, 101);
    let mut slow = client.connect_plain().await;
    slow.write_all(GET.replace("/ ", "/slow ").as_bytes()).await.unwrap();
    backend.bytes().await;
    let mut idle = BufReader::new(client.connect_plain().await);
    assert_eq!(exchange(&mut idle, GET).await.0.status, 200);
    sleep(OLD).await;
    let mut newcomer = connect([127, 0, 0, 2], client.plain).await;
    newcomer.write_all(GET.replace("/ ", "/slow ").as_bytes()).await.unwrap();
    backend.bytes().await;
    assert_eq!(read_to_end(&mut idle).await, b"");
    // All others are in use.
    let mut refused = connect([127, 0, 0, 3], client.plain).await;
    assert_eq!(read_to_end(&mut refused).await, b"");
    assert_eq!(proxy.end_record("proxy_limit").await["value"], "3");
    assert!(is_open(&mut slow).await && is_open(tunnel.get_mut()).await);
}

/// Whether the proxy has not closed this connection, on which it sends nothing.
async fn is_open(stream: &mut TcpStream) -> bool {
    timeout(Duration::from_millis(20), stream.read(&mut [0])).await.is_err()
}
