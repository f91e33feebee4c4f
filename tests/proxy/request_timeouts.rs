//! How long connections wait for requests: the time for a head, and idle connections.

use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::head::get;
use crate::support::{
    BASE, Backend, Client, Proxy, exchange, read_response, read_to_end, route, within_timeout,
};

// Requirements: TC06, RL28.
#[tokio::test]
async fn deadline_covers_the_whole_request_head() {
    let backend = Backend::app("HTTP/1.1 204 No Content\r\n\r\n").await;
    let proxy =
        Proxy::start(&route(&[backend.address], "[timeouts]\nrequest_header = \"300ms\"")).await;
    let client = Client::new(&proxy).await;
    let began = tokio::time::Instant::now();
    let silent = async { read_to_end(&mut client.connect_plain().await).await };
    let silent_over_tls = async { read_to_end(&mut client.connect_tls().await).await };
    let half = async {
        let mut stream = client.connect_plain().await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n").await.unwrap();
        read_to_end(&mut stream).await
    };
    let drip = async {
        let (mut reading, mut writing) = tokio::io::split(client.connect_tls().await);
        let dripping = async {
            for byte in get(&format!("/{}", "a".repeat(100))).bytes() {
                let _ = writing.write_all(&[byte]).await;
                let _ = writing.flush().await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            () = dripping => panic!("the whole head was accepted"),
            end = read_to_end(&mut reading) => end,
        }
    };
    let ends = tokio::join!(silent, silent_over_tls, half, drip);
    assert_eq!(ends, (vec![], vec![], vec![], vec![]));
    assert!(began.elapsed() >= Duration::from_millis(300));
    let mut ends = Vec::new();
    for n in 1..=4 {
        let record = proxy.nth_end_record(n).await;
        ends.push(record["end"].as_str().unwrap().to_owned());
        assert_eq!(
            (&record["key"], &record["value"]),
            (&"timeouts.request_header".into(), &"300ms".into())
        );
    }
    ends.sort();
    assert_eq!(ends, ["head_timeout", "head_timeout", "no_request", "no_request"]);
}

/// Browsers open connections that they may never use.
#[tokio::test]
async fn connection_without_a_request_is_recorded_at_debug_level_only() {
    let backend = Backend::app("HTTP/1.1 204 No Content\r\n\r\n").await;
    let settings = "[timeouts]\nrequest_header = \"300ms\"";
    let base = BASE.replace("level = \"debug\"", "level = \"info\"");
    let proxy = Proxy::start_bare(&format!("{base}{}", route(&[backend.address], settings))).await;
    let client = Client::new(&proxy).await;
    assert_eq!(read_to_end(&mut client.connect_tls().await).await, b"");
    let mut half = client.connect_plain().await;
    half.write_all(b"GET").await.unwrap();
    assert_eq!(read_to_end(&mut half).await, b"");
    assert_eq!(proxy.nth_end_record(1).await["end"], "head_timeout");
    let dropped = |reason| {
        let labels = [("stage", "head"), ("reason", reason)];
        async move { proxy.scrape().await.value("tidegate_connections_dropped_total", &labels) }
    };
    assert_eq!(dropped("no_request").await, 1.0);
}

// Requirements: RL40.
#[tokio::test]
async fn idle_keep_alive_connection_closes_without_record() {
    let backend = Backend::app("HTTP/1.1 204 No Content\r\n\r\n").await;
    let settings = "[timeouts]\nrequest_header = \"60s\"\nkeep_alive = \"200ms\"";
    let proxy = Proxy::start(&route(&[backend.address], settings)).await;
    let mut stream = BufReader::new(Client::new(&proxy).await.connect_tls().await);
    stream.write_all(get("/").as_bytes()).await.unwrap();
    assert_eq!(read_response(&mut stream).await.status, 204);
    assert_eq!(read_to_end(&mut stream).await, b"");
    assert_eq!(proxy.outcomes().len(), 0, "{:#?}", proxy.outcomes());
}

/// A balancer in front may keep its connections for a minute, and a slow client gets no more time by it.
#[tokio::test]
async fn idle_connection_outlives_the_time_for_a_head() {
    let backend = Backend::app("HTTP/1.1 204 No Content\r\n\r\n").await;
    let settings = "[timeouts]\nrequest_header = \"3s\"\nkeep_alive = \"1h\"";
    let proxy = Proxy::start(&route(&[backend.address], settings)).await;
    let mut stream = BufReader::new(Client::new(&proxy).await.connect_plain().await);
    let upload =
        get("/").replace("GET", "POST").replace("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\n");
    let idle = Duration::from_secs(4);
    for (request, pause) in [
        (get("/"), Duration::ZERO),
        (upload + "abc", Duration::ZERO),
        (get("/a").repeat(3), idle),
        (format!("\r\n{}", get("/")), Duration::ZERO),
    ] {
        stream.write_all(request.as_bytes()).await.unwrap();
        for _ in request.matches("HTTP/1.1") {
            assert_eq!(read_response(&mut stream).await.status, 204);
        }
        tokio::time::sleep(pause).await;
    }
    stream.write_all(b"GET / HT").await.unwrap();
    assert_eq!(read_to_end(&mut stream).await, b"");
    assert_eq!(proxy.outcomes().len(), 0, "{:#?}", proxy.outcomes());
}

/// The response to a health check is ready and written at once, so that the connection never seems busy.
#[tokio::test]
async fn health_checks_keep_a_connection_open() {
    let backend = Backend::app("HTTP/1.1 204 No Content\r\n\r\n").await;
    let listener = "[[listener]]\nname = \"checked\"\naddress = \"127.0.0.1:0\"\ntls = false\n\
                    health_path = \"/health\"\n";
    let settings = "[timeouts]\nkeep_alive = \"4s\"";
    let routes = route(&[backend.address], settings);
    let proxy = Proxy::start_bare(&format!("{BASE}{listener}{routes}")).await;
    let stream = TcpStream::connect(proxy.address("checked").await).await.unwrap();
    let mut stream = BufReader::new(stream);
    for _ in 0..7 {
        let (response, body) = exchange(&mut stream, &get("/health")).await;
        assert_eq!((response.status, &*body), (200, &b"ok\n"[..]));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// A client that has sent half of its first head does not hold up a drain.
#[tokio::test]
async fn unfinished_head_does_not_hold_up_a_drain() {
    let backend = Backend::app("HTTP/1.1 204 No Content\r\n\r\n").await;
    let settings =
        "[timeouts]\nrequest_header = \"1h\"\n[drain]\nwindow = \"1s\"\ndeadline = \"1h\"";
    let mut proxy = Proxy::start(&route(&[backend.address], settings)).await;
    let client = Client::new(&proxy).await;
    let mut half = client.connect_plain().await;
    half.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
    within_timeout("the connection", async { while proxy.health().await["connections"] != 1 {} })
        .await;
    proxy.signal(Signal::TERM);
    assert_eq!(read_to_end(&mut half).await, b"");
    assert_eq!(proxy.exit().await, Some(0));
}
