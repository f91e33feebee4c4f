//! Backends that accept connections and whose responses fail.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::time::sleep;

use crate::support::{
    Backend, Client, HANDSHAKE, Proxy, Record, read_response, read_to_end, route,
    switching_protocols,
};

/// A handshake from this client; returns the status.
async fn handshake(client: &Client, host: u8, lines: &str) -> u16 {
    let mut stream = client.connect_plain_from([127, 0, 12, host]).await;
    let request = HANDSHAKE.replace("\r\n\r\n", &format!("\r\n{lines}\r\n"));
    stream.write_all(request.as_bytes()).await.unwrap();
    read_response(&mut BufReader::new(stream)).await.status
}

fn is_of(record: &Record, message: &str, backend: SocketAddr) -> bool {
    let text = record["message"].as_str().unwrap_or_default();
    text.starts_with(message) && record["backend"] == backend.to_string()
}

/// Lets clients connect until the broken one of two backends is ejected, then until it is tried again.
async fn is_ejected_and_readmitted(broken: Backend, more: &str, expected: (u16, &str)) {
    let good = Backend::echo().await;
    let proxy = Proxy::start(&route(&[broken.address, good.address], more)).await;
    let client = Client::new(&proxy).await;
    let (status, error) = expected;
    let mut failed = 0;
    for host in 1..=100 {
        match handshake(&client, host, "").await {
            101 => {}
            other => {
                assert_eq!(other, status);
                failed += 1;
            }
        }
    }
    assert_eq!(failed, 3, "after three clients it is tried last");
    let ejected =
        proxy.record("the ejection", |r| is_of(r, "backend ejected", broken.address)).await;
    assert!(ejected["error"].as_str().unwrap().contains(error), "{ejected}");
    assert_eq!((&ejected["clients"], &ejected["time_ms"]), (&3.into(), &10_000.into()));
    let scrape = proxy.scrape().await;
    let id = broken.address.to_string();
    assert_eq!(scrape.sum("tidegate_backend_ejections_total", &[("backend", &id)]), 1.0);
    assert_eq!(scrape.sum("tidegate_backend_state", &[("backend", &id), ("state", "down")]), 1.0);
    let status = proxy.status("down", |s| s["pools"][0]["backends"][0]["state"] == "down").await;
    let problem = status["pools"][0]["backends"][0]["problem"].as_str().unwrap().to_owned();
    assert!(problem.starts_with("ejected for another ") && problem.contains(error), "{problem}");
    proxy.record("its end", |r| is_of(r, "backend readmitted", broken.address)).await;
    proxy.status("untried", |s| s["pools"][0]["backends"][0]["state"] == "untried").await;
}

// Requirements: BM25.
#[tokio::test]
async fn backend_that_closes_handshakes_is_ejected() {
    // It accepts every connection, as a check of its port would see.
    let broken = Backend::raw(|_, stream, _| async move { drop(stream) }).await;
    let expected = (502, "the connection was closed before the response");
    is_ejected_and_readmitted(broken, "", expected).await;
}

#[tokio::test]
async fn backend_that_hangs_is_ejected() {
    let broken = Backend::raw(|_, mut stream, _| async move {
        read_to_end(&mut stream).await;
    });
    let expected = (504, "timeout waiting for the backend's response");
    let more = "[route.timeouts]\nresponse_header = \"100ms\"\n";
    is_ejected_and_readmitted(broken.await, more, expected).await;
}

/// An application that fails on what one client sends.
#[tokio::test]
async fn one_client_cannot_eject_a_backend() {
    let [one, other] = [(); 2].map(|()| {
        Backend::raw(|head, mut stream, _| async move {
            if !head.to_ascii_lowercase().contains("x-crash") {
                stream.write_all(switching_protocols(&head).as_bytes()).await.unwrap();
                read_to_end(&mut stream).await;
            }
        })
    });
    let backends = [one.await, other.await];
    let proxy = Proxy::with_backends(&backends.each_ref().map(|backend| backend.address)).await;
    let client = Client::new(&proxy).await;
    for _ in 0..20 {
        assert_eq!(handshake(&client, 1, "X-Crash: 1\r\n").await, 502);
    }
    for host in 2..20 {
        assert_eq!(handshake(&client, host, "").await, 101);
    }
    assert_eq!(proxy.scrape().await.sum("tidegate_backend_ejections_total", &[]), 0.0);
}

// Requirements: BM22.
#[tokio::test]
async fn last_backend_is_not_ejected() {
    let fails = Arc::new(AtomicBool::new(true));
    let failing = fails.clone();
    let backend = Backend::raw(move |head, mut stream, _| {
        let failing = failing.clone();
        async move {
            if !failing.load(Ordering::Relaxed) {
                stream.write_all(switching_protocols(&head).as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    for host in 1..=20 {
        assert_eq!(handshake(&client, host, "").await, 502);
    }
    fails.store(false, Ordering::Relaxed);
    assert_eq!(handshake(&client, 1, "").await, 101);
    assert_eq!(proxy.scrape().await.sum("tidegate_backend_ejections_total", &[]), 0.0);
}

/// Most clients of a backend that hangs leave before `timeouts.response_header`.
#[tokio::test]
async fn backend_that_clients_leave_counts_as_failed() {
    let backend = Backend::raw(|_, mut stream, _| async move {
        read_to_end(&mut stream).await;
    })
    .await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    let mut waiting = Vec::new();
    for (host, request) in [(1, HANDSHAKE), (2, HANDSHAKE), (3, GET)] {
        let mut stream = client.connect_plain_from([127, 0, 12, host]).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        waiting.push(stream);
    }
    // How long they wait is what counts.
    sleep(Duration::from_millis(5_500)).await;
    drop(waiting);
    for host in 1..=3 {
        let address = format!("127.0.12.{host}:");
        let is_of_client =
            |r: &Record| r["client"].as_str().unwrap_or_default().starts_with(&address);
        let record = proxy.record("its record", is_of_client).await;
        let detail = record["detail"].as_str().unwrap();
        assert_eq!(
            (&record["end"], &record["by"]),
            (&"client_disconnected".into(), &"client".into())
        );
        assert!(detail.contains("after the backend had not responded for 5."), "{detail}");
    }
    proxy.record("the warning", |r| is_of(r, "clients leave before", backend.address)).await;
    let problem = |s: &Record| s["pools"][0]["backends"][0]["problem"].clone();
    let status = proxy.status("failures", |s| !problem(s).is_null()).await;
    let expected =
        "the last handshakes of 2 clients failed: timeout waiting for the backend's response";
    assert_eq!(problem(&status), expected, "the plain request may be a long poll");
}

const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
