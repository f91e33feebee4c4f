//! How HTTP/2 connections begin and end.

use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use crate::support::http2::{
    GET, GOAWAY, HEADERS, Http2Client, NO_ERROR, RawHttp2, SETTINGS, fields, frame, get, get_frame,
    http2_proxy,
};
use crate::support::{Backend, Client, Proxy, RawResponse, route, within_timeout};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async fn proxy_for(more: &str) -> (Proxy, Client, Backend) {
    let backend = Backend::app(OK).await;
    let proxy = http2_proxy(&format!("{more}{}", route(&[backend.address], ""))).await;
    let client = Client::new(&proxy).await;
    (proxy, client, backend)
}

#[tokio::test]
async fn settings_announce_the_limits() {
    let (_proxy, client, _backend) = proxy_for("").await;
    let mut raw = RawHttp2::connect(&client).await;
    let settings = raw.read().await.unwrap();
    assert_eq!((settings.kind, settings.flags, settings.stream), (SETTINGS, 0, 0));
    let setting = |entry: &[u8]| {
        let id = u16::from_be_bytes([entry[0], entry[1]]);
        (id, u32::from_be_bytes(entry[2..6].try_into().unwrap()))
    };
    let mut settings: Vec<_> = settings.payload.chunks(6).map(setting).collect();
    settings.sort_unstable();
    // Concurrent streams, initial window, size of the header list (RFC 9113 6.5.2), and extended CONNECT (RFC
    // 8441 3).
    assert_eq!(settings, [(3, 100), (4, 64 << 10), (6, (40 << 10) + 32 * 108), (8, 1)]);
}

// Requirements: TL20.
#[tokio::test]
async fn other_bytes_than_the_preface_end_the_connection() {
    let (proxy, client, _backend) = proxy_for("").await;
    let mut stream = client.connect_http2().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = within_timeout("the end", stream.read_to_end(&mut rest)).await;
    let record = proxy.end_record("http2_invalid").await;
    assert_eq!((&record["event"], &record["protocol"]), (&"dropped".into(), &"h2".into()));
}

// Requirements: TL19.
#[tokio::test]
async fn http_1_stays_available() {
    let (_proxy, client, _backend) = proxy_for("").await;
    let mut stream = tokio::io::BufReader::new(client.connect_tls().await);
    let (response, body): (RawResponse, _) =
        crate::support::exchange(&mut stream, &crate::support::head::get("/")).await;
    assert_eq!((response.status, &body[..]), (200, &b"ok"[..]));
}

#[tokio::test]
async fn silent_connection_ends_after_the_header_timeout() {
    let (proxy, client, _backend) = proxy_for("[timeouts]\nrequest_header = \"300ms\"\n").await;
    let mut raw = RawHttp2::connect(&client).await;
    assert_eq!(raw.goaway_code().await, Some(NO_ERROR));
    assert_eq!(proxy.end_record("no_request").await["key"], "timeouts.request_header");
    // Not even a preface.
    let mut stream = client.connect_http2().await;
    let mut rest = Vec::new();
    let _ = within_timeout("the end", stream.read_to_end(&mut rest)).await;
    let silent = |record: &crate::support::Record| record["end"] == "no_request";
    proxy.nth_record("the second one", 2, silent).await;
}

#[tokio::test]
async fn incomplete_head_ends_the_connection() {
    let (proxy, client, _backend) = proxy_for("[timeouts]\nrequest_header = \"300ms\"\n").await;
    for is_first in [true, false] {
        let mut raw = RawHttp2::connect(&client).await;
        if !is_first {
            raw.write(&get_frame(1, &[])).await;
            raw.read_until(HEADERS, 1).await;
        }
        // Without END_HEADERS.
        raw.write(&frame(HEADERS, 0, 3, &fields(&GET))).await;
        assert_eq!(raw.goaway_code().await, Some(NO_ERROR));
    }
    let late = |record: &crate::support::Record| record["end"] == "head_timeout";
    proxy.nth_record("both", 2, late).await;
}

#[tokio::test]
async fn idle_connection_ends_with_goaway() {
    let (_proxy, client, _backend) = proxy_for("[timeouts]\nkeep_alive = \"300ms\"\n").await;
    let mut http2 = Http2Client::connect(&client).await;
    for _ in 0..3 {
        assert_eq!(http2.get("/").await.1, b"ok");
    }
    assert!(http2.end().await.is_none());
    // A client that does not answer the PING after the GOAWAY.
    let mut raw = RawHttp2::connect(&client).await;
    raw.write(&get_frame(1, &[])).await;
    assert_eq!(raw.goaway_code().await, Some(NO_ERROR));
}

/// A backend that answers once `true` is sent.
async fn held_backend() -> (Backend, watch::Sender<bool>) {
    let (go, wait) = watch::channel(false);
    let backend = Backend::raw(move |_, mut stream, _| {
        let mut wait = wait.clone();
        async move {
            wait.wait_for(|go| *go).await.unwrap();
            let _ = stream.write_all(OK.as_bytes()).await;
        }
    });
    (backend.await, go)
}

// Requirements: E17.
#[tokio::test]
async fn drain_lets_open_requests_end() {
    let (backend, go) = held_backend().await;
    let mut proxy = http2_proxy(&route(&[backend.address], "")).await;
    let client = Client::new(&proxy).await;
    let mut raw = RawHttp2::connect(&client).await;
    let mut http2 = Http2Client::connect(&client).await;
    raw.write(&get_frame(1, &[])).await;
    let (response, _) = http2.send(get("/"), true).await;
    within_timeout("two requests", async {
        while backend.heads().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    proxy.signal(Signal::TERM);
    let goaway = raw.read_until(GOAWAY, 0).await;
    assert_eq!(goaway.payload, [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    go.send(true).unwrap();
    assert_eq!(within_timeout("the response", response).await.unwrap().status(), 200);
    assert!(http2.end().await.is_none());
    raw.read_until(HEADERS, 1).await;
    drop(raw);
    assert_eq!(proxy.exit().await, Some(0));
}

// Requirements: H228.
#[tokio::test]
async fn goaway_from_the_client_leaves_its_requests() {
    let (_proxy, client, _backend) = proxy_for("").await;
    let mut raw = RawHttp2::connect(&client).await;
    let goaway = frame(GOAWAY, 0, 0, &[0; 8]);
    raw.write(&[get_frame(1, &[]), goaway].concat()).await;
    raw.read_until(HEADERS, 1).await;
    assert_eq!(raw.goaway_code().await, Some(NO_ERROR));
}

// Requirements: H201.
#[tokio::test]
async fn stream_that_was_reset_meanwhile_reaches_no_backend() {
    let (_proxy, client, backend) = proxy_for("").await;
    let mut raw = RawHttp2::connect(&client).await;
    let reset = |stream| frame(crate::support::http2::RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    raw.write(
        &[get_frame(1, &[]), reset(1), get_frame(3, &[]), reset(3), get_frame(5, &[])].concat(),
    )
    .await;
    raw.read_until(HEADERS, 5).await;
    assert_eq!(backend.heads().len(), 1);
}

// Requirements: E18, H212.
#[tokio::test]
async fn stream_above_the_limit_is_refused() {
    let (backend, go) = held_backend().await;
    let proxy = http2_proxy(&route(&[backend.address], "")).await;
    let client = Client::new(&proxy).await;
    let mut raw = RawHttp2::connect(&client).await;
    let all: Vec<u8> = (0..101).flat_map(|n| get_frame(2 * n + 1, &[])).collect();
    raw.write(&all).await;
    assert_eq!(raw.reset_code(201).await, crate::support::http2::REFUSED_STREAM);
    go.send(true).unwrap();
    let mut heads = 0;
    while heads < 100 {
        let frame = raw.read().await.unwrap();
        heads += usize::from(frame.kind == HEADERS);
    }
    raw.write(&get_frame(203, &[])).await;
    raw.read_until(HEADERS, 203).await;
}

#[tokio::test]
async fn connection_counts_until_it_ends() {
    let (proxy, client, _backend) = proxy_for("").await;
    let mut http2 = Http2Client::connect(&client).await;
    let request = Request::post("https://localhost/").header("content-length", 2);
    let (response, mut upload) = http2.send(request.body(()).unwrap(), false).await;
    upload.send_data(Bytes::from_static(b"ok"), true).unwrap();
    assert_eq!(within_timeout("a response", response).await.unwrap().status(), 200);
    assert_eq!(proxy.health().await["connections"], 1);
    drop(http2);
    proxy.wait_until_idle().await;
}
