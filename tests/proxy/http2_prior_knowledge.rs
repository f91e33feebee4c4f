//! HTTP/2 without TLS, from a proxy in front that terminates it (RFC 9113 3.3).

use std::fs;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::{Instant, sleep};

use crate::support::http2::{Http2Client, get, http2_plain_proxy};
use crate::support::{
    Backend, Client, MockBackend, Proxy, Record, assert_relays, exchange, head, route,
    within_timeout,
};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async fn connect(proxy: &Proxy) -> Http2Client {
    let stream = Client::new(proxy).await.connect_plain().await;
    Http2Client::over(stream, &mut h2::client::Builder::new()).await
}

#[tokio::test]
async fn listener_without_tls_serves_both_versions() {
    let backend = Backend::app(OK).await;
    let proxy = http2_plain_proxy(&route(&[backend.address], "")).await;
    let mut client = connect(&proxy).await;
    assert_eq!(client.get("/").await.1, b"ok");
    let mut http1 = BufReader::new(Client::new(&proxy).await.connect_plain().await);
    assert_eq!(exchange(&mut http1, &head::get("/")).await.1, b"ok");
    drop((client, http1));
    proxy.wait_until_idle().await;
}

#[tokio::test]
async fn tunnels_are_as_with_tls() {
    let backend = MockBackend::new().await;
    let proxy = http2_plain_proxy(&route(&[backend.address()], "")).await;
    let mut client = connect(&proxy).await;
    let mut tunnel = client.tunnel("/ws").await;
    let mut far = backend.accept().await;
    assert_relays(&mut tunnel, &mut far).await;
    drop((tunnel, client));
    let record = proxy.end_record("client_disconnected").await;
    assert_eq!((&record["protocol"], &record["listener"]), (&"h2".into(), &"plain".into()));
}

#[tokio::test]
async fn proxy_in_front_names_the_client_of_each_stream() {
    let backend = Backend::app(OK).await;
    let trusted = "[trusted_proxies]\naddresses = [\"127.0.0.1\"]\n";
    let routes = route(&[backend.address], "");
    let proxy = http2_plain_proxy(&format!("{trusted}{routes}")).await;
    let mut client = connect(&proxy).await;
    for address in ["192.0.2.1", "192.0.2.2"] {
        let mut request = get("/");
        request.headers_mut().insert("x-forwarded-for", address.parse().unwrap());
        assert_eq!(client.exchange(request).await.0.status(), 200);
    }
    let heads = backend.heads();
    for (head, address) in heads.iter().zip(["192.0.2.1", "192.0.2.2"]) {
        assert!(head.contains(&format!("\r\nX-Forwarded-For: {address}, 127.0.0.1\r\n")), "{head}");
    }
    assert_eq!(heads.len(), 2);
}

#[tokio::test]
async fn connection_without_a_preface_ends_after_the_header_timeout() {
    let backend = Backend::app(OK).await;
    let routes = route(&[backend.address], "");
    let proxy =
        http2_plain_proxy(&format!("[timeouts]\nrequest_header = \"300ms\"\n{routes}")).await;
    for (sent, end) in [("", "no_request"), ("PR", "head_timeout")] {
        let mut stream = Client::new(&proxy).await.connect_plain().await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let _ = within_timeout("the end", stream.read_to_end(&mut rest)).await;
        let dropped = |record: &Record| record["event"] == "dropped" && record["end"] == end;
        proxy.record(end, dropped).await;
    }
}

/// It applied to the preface, and once more to what followed.
#[tokio::test]
async fn preface_and_first_head_share_one_deadline() {
    let backend = Backend::app(OK).await;
    let routes = route(&[backend.address], "");
    let proxy = http2_plain_proxy(&format!("[timeouts]\nrequest_header = \"4s\"\n{routes}")).await;
    for (sent, end) in [("GET / HTTP", "head_timeout"), ("PRI * HTTP", "no_request")] {
        let started = Instant::now();
        let mut stream = Client::new(&proxy).await.connect_plain().await;
        sleep(Duration::from_millis(3500)).await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        let _ = within_timeout("the end", stream.read_to_end(&mut Vec::new())).await;
        // Twice the time would be 7.5 s.
        let age = started.elapsed();
        assert!((3900..7000).contains(&age.as_millis()), "{sent}: {age:?}");
        drop(stream);
        let dropped = |record: &Record| record["event"] == "dropped" && record["end"] == end;
        proxy.record(end, dropped).await;
    }
}

/// Each of them looked for more a hundred times a second.
#[tokio::test]
async fn part_of_a_preface_costs_nothing_while_it_waits() {
    let backend = Backend::app(OK).await;
    let routes = route(&[backend.address], "");
    let proxy = http2_plain_proxy(&format!("[timeouts]\nrequest_header = \"5m\"\n{routes}")).await;
    let client = Client::new(&proxy).await;
    let mut waiting = Vec::new();
    for part in ["P", "PR", "PRI"].into_iter().cycle().take(600) {
        let mut stream = client.connect_plain().await;
        stream.write_all(part.as_bytes()).await.unwrap();
        waiting.push(stream);
    }
    proxy.wait_for_connections(600).await;
    let before = waits(&proxy);
    sleep(Duration::from_secs(1)).await;
    let more = waits(&proxy) - before;
    // A busy machine adds some to the few of its timers. There were 496 when each looked again every 10 ms.
    assert!(more < 300, "{more} wakes in a second");
    waiting[2].write_all(b" * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    within_timeout("SETTINGS", waiting[2].read_exact(&mut [0; 9])).await.unwrap();
}

/// How often the threads of the proxy have waited, from proc(5).
fn waits(proxy: &Proxy) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", proxy.pid())).unwrap();
    let waited = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    tasks.map(|task| waited(fs::read_to_string(task.unwrap().path().join("status")).unwrap())).sum()
}
