//! The rate of new connections of a client, which applies before TLS.

use tokio::io::{AsyncWriteExt, BufReader};

use crate::support::{
    Backend, Client, Proxy, TestBed, assert_relays, connect, exchange, read_to_end, route,
    within_timeout,
};

const RATE: &str = "[rates]\nconnections_per_client = \"1/s\"\nconnections_burst = 3\n";
const REASON: &str = "client_connection_rate";

#[tokio::test]
async fn excess_connections_end_before_tls() {
    let mut bed = TestBed::with(RATE).await;
    let (mut client, mut backend) = bed.open().await;
    // As many as it takes on a slow machine: one that is admitted waits for its ClientHello.
    let mut admitted = Vec::new();
    within_timeout("a connection over the rate", async {
        loop {
            let mut stream = bed.client.connect_plain_from([127, 0, 0, 1]).await;
            stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
            if read_to_end(&mut stream).await.is_empty() {
                break;
            }
            admitted.push(stream);
        }
    })
    .await;
    assert!(admitted.len() >= 2, "{}", admitted.len());
    let record = bed.proxy.end_record(REASON).await;
    assert_eq!(
        [&record["key"], &record["value"]],
        ["rates.connections_per_client", "1/s, burst 3"]
    );
    // Neither open tunnels nor other clients are concerned.
    assert_relays(&mut client, &mut backend).await;
    let others = bed.open_from([127, 0, 0, 2]).await;
    drop(others);
    bed.proxy.signal(rustix::process::Signal::TERM);
    drop((client, backend));
    assert_eq!(bed.proxy.exit().await, Some(0));
}

#[tokio::test]
async fn trusted_proxies_have_no_connection_rate() {
    let backend = Backend::app("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let config = format!("[trusted_proxies]\naddresses = [\"127.0.0.9\"]\n{RATE}");
    let proxy = Proxy::start(&route(&[backend.address], &config)).await;
    let client = Client::new(&proxy).await;
    for _ in 0..20 {
        let mut stream = BufReader::new(connect([127, 0, 0, 9], client.plain).await);
        let request = "GET / HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n";
        assert_eq!(exchange(&mut stream, request).await.0.status, 200);
    }
}
