//! More connections to the admin listener than it keeps open.

use std::net::SocketAddr;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{Record, TestBed, get, read_response, read_to_end, within_timeout};

const PROBE: &[u8] = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// More than the listener keeps open.
const MANY: usize = 40;

// Requirements: AD03, AD04.
#[tokio::test]
async fn silent_connections_do_not_stop_probes() {
    let bed = TestBed::with("").await;
    let admin = bed.proxy.admin().await;
    let mut held = Vec::new();
    for _ in 0..10 {
        held.extend(connect(admin, MANY).await);
        let probe = TcpStream::connect(admin).await.unwrap();
        // Connections that are newer than the probe do not take its place.
        held.extend(connect(admin, 20).await);
        assert_ready(probe).await;
    }
    assert_eq!(read_to_end(&mut held[0]).await, b"");
    let is_warning = |record: &Record| {
        record["message"].as_str().is_some_and(|text| text.contains("admin: too many connections"))
    };
    let warning = bed.proxy.record("a warning", is_warning).await;
    assert_eq!((&warning["level"], &warning["limit"]), (&"WARN".into(), &32.into()));
    assert!(warning["dropped"].as_u64() >= Some(1), "{warning}");
    let count = bed.proxy.scrape().await.value("tidegate_admin_connections_dropped_total", &[]);
    assert!(count >= 300.0, "{count}");
    assert_eq!(bed.proxy.records().into_iter().filter(is_warning).count(), 1);
}

// Requirements: AD03.
#[tokio::test]
async fn half_requests_outlive_silent_connections() {
    let bed = TestBed::with("").await;
    let admin = bed.proxy.admin().await;
    let (first, rest) = PROBE.split_at(20);
    let mut half = TcpStream::connect(admin).await.unwrap();
    half.write_all(first).await.unwrap();
    let mut silent = connect(admin, 2 * MANY).await;
    assert_eq!(read_to_end(&mut silent[0]).await, b"");
    half.write_all(rest).await.unwrap();
    assert_eq!(read_response(&mut BufReader::new(half)).await.status, 200);

    // Half requests give way as well.
    let mut halves = connect(admin, MANY).await;
    for half in &mut halves {
        half.write_all(first).await.unwrap();
    }
    assert_ready(TcpStream::connect(admin).await.unwrap()).await;
}

// Requirements: AD03, AD04.
#[tokio::test]
async fn scrapes_in_progress_are_never_closed() {
    let more = |n| {
        format!(
            "[[route]]\nname = \"r{n}\"\nhost = \"h{n}\"\norigins = [\"*\"]\nbackends = [\"127.0.0.1:1\"]\n"
        )
    };
    let bed = TestBed::with(&(0..ROUTES).map(more).collect::<String>()).await;
    let admin = bed.proxy.admin().await;
    let mut scrapes = Vec::new();
    for _ in 0..SCRAPES {
        let mut scrape = slow_scrape(admin).await;
        assert_eq!(read_response(&mut scrape).await.status, 200);
        scrapes.push(scrape);
    }
    // More are refused, which leaves room for probes.
    let mut excess = slow_scrape(admin).await;
    assert_eq!(read_response(&mut excess).await.status, 503);
    let silent = connect(admin, MANY).await;
    let mut halves = connect(admin, MANY).await;
    for half in &mut halves {
        // Some are closed already.
        let _ = half.write_all(&PROBE[..20]).await;
    }
    assert_eq!(get(admin, "/readyz").await.0.status, 200);
    for scrape in &mut scrapes {
        let body = within_timeout("a scrape", read_to_end(scrape)).await;
        assert!(body.ends_with(b"\n# EOF\n"), "cut after {} bytes", body.len());
        assert!(body.len() > 400_000, "{} bytes fit into the buffers", body.len());
    }
    drop((silent, halves));
    assert_eq!(get(admin, "/metrics").await.0.status, 200);
}

/// Enough for a scrape that is larger than the buffers of a connection.
const ROUTES: usize = 40;
/// Documents that the listener sends at a time.
const SCRAPES: usize = 24;

async fn connect(admin: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut connections = Vec::new();
    for _ in 0..count {
        connections.push(TcpStream::connect(admin).await.unwrap());
    }
    connections
}

async fn assert_ready(mut probe: TcpStream) {
    probe.write_all(PROBE).await.unwrap();
    assert_eq!(read_response(&mut BufReader::new(probe)).await.status, 200);
}

/// Requests a document and leaves it in the buffers.
async fn slow_scrape(admin: SocketAddr) -> BufReader<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = BufReader::with_capacity(512, socket.connect(admin).await.unwrap());
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    stream
}
