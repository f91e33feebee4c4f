//! Limits of size, number and time: heads, connections, tunnels and handshakes.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::head::get;
use crate::support::{
    Backend, Client, HANDSHAKE, Proxy, RawResponse, exchange, read_response, read_to_end, route,
    within_timeout,
};

// Requirements: RL27.
#[tokio::test]
async fn many_fields_in_single_bytes_stay_cheap() {
    let backend = Backend::echo().await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let mut stream = BufReader::new(Client::new(&proxy).await.connect_plain().await);
    let before = proxy.cpu_ticks();
    let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "a:b\r\n".repeat(1000));
    for byte in head.as_bytes() {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
    }
    assert_eq!(read_response(&mut stream).await.status, 431);
    assert!(proxy.cpu_ticks() - before < 200, "{} ticks", proxy.cpu_ticks() - before);
}

/// A proxy with these limits and route settings, an echo backend, and a client.
async fn limited(caps: &str, more: &str) -> (Proxy, Client, Backend) {
    let backend = Backend::echo().await;
    let proxy =
        Proxy::start(&route(&[backend.address], &format!("{more}\n[concurrency]\n{caps}"))).await;
    let client = Client::new(&proxy).await;
    (proxy, client, backend)
}

/// Sends a handshake from this address; returns the response and the stream.
async fn open(client: &Client, host: [u8; 4]) -> (RawResponse, BufReader<TcpStream>) {
    let mut stream = BufReader::new(client.connect_plain_from(host).await);
    stream.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    (read_response(&mut stream).await, stream)
}

/// Opens a tunnel as soon as a permit is free: it is released right after the record is written.
async fn open_when_free(client: &Client, host: [u8; 4]) -> BufReader<TcpStream> {
    within_timeout("a free permit", async {
        loop {
            let (response, stream) = open(client, host).await;
            if response.status == 101 {
                return stream;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

const ME: [u8; 4] = [127, 0, 0, 1];
const OTHER: [u8; 4] = [127, 0, 0, 2];

// Requirements: TC16, UH31.
#[tokio::test]
async fn tunnels_per_client_are_limited() {
    let (proxy, client, _backend) = limited("tunnels_per_client = 2", "").await;
    let (first, kept) = open(&client, ME).await;
    let (second, left) = open(&client, ME).await;
    assert_eq!((first.status, second.status), (101, 101));
    let (third, _) = open(&client, ME).await;
    assert_eq!((third.status, third.header("connection")), (429, Some("close")));
    let wait: u32 = third.header("retry-after").unwrap().parse().unwrap();
    assert!((5..=10).contains(&wait));
    let record = proxy.end_record("client_limit").await;
    assert_eq!(record["key"], "concurrency.tunnels_per_client");
    assert_eq!((&record["value"], &record["stage"]), (&"2".into(), &"admit".into()));
    assert_eq!(open(&client, OTHER).await.0.status, 101);
    drop(left);
    proxy.end_record("client_disconnected").await;
    // The tunnel of the other client may have ended first.
    proxy.nth_record("both ends", 2, |record| record["end"] == "client_disconnected").await;
    open_when_free(&client, ME).await;
    drop(kept);
}

#[tokio::test]
async fn rejected_handshake_releases_its_permit() {
    let refusing = Backend::answering("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n").await;
    let page = Backend::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let wrong = Backend::answering("HTTP/1.1 101 Switching Protocols\r\n\r\n").await;
    let silent = Backend::raw(|_, mut stream, _| async move {
        read_to_end(&mut stream).await;
    })
    .await;
    let down = "127.0.0.1:1".parse().unwrap();
    let good = Backend::echo().await;
    let mut config = String::new();
    for (path, address) in [
        ("/refusing", refusing.address),
        ("/page", page.address),
        ("/wrong", wrong.address),
        ("/silent", silent.address),
        ("/down", down),
        ("/good", good.address),
    ] {
        let paths = format!("path = \"{path}\"\norigins");
        config.push_str(&route(&[address], "").replace("all", path).replace("origins", &paths));
    }
    config.push_str("[concurrency]\ntunnels = 1\n[timeouts]\nresponse_header = \"700ms\"\n");
    let proxy = Proxy::start(&config).await;
    let client = Client::new(&proxy).await;
    for (path, status) in
        [("/refusing", 401), ("/page", 200), ("/wrong", 502), ("/silent", 504), ("/down", 503)]
    {
        for _ in 0..3 {
            let sent = HANDSHAKE.replacen("/ws", path, 1);
            assert_eq!(client.request(sent.as_bytes()).await.status, status, "{path}");
        }
    }
    // A client that disconnects while the backend has not responded.
    let mut leaving = client.connect_plain().await;
    leaving.write_all(HANDSHAKE.replacen("/ws", "/silent", 1).as_bytes()).await.unwrap();
    drop(leaving);
    proxy.nth_end_record(16).await;
    within_timeout("the permit to be released", async {
        let sent = HANDSHAKE.replacen("/ws", "/good", 1);
        while client.request(sent.as_bytes()).await.status != 101 {}
    })
    .await;
}

// Requirements: TC16.
#[tokio::test]
async fn connections_per_client_are_limited_before_tls() {
    let (proxy, client, _backend) = limited("connections_per_client = 3", "").await;
    // An idle connection, one over TLS, and a tunnel, which counts until it ends.
    let idle = client.connect_plain().await;
    let secure = client.connect_tls().await;
    let (response, mut tunnel) = open(&client, ME).await;
    assert_eq!(response.status, 101);
    for address in [client.tls, client.plain] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert_eq!(read_to_end(&mut stream).await, b"");
    }
    let record = proxy.end_record("client_limit").await;
    assert_eq!(record["key"], "concurrency.connections_per_client");
    assert_eq!((&record["value"], &record["stage"]), (&"3".into(), &"accept".into()));
    assert_eq!(open(&client, OTHER).await.0.status, 101);
    // A connection that ends frees one permit.
    tunnel.shutdown().await.unwrap();
    drop(tunnel);
    proxy.nth_record("both ends", 2, |record| record["end"] == "client_disconnected").await;
    let again = open_when_free(&client, ME).await;
    drop((idle, secure, again));
}

// Requirements: UH30.
#[tokio::test]
async fn handshake_rate_excludes_plain_requests() {
    let (proxy, client, _backend) =
        limited("[rates]\nhandshakes_per_client = \"2/s\"\nhandshakes_burst = 3", "").await;
    let began = tokio::time::Instant::now();
    let mut open_ones = Vec::new();
    for _ in 0..3 {
        let (response, stream) = open(&client, ME).await;
        assert_eq!(response.status, 101);
        open_ones.push(stream);
    }
    let (response, _) = open(&client, ME).await;
    if began.elapsed() < Duration::from_millis(400) {
        assert_eq!(response.status, 429);
        assert!(response.header("retry-after").is_some());
        let record = proxy.end_record("client_rate_limit").await;
        assert_eq!(record["key"], "rates.handshakes_per_client");
        assert_eq!(record["value"], "2/s, burst 3");
    }
    assert_eq!(open(&client, OTHER).await.0.status, 101);
    for _ in 0..10 {
        // The echo backend does not speak plain HTTP; any other status will do.
        assert_ne!(client.request(get("/").as_bytes()).await.status, 429);
    }
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(open(&client, ME).await.0.status, 101);
}

#[tokio::test]
async fn plain_requests_have_a_rate_of_their_own() {
    let backend = Backend::app("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let rates = "[rates]\nrequests_per_client = \"1/s\"\nrequests_burst = 3\n";
    let proxy = Proxy::start(&route(&[backend.address], rates)).await;
    let client = Client::new(&proxy).await;
    let statuses = async |host: [u8; 4]| {
        let mut stream = BufReader::new(client.connect_plain_from(host).await);
        let mut statuses = Vec::new();
        loop {
            let (response, _) = exchange(&mut stream, &get("/")).await;
            statuses.push(response.status);
            if response.status != 200 || statuses.len() == 100 {
                return (statuses, response.all("retry-after"));
            }
        }
    };
    // As many as it takes on a slow machine, and never fewer than the burst.
    let (answered, retry_after) = statuses(ME).await;
    assert!(answered.len() > 3 && answered.last() == Some(&429), "{answered:?}");
    assert!(!retry_after.is_empty());
    let record = proxy.end_record("client_request_rate").await;
    assert_eq!(record["key"], "rates.requests_per_client");
    assert_eq!((&record["value"], &record["status"]), (&"1/s, burst 3".into(), &429.into()));
    let labels = [("reason", "client_request_rate")];
    let scrape = proxy.scrape().await;
    assert_eq!(scrape.sum("tidegate_requests_rejected_total", &labels), 1.0);
    assert_eq!(scrape.sum("tidegate_http_requests_total", &[("status", "4xx")]), 1.0);
    // Neither other clients nor handshakes are concerned.
    assert!(statuses(OTHER).await.0.starts_with(&[200; 3]));
    let (response, _) = open(&client, ME).await;
    assert_ne!(response.status, 429);
}

// Requirements: UH32.
#[tokio::test]
async fn total_tunnels_are_limited() {
    let (proxy, client, _backend) = limited("tunnels = 2", "").await;
    let (_, first) = open(&client, ME).await;
    let (_, _second) = open(&client, OTHER).await;
    let (response, _) = open(&client, [127, 0, 0, 3]).await;
    assert_eq!(response.status, 503);
    assert!(response.header("retry-after").is_some());
    let record = proxy.end_record("proxy_limit").await;
    assert_eq!((&record["key"], &record["value"]), (&"concurrency.tunnels".into(), &"2".into()));
    drop(first);
    proxy.end_record("client_disconnected").await;
    open_when_free(&client, [127, 0, 0, 3]).await;
}

#[tokio::test]
async fn route_limit_survives_a_reload() {
    let (proxy, client, _backend) = limited("", "tunnels = 1").await;
    let (_, first) = open(&client, ME).await;
    for _ in 0..2 {
        let (response, _) = open(&client, OTHER).await;
        assert_eq!(response.status, 503);
        assert!(response.header("retry-after").is_some());
        let record = proxy.end_record("route_limit").await;
        assert_eq!((&record["key"], &record["value"]), (&"route.tunnels".into(), &"1".into()));
        proxy.reload().await;
    }
    drop(first);
    proxy.end_record("client_disconnected").await;
    open_when_free(&client, OTHER).await;
}

#[tokio::test]
async fn total_connections_are_limited() {
    let (proxy, client, _backend) = limited("connections = 2", "").await;
    let mut first = BufReader::new(client.connect_plain().await);
    let _second = client.connect_plain_from(OTHER).await;
    assert_eq!(exchange(&mut first, &get("/")).await.0.status, 502);
    let mut third = client.connect_plain_from([127, 0, 0, 3]).await;
    assert_eq!(read_to_end(&mut third).await, b"");
    let record = proxy.end_record("proxy_limit").await;
    assert_eq!(
        (&record["key"], &record["value"]),
        (&"concurrency.connections".into(), &"2".into())
    );
    assert_eq!(record["stage"], "accept");
}

// Requirements: TC17.
#[tokio::test]
async fn network_prefix_counts_as_one_client() {
    let more = "[client_key]\nipv4_prefix = 24";
    let (proxy, client, _backend) = limited("tunnels_per_client = 1", more).await;
    let (first, _kept) = open(&client, ME).await;
    assert_eq!(first.status, 101);
    assert_eq!(open(&client, OTHER).await.0.status, 429);
    assert_eq!(proxy.end_record("client_limit").await["client_key"], "127.0.0.0/24");
    let (response, mut elsewhere) = open(&client, [127, 0, 1, 1]).await;
    assert_eq!(response.status, 101);
    elsewhere.write_all(&[0x89, 0x80, 1, 2, 3, 4]).await.unwrap();
    let mut pong = [0; 2];
    elsewhere.read_exact(&mut pong).await.unwrap();
    assert_eq!(pong, [0x8a, 0]);
}
