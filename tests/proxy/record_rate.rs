//! A client that causes very many records costs few lines of log, and nothing is left out silently.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::time::Instant;

use crate::support::head::get;
use crate::support::{
    Backend, Client, Proxy, RawResponse, Record, exchange, read_head, read_response, route,
    within_timeout,
};

const REQUESTS: u64 = 150;

/// Answers every request on a connection.
async fn application() -> Backend {
    Backend::raw(|mut head, mut stream, _| async move {
        while head.ends_with("\r\n\r\n") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            head = read_head(&mut stream).await;
        }
    })
    .await
}

/// Routes of which only one path exists, and few records of each kind.
async fn limited(backend: &Backend) -> Proxy {
    let access = "path = \"/served\"\n[access]\nrecords_per_client = \"1/s\"\n";
    Proxy::start(&route(&[backend.address], access)).await
}

async fn reject(client: &Client, host: [u8; 4]) -> RawResponse {
    let mut stream = BufReader::new(client.connect_plain_from(host).await);
    stream.write_all(get("/nowhere").as_bytes()).await.unwrap();
    read_response(&mut stream).await
}

/// The number of records with this event, and the number that others stand for.
fn written_and_suppressed(records: &[Record], event: &str) -> (u64, u64) {
    let written = records.iter().filter(|record| record["event"] == event).count() as u64;
    let suppressed = records.iter().filter(|record| record["suppressed_event"] == event);
    (written, suppressed.map(|record| record["suppressed"].as_u64().unwrap()).sum())
}

#[tokio::test]
async fn records_of_a_flood_are_summed_up() {
    let backend = application().await;
    let mut proxy = limited(&backend).await;
    let client = Client::new(&proxy).await;
    let began = Instant::now();
    for _ in 0..REQUESTS {
        assert_eq!(reject(&client, [127, 0, 0, 1]).await.status, 404);
    }
    let mut stream = BufReader::new(client.connect_plain().await);
    for _ in 0..REQUESTS {
        assert_eq!(exchange(&mut stream, &get("/served")).await.0.status, 200);
    }
    let is_rejected = |record: &Record| record["suppressed_event"] == "rejected";
    let summed_up = proxy.record("a suppressed record", is_rejected).await;
    for (key, value) in [
        ("event", "suppressed"),
        ("end", "no_route"),
        ("key", "access.records_per_client"),
        ("value", "1/s"),
        ("client_key", "127.0.0.1"),
    ] {
        assert_eq!(summed_up[key], value, "{key} in {summed_up}");
    }
    // Other clients are not concerned.
    assert_eq!(reject(&client, [127, 0, 0, 2]).await.status, 404);
    let is_other = |record: &Record| record["client_key"] == "127.0.0.2";
    assert_eq!(proxy.record("the other client", is_other).await["end"], "no_route");
    let scrape = proxy.scrape().await;
    let rejected = scrape.sum("tidegate_requests_rejected_total", &[("reason", "no_route")]);
    assert_eq!(rejected, (REQUESTS + 1) as f64);
    let counted = scrape.value("tidegate_records_suppressed_total", &[]);
    // What has not been summed up yet follows at the end.
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.exit().await, Some(0));
    let seconds = began.elapsed().as_secs();
    let mut suppressed_of_all = 0;
    for (event, sent, rate) in [("rejected", REQUESTS + 1, 1), ("served", REQUESTS, 10)] {
        let (written, suppressed) = within_timeout("all records", async {
            loop {
                let (written, suppressed) = written_and_suppressed(&proxy.records(), event);
                if written + suppressed == sent {
                    return (written, suppressed);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        // The rate for each ten seconds, and one of the other client.
        let max = 10 * rate * (seconds / 10 + 2) + 1;
        assert!((10 * rate..=max).contains(&written), "{event}: {written} in {seconds} s");
        suppressed_of_all += suppressed;
    }
    // The last response may have been read before its record was counted.
    assert!((suppressed_of_all - 1..=suppressed_of_all).contains(&(counted as u64)), "{counted}");
    let records = proxy.records();
    // One a second at most.
    let mut lines: BTreeMap<String, u64> = BTreeMap::new();
    for record in records.iter().filter(|record| record["event"] == "suppressed") {
        *lines.entry(record["suppressed_event"].to_string()).or_default() += 1;
    }
    assert!(lines.values().all(|lines| *lines <= seconds + 2), "{lines:?} in {seconds} s");
}

/// Quotation marks and backslashes take two bytes each in a record.
#[tokio::test]
async fn fields_are_bounded_as_they_are_written() {
    for format in ["json", "text"] {
        let backend = application().await;
        let access = format!("[access]\nto = \"access.log\"\nformat = \"{format}\"\n");
        let proxy = Proxy::start(&route(&[backend.address], &access)).await;
        let client = Client::new(&proxy).await;
        let fields = ["User-Agent", "Origin", "X-Request-ID"].map(|name| {
            format!("{name}: {}\r\n", if name == "Origin" { "\\" } else { "\"" }.repeat(250))
        });
        let head = get("/").replace("\r\n\r\n", &format!("\r\n{}\r\n", fields.concat()));
        assert_eq!(client.request(head.as_bytes()).await.status, 200);
        // Rejected, and therefore with the origin.
        let rejected = head.replace("GET / ", "TRACE / ");
        assert_eq!(client.request(rejected.as_bytes()).await.status, 405);
        let path = proxy.folder().join("access.log");
        let lines = within_timeout("two records", async {
            loop {
                let text = fs::read_to_string(&path).unwrap_or_default();
                if text.matches('\n').count() == 2 {
                    return text;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        for line in lines.lines() {
            // One with three such fields has about 600 bytes besides.
            assert!(line.len() < 1500, "{} bytes: {line}", line.len());
            if format == "json" {
                let record: Value = serde_json::from_str(line).unwrap();
                let written = serde_json::to_string(&record["user_agent"]).unwrap();
                assert!((250..280).contains(&written.len()), "{written}");
            }
        }
    }
}
