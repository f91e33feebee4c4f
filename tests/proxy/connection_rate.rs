//! The rate of new connections of a client, which applies before TLS.

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::time::Instant;

use crate::support::{
    Backend, Client, Proxy, Record, TestBed, assert_relays, connect, exchange, read_to_end, route,
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
    let line = bed.proxy.record("a line", is_line).await;
    assert_eq!((&line["level"], &line["dropped"]), (&"WARN".into(), &1.into()));
    assert_eq!(line["key"], "rates.connections_per_client");
    assert_eq!(line["value"], "1/s, burst 3");
    assert!(line["last_client"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    // Neither open tunnels nor other clients are concerned.
    assert_relays(&mut client, &mut backend).await;
    let others = bed.open_from([127, 0, 0, 2]).await;
    drop(others);
    bed.proxy.signal(rustix::process::Signal::TERM);
    drop((client, backend));
    assert_eq!(bed.proxy.exit().await, Some(0));
}

#[tokio::test]
async fn flood_writes_a_line_a_second_and_counts_all() {
    let bed = TestBed::with(RATE).await;
    let began = Instant::now();
    for _ in 0..400 {
        drop(bed.client.connect_plain().await);
    }
    let labels = [("reason", REASON)];
    let mut counted = 0.0;
    within_timeout("all of them to be counted and logged", async {
        loop {
            counted = bed.proxy.scrape().await.sum("tidegate_connections_dropped_total", &labels);
            let lines = bed.proxy.records().into_iter().filter(is_line);
            let logged: f64 = lines.filter_map(|line| line["dropped"].as_f64()).sum();
            if counted > 300.0 && logged == counted {
                break;
            }
        }
    })
    .await;
    let lines = bed.proxy.records().iter().filter(|record| is_line(record)).count() as u64;
    assert!(lines <= began.elapsed().as_secs() + 2, "{lines} lines");
    let is_record = |record: &&Record| record["event"] == "dropped" && record["end"] == REASON;
    assert_eq!(bed.proxy.records().iter().filter(is_record).count(), 0);
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

fn is_line(record: &Record) -> bool {
    record["end"] == REASON && record["dropped"].is_number()
}
