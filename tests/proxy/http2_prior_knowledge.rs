//! HTTP/2 without TLS, from a proxy in front that terminates it (RFC 9113 3.3).

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};

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
