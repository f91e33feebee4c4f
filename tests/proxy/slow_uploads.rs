//! Clients that send request bodies slowly, or many requests at once, hold backends for a bounded time and in bounded
//! numbers.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use crate::support::head::get;
use crate::support::{
    Backend, BackendEvent, Client, Proxy, RawResponse, read_response, read_to_end, route,
    within_timeout,
};

/// The head of an upload.
fn post(target: &str, length: usize) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n")
}

/// Sends a body in parts of this size, one every tenth of a second, until there is a response.
async fn upload(client: &Client, target: &str, part: usize, parts: usize) -> RawResponse {
    let (reading, mut writing) = client.connect_plain().await.into_split();
    writing.write_all(post(target, part * parts).as_bytes()).await.unwrap();
    let sending = async {
        for _ in 0..parts {
            sleep(Duration::from_millis(100)).await;
            if writing.write_all(&vec![b'x'; part]).await.is_err() {
                break;
            }
        }
    };
    let mut reading = BufReader::new(reading);
    let (response, ()) = tokio::join!(read_response(&mut reading), sending);
    response
}

/// Answers with 204 after the whole body, or for `/early` with the head of a 200 before it.
async fn application() -> Backend {
    Backend::raw(|head, mut stream, events| async move {
        let length = RawResponse { status: 0, head: head.clone() };
        let length: usize = length.header("content-length").unwrap().parse().unwrap();
        if head.starts_with("POST /early") {
            let early = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n";
            stream.write_all(early.as_bytes()).await.unwrap();
        }
        if stream.read_exact(&mut vec![0; length]).await.is_ok() {
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        }
        let _ = events.send(BackendEvent::Bytes(Vec::new()));
    })
    .await
}

// Requirements: RL35.
#[tokio::test]
async fn body_below_the_least_rate_is_a_408() {
    let backend = application().await;
    let routes = ["", "path = \"/slow\"\ntimeouts = { idle = \"3s\", min_body_rate = \"off\" }"]
        .map(|keys| route(&[backend.address], keys));
    let routes = routes.concat().replacen("\"all\"", "\"first\"", 1);
    let proxy = Proxy::start(&format!("{routes}[timeouts]\nidle = \"3s\"\n")).await;
    let client = Client::new(&proxy).await;
    // 10 B/s for 10 s, the same where it is allowed, and 5 kB/s.
    let (dripped, allowed, steady) = tokio::join!(
        upload(&client, "/", 1, 100),
        upload(&client, "/slow", 1, 45),
        upload(&client, "/", 500, 45),
    );
    assert_eq!([dripped.status, allowed.status, steady.status], [408, 204, 204]);
    let record = proxy.end_record("body_too_slow").await;
    assert_eq!((&record["event"], &record["stage"]), (&"rejected".into(), &"backend".into()));
    assert_eq!(record["key"], "timeouts.min_body_rate");
    assert_eq!(record["value"], "500B/s");
    let labels = [("stage", "backend"), ("reason", "body_too_slow")];
    assert_eq!(proxy.scrape().await.value("tidegate_requests_rejected_total", &labels), 1.0);
    for _ in 0..3 {
        backend.bytes().await;
    }
}

#[tokio::test]
async fn slow_body_during_a_response_aborts_it() {
    let backend = application().await;
    let more = "timeouts = { idle = \"2s\", min_body_rate = \"1KiB/s\" }";
    let proxy = Proxy::start(&route(&[backend.address], more)).await;
    let response = upload(&Client::new(&proxy).await, "/early", 1, 100).await;
    assert_eq!(response.status, 200);
    let record = proxy.end_record("body_too_slow").await;
    assert_eq!((&record["event"], &record["status"]), (&"aborted".into(), &200.into()));
    assert_eq!(record["key"], "timeouts.min_body_rate");
    assert_eq!(record["value"], "1KiB/s");
    backend.bytes().await;
}

#[tokio::test]
async fn requests_of_a_client_in_progress_are_limited() {
    let backend = Backend::raw(|head, mut stream, _| async move {
        if head.starts_with("GET /stream") {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nmore follows").await.unwrap();
        }
        if head.starts_with("GET /short") {
            let last = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
            stream.write_all(last.as_bytes()).await.unwrap();
        }
        read_to_end(&mut stream).await;
    })
    .await;
    let more = "[concurrency]\nrequests_per_client = 2";
    let proxy = Proxy::start(&route(&[backend.address], more)).await;
    let client = Client::new(&proxy).await;
    let mut streaming = BufReader::new(client.connect_plain().await);
    streaming.write_all(get("/stream").as_bytes()).await.unwrap();
    assert_eq!(read_response(&mut streaming).await.status, 200);
    let mut uploading = client.connect_plain().await;
    uploading.write_all(post("/upload", 10).as_bytes()).await.unwrap();
    while backend.heads().len() < 2 {
        backend.next_event().await;
    }
    let refused = client.request(get("/short").as_bytes()).await;
    assert_eq!(refused.status, 429);
    assert!(refused.header("retry-after").is_some());
    let record = proxy.end_record("client_request_limit").await;
    assert_eq!(record["key"], "concurrency.requests_per_client");
    assert_eq!((&record["value"], &record["stage"]), (&"2".into(), &"admit".into()));
    let labels = [("stage", "admit"), ("reason", "client_request_limit")];
    let scrape = proxy.scrape().await;
    assert_eq!(scrape.value("tidegate_requests_rejected_total", &labels), 1.0);
    assert_eq!(scrape.sum("tidegate_http_requests_total", &[("status", "4xx")]), 1.0);
    let mut other = BufReader::new(client.connect_plain_from([127, 0, 0, 2]).await);
    other.write_all(get("/short").as_bytes()).await.unwrap();
    assert_eq!(read_response(&mut other).await.status, 204);
    // The end of a response and that of a request body free their places.
    drop(streaming);
    proxy.record("the stream", |record| record["target"] == "/stream").await;
    drop(uploading);
    proxy.record("the upload", |record| record["target"] == "/upload").await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = BufReader::new(client.connect_plain().await);
        stream.write_all(get("/stream").as_bytes()).await.unwrap();
        assert_eq!(read_response(&mut stream).await.status, 200);
        held.push(stream);
    }
}

/// An application with a single worker: the queue of its listening socket holds few more connections.
struct SingleWorker {
    listener: TcpListener,
    address: SocketAddr,
}

impl SingleWorker {
    fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        socket.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(socket.into()).unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    async fn accept(&self) -> TcpStream {
        within_timeout("a connection", self.listener.accept()).await.unwrap().0
    }
}

#[tokio::test]
async fn pool_full_of_slow_uploads_is_not_down() {
    let worker = SingleWorker::new();
    let more = "timeouts = { connect = \"300ms\" }";
    let proxy = Proxy::start(&route(&[worker.address], more)).await;
    let client = Client::new(&proxy).await;
    let mut uploading = BufReader::new(client.connect_plain().await);
    uploading.write_all((post("/upload", 2) + "a").as_bytes()).await.unwrap();
    let mut held = worker.accept().await;
    within_timeout("the upload", async {
        let mut got = vec![0; 4096];
        let mut read = 0;
        while !got[..read].ends_with(b"\r\n\r\na") {
            read += held.read(&mut got[read..]).await.unwrap();
        }
    })
    .await;
    // Some of these requests fill the queue and wait; the others cannot connect.
    let (mut waiting, mut timeouts) = (Vec::new(), 0);
    while timeouts < 5 {
        let mut stream = BufReader::new(client.connect_plain().await);
        stream.write_all(get("/short").as_bytes()).await.unwrap();
        match timeout(Duration::from_secs(2), read_response(&mut stream)).await {
            Ok(response) => {
                assert_eq!(response.status, 504);
                timeouts += 1;
            }
            Err(_) => waiting.push(stream),
        }
        assert!(waiting.len() < 64, "the queue never fills");
    }
    let record = proxy.end_record("connect_timeout").await;
    let detail = record["detail"].as_str().unwrap();
    let expected = ": timed out, while it waits for the rest of 1 request bodies";
    assert_eq!(detail, format!("{}{expected}", worker.address));
    let scrape = proxy.scrape().await;
    let state = |state| scrape.sum("tidegate_backend_state", &[("state", state)]);
    assert_eq!([state("up"), state("down")], [1.0, 0.0]);
    assert!(scrape.sum("tidegate_backend_connect_failures_total", &[]) >= 5.0);
    let message = |text: &'static str| {
        proxy
            .records()
            .iter()
            .filter(|record| {
                record["message"].as_str().is_some_and(|message| message.starts_with(text))
            })
            .count()
    };
    assert_eq!(message("backend accepts no connection while"), 1);
    assert_eq!(message("backend down"), 0);
    // Once the uploads have ended, a timeout counts again.
    uploading.write_all(b"b").await.unwrap();
    within_timeout("the last byte", held.read_exact(&mut [0])).await.unwrap();
    let began = Instant::now();
    while message("backend down") == 0 {
        assert!(began.elapsed() < crate::support::TIMEOUT, "the backend never counts as down");
        let response = client.request(get("/short").as_bytes()).await;
        assert_eq!(response.status, 504);
    }
}
