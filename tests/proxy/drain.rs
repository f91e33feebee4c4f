//! SIGTERM and SIGINT: no new connections, Closes spread over the window, then exit.

use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::{
    Backend, BackendEvent, HANDSHAKE, PlainStream, Proxy, Record, TestBed, assert_relays,
    close_normally, read_head, read_response, read_to_end, route, switching_protocols, wire,
    within_timeout,
};

const CLOSE: u8 = 0x80 | wire::CLOSE;

// Requirements: SR09.
#[tokio::test]
async fn closes_are_spread_over_the_window() {
    let window = Duration::from_secs(3);
    let mut bed = TestBed::with("[drain]\nwindow = \"3s\"\ndeadline = \"30s\"\n").await;
    let mut tunnels = Vec::new();
    for n in 0..60u8 {
        tunnels.push(bed.open_from([127, 0, 1, n]).await);
    }
    let begun = Instant::now();
    bed.proxy.signal(Signal::TERM);
    let mut closing = JoinSet::new();
    for (client, backend) in tunnels {
        closing.spawn(async move {
            let moment = answer_closes(client, backend).await;
            moment.duration_since(begun)
        });
    }
    let mut moments = closing.join_all().await;
    moments.sort();
    // No Close can be early: the i-th of n is sent at `window * (i + rand) / n`.
    for (index, moment) in moments.iter().enumerate() {
        let earliest = window.mul_f64(index as f64 / 60.0);
        assert!(*moment >= earliest, "the {index}th came after {moment:?}");
    }
    // Nor do they all come at the end: the middle one is due at half the window, and only a machine
    // that stalls for the other half delays it to the end.
    assert!(moments[30] < window, "{moments:?}");
    assert_eq!(bed.proxy.exit().await, Some(0));
    let stopped = stopped(&bed.proxy).await;
    assert_eq!((&stopped["tunnels"], &stopped["aborted"]), (&60.into(), &0.into()));
    assert_eq!(stopped["forced"], false);
    let drained = bed.proxy.records().into_iter().filter(|record| record["end"] == "drained");
    let drained: Vec<Record> = drained.collect();
    assert_eq!(drained.len(), 60);
    for record in drained {
        assert_eq!((&record["by"], &record["close_client"]), (&"tidegate".into(), &1012.into()));
        assert_eq!(record["close_backend"], 1001);
    }
}

/// Waits for the Closes of the drain and answers them; returns when the client's came.
async fn answer_closes(mut client: PlainStream, mut backend: PlainStream) -> Instant {
    let close = wire::read_past_pings(&mut client).await.unwrap();
    let moment = Instant::now();
    assert_eq!((close.code(), close.masked), (1012, false));
    client.write_all(&wire::masked(CLOSE, &close.payload)).await.unwrap();
    let close = wire::read(&mut backend).await.unwrap();
    assert_eq!((close.code(), close.masked), (1001, true));
    backend.write_all(&wire::unmasked(CLOSE, &close.payload)).await.unwrap();
    assert_eq!(read_to_end(&mut client).await, b"");
    moment
}

// Requirements: UH33.
#[tokio::test]
async fn new_connections_are_rejected() {
    for signal in [Signal::TERM, Signal::INT] {
        // The Close of the drain comes long after the test.
        let mut bed = TestBed::with("[drain]\nwindow = \"10m\"\ndeadline = \"20m\"\n").await;
        let (mut client, mut backend) = bed.open().await;
        let mut idle = BufReader::new(bed.client.connect_tls().await);
        let mut asking = BufReader::new(bed.client.connect_plain().await);
        let (begun, ended) = HANDSHAKE.split_at(20);
        asking.write_all(begun.as_bytes()).await.unwrap();
        // By then the proxy has accepted both connections and read their data.
        within_timeout("the connections", async {
            while bed.proxy.health().await["connections"] != 3 {}
        })
        .await;
        for _ in 0..5 {
            assert_relays(&mut client, &mut backend).await;
        }
        bed.proxy.signal(signal);
        bed.proxy.record("draining", is_draining).await;
        // The listeners were closed before any Close was sent.
        within_timeout("the phase", async {
            while bed.proxy.health().await["status"] != "draining" {}
        })
        .await;
        for address in [bed.client.plain, bed.client.tls] {
            within_timeout("the listener to close", async {
                while TcpStream::connect(address).await.is_ok() {}
            })
            .await;
        }

        asking.write_all(ended.as_bytes()).await.unwrap();
        let refused = read_response(&mut asking).await;
        assert_eq!(refused.status, 503);
        let wait: u32 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait));
        assert_eq!(refused.header("connection"), Some("close"));
        assert_eq!(bed.proxy.end_record("draining").await["status"], 503);
        read_to_end(&mut asking).await;

        assert_relays(&mut client, &mut backend).await;
        close_normally(client, backend).await;
        assert_eq!(read_to_end(&mut idle).await, b"", "a connection without a request is closed");
        assert_eq!(bed.proxy.exit().await, Some(0));
    }
}

// Requirements: UH33.
#[tokio::test]
async fn handshake_in_progress_gets_no_tunnel() {
    let (go, wait) = tokio::sync::watch::channel(false);
    let backend = Backend::raw(move |head, mut stream, events| {
        let mut wait = wait.clone();
        async move {
            wait.wait_for(|go| *go).await.unwrap();
            stream.write_all(switching_protocols(&head).as_bytes()).await.unwrap();
            let _ = events.send(BackendEvent::Bytes(read_to_end(&mut stream).await));
        }
    })
    .await;
    let drain = "[drain]\nwindow = \"10ms\"\ndeadline = \"30s\"\n";
    let mut proxy = Proxy::start(&route(&[backend.address], drain)).await;
    let plain = proxy.address("plain").await;
    let mut client = BufReader::new(TcpStream::connect(plain).await.unwrap());
    client.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    assert!(matches!(backend.next_event().await, BackendEvent::Opened));
    proxy.signal(Signal::TERM);
    proxy.record("draining", is_draining).await;
    go.send_replace(true);
    let refused = read_response(&mut client).await;
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    drop(client);
    assert_eq!(backend.bytes().await, b"");
    assert_eq!(proxy.exit().await, Some(0));
    stopped(&proxy).await;
    // There may also be connections accepted just before the listener closed.
    let refusals = proxy.records().into_iter().filter(|record| record["event"] == "rejected");
    assert_eq!(refusals.count(), 1);
}

// Requirements: F13.
#[tokio::test]
async fn partial_frame_is_finished_before_the_close() {
    let config =
        "[drain]\nwindow = \"10ms\"\ndeadline = \"30s\"\n[limits]\nclose_grace = \"20s\"\n";
    let mut bed = TestBed::with(config).await;
    let (mut client, mut backend) = bed.open_secure().await;
    let (up, down) = (wire::masked(0x82, &[1; 300_000]), wire::unmasked(0x82, &[2; 300_000]));
    client.write_all(&up[..100_000]).await.unwrap();
    client.flush().await.unwrap();
    backend.write_all(&down[..100_000]).await.unwrap();
    let (mut up_got, mut down_got) = (vec![0; up.len()], vec![0; down.len()]);
    within_timeout("a part", client.read_exact(&mut down_got[..100_000])).await.unwrap();
    within_timeout("a part", backend.read_exact(&mut up_got[..100_000])).await.unwrap();
    bed.proxy.signal(Signal::TERM);
    bed.proxy.record("draining", is_draining).await;
    // Further fragments would follow; the Close comes at the first frame boundary.
    let early = tokio::time::timeout(Duration::from_millis(300), client.read_u8()).await;
    assert!(early.is_err(), "inside a frame: {early:?}");
    backend.write_all(&down[100_000..]).await.unwrap();
    within_timeout("the rest", client.read_exact(&mut down_got[100_000..])).await.unwrap();
    assert_eq!(wire::read(&mut client).await.unwrap().code(), 1012);
    client.write_all(&up[100_000..]).await.unwrap();
    client.write_all(&wire::masked(CLOSE, &wire::close(1012, ""))).await.unwrap();
    client.flush().await.unwrap();
    within_timeout("the rest", backend.read_exact(&mut up_got[100_000..])).await.unwrap();
    assert_eq!(wire::read(&mut backend).await.unwrap().code(), 1001);
    assert!(up_got == up && down_got == down);
    drop((client, backend));
    assert_eq!(bed.proxy.exit().await, Some(0));
    assert_eq!(stopped(&bed.proxy).await["aborted"], 0);
}

#[tokio::test]
async fn unresponsive_clients_are_aborted_at_the_deadline() {
    // Sooner than the usual grace period, which would cut none.
    let mut bed = TestBed::with("[drain]\nwindow = \"100ms\"\ndeadline = \"1s\"\n").await;
    let mut unresponsive = Vec::new();
    for _ in 0..10 {
        unresponsive.push(bed.open().await);
    }
    let begun = Instant::now();
    bed.proxy.signal(Signal::TERM);
    assert_eq!(bed.proxy.exit().await, Some(0));
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(1), "{took:?}");
    let stopped = stopped(&bed.proxy).await;
    assert_eq!((&stopped["tunnels"], &stopped["aborted"]), (&10.into(), &10.into()));
    for (client, _) in &mut unresponsive {
        assert_eq!(wire::read(client).await.unwrap().code(), 1012);
    }
    let records = bed.proxy.records();
    let drained = records.iter().filter(|record| record["end"] == "drained").count();
    assert_eq!(drained, 10, "one record each");
}

// Requirements: SR08.
#[tokio::test]
async fn second_signal_ends_at_once() {
    for [first, second] in [[Signal::TERM, Signal::TERM], [Signal::INT, Signal::TERM]] {
        let config = "[drain]\nwindow = \"10m\"\ndeadline = \"20m\"\n";
        let mut bed = TestBed::with(config).await;
        let mut tunnels = Vec::new();
        for _ in 0..10 {
            tunnels.push(bed.open().await);
        }
        bed.proxy.signal(first);
        bed.proxy.record("draining", is_draining).await;
        let (client, backend) = &mut tunnels[0];
        assert_relays(client, backend).await;
        bed.proxy.signal(second);
        assert_eq!(bed.proxy.exit().await, Some(0));
        let stopped = stopped(&bed.proxy).await;
        assert_eq!((&stopped["forced"], &stopped["aborted"]), (&true.into(), &10.into()));
        let records = bed.proxy.records();
        let cut: Vec<&Record> =
            records.iter().filter(|record| record["end"] == "aborted").collect();
        assert_eq!(cut.len(), 10, "one record each");
        assert!(cut.iter().all(|record| record["by"] == "tidegate"));
    }
}

#[tokio::test]
async fn close_code_is_configurable() {
    let config = "[drain]\nwindow = \"10ms\"\ndeadline = \"20s\"\ncode = 4123\n";
    let mut bed = TestBed::with(config).await;
    let (mut client, mut backend) = bed.open().await;
    bed.proxy.signal(Signal::TERM);
    assert_eq!(wire::read(&mut client).await.unwrap().code(), 4123);
    assert_eq!(wire::read(&mut backend).await.unwrap().code(), 1001);
    drop((client, backend));
    assert_eq!(bed.proxy.exit().await, Some(0));
}

#[tokio::test]
async fn http_requests_in_flight_finish() {
    let backend = Backend::raw(|_, mut stream, events| async move {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst";
        stream.write_all(head.as_bytes()).await.unwrap();
        // The test continues the request by sending a byte of its body.
        let _ = events;
        assert_eq!(stream.read_u8().await.unwrap(), b'!');
        stream.write_all(b"later").await.unwrap();
    })
    .await;
    let drain = "[drain]\nwindow = \"10ms\"\ndeadline = \"30s\"\n";
    let mut proxy = Proxy::start(&route(&[backend.address], drain)).await;
    let plain = proxy.address("plain").await;
    let mut stream = BufReader::new(TcpStream::connect(plain).await.unwrap());
    let request = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
    let mut first = [0; 5];
    within_timeout("a part", stream.read_exact(&mut first)).await.unwrap();
    proxy.signal(Signal::TERM);
    proxy.record("draining", is_draining).await;
    stream.write_all(b"!").await.unwrap();
    assert_eq!(read_to_end(&mut stream).await, b"later");
    assert_eq!(proxy.exit().await, Some(0));
}

#[tokio::test]
async fn idle_process_exits_at_once() {
    let mut bed = TestBed::with("[drain]\nwindow = \"10m\"\ndeadline = \"20m\"\n").await;
    // Neither connection has sent a request.
    let (_plain, _secure) = (bed.client.connect_plain().await, bed.client.connect_tls().await);
    bed.proxy.signal(Signal::TERM);
    assert_eq!(bed.proxy.exit().await, Some(0));
}

fn is_draining(record: &Record) -> bool {
    record["message"].as_str().unwrap_or_default().starts_with("draining")
}

async fn stopped(proxy: &Proxy) -> Record {
    proxy.record("stopped", |record| record["message"] == "shutdown complete").await
}
