//! Backends that answer a request without reading its body take the body for the next request. It must not be
//! the request of another client.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::{
    Backend, BackendEvent, Client, Proxy, exchange, read_body, read_head, read_response, route,
};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A backend that reads no body, except for `/slow`: there it answers in two parts, and reads the body between
/// them. For each request it reports `CONNECTION:TARGET`, where connections are counted from 1.
async fn careless_backend() -> Backend {
    let connections = Arc::new(AtomicUsize::new(0));
    Backend::raw(move |mut head, mut stream, events| {
        let connection = connections.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            while head.ends_with("\r\n\r\n") {
                let target = head.split(' ').nth(1).unwrap();
                let report = format!("{connection}:{target}").into_bytes();
                let _ = events.send(BackendEvent::Bytes(report));
                let (first, second) = OK.split_at(if target == "/slow" { OK.len() - 1 } else { 0 });
                stream.write_all(first.as_bytes()).await.unwrap();
                if target == "/slow" {
                    stream.read_exact(&mut [0; 4]).await.unwrap();
                }
                stream.write_all(second.as_bytes()).await.unwrap();
                head = read_head(&mut stream).await;
            }
        }
    })
    .await
}

async fn report(backend: &Backend) -> String {
    String::from_utf8(backend.bytes().await).unwrap()
}

/// A connection of a trusted proxy, which carries requests of several clients.
struct TrustedProxy(BufReader<TcpStream>);

impl TrustedProxy {
    async fn start(backend: &Backend) -> (Proxy, Client) {
        let routes = route(&[backend.address], "");
        let trusted = "[trusted_proxies]\naddresses = [\"127.0.0.1\"]\n";
        let proxy = Proxy::start(&format!("{trusted}{routes}")).await;
        let client = Client::new(&proxy).await;
        (proxy, client)
    }

    async fn connect(client: &Client) -> Self {
        Self(BufReader::new(client.connect_plain().await))
    }

    /// Sends a request of the client 203.0.113.`client`, with the length of a body, and the beginning of it.
    async fn send(&mut self, client: u8, request: &str, length: usize, body: &str) {
        let request = format!(
            "{request} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 203.0.113.{client}\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        self.0.write_all(request.as_bytes()).await.unwrap();
    }

    async fn receive(&mut self) {
        let response = read_response(&mut self.0).await;
        assert_eq!(response.status, 200);
        assert_eq!(read_body(&mut self.0, &response).await, b"ok");
    }
}

// Requirements: H42.
#[tokio::test]
async fn unread_body_meets_no_other_client() {
    let backend = careless_backend().await;
    let proxy = Proxy::start(&route(&[backend.address], "")).await;
    let client = Client::new(&proxy).await;
    let mut attacker = BufReader::new(client.connect_plain().await);
    let mut other = BufReader::new(client.connect_plain().await);
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\nX-Rest: ";
    let upload = format!(
        "POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{smuggled}",
        smuggled.len()
    );
    assert_eq!(exchange(&mut attacker, &upload).await.1, b"ok");
    let request = |target| crate::support::head::get(target);
    assert_eq!(exchange(&mut other, &request("/other")).await.1, b"ok");
    assert_eq!(exchange(&mut attacker, &request("/own")).await.1, b"ok");
    for expected in ["1:/upload", "2:/other", "1:/smuggled"] {
        assert_eq!(report(&backend).await, expected);
    }
}

// Requirements: H42.
#[tokio::test]
async fn clients_of_one_proxy_are_told_apart() {
    let backend = careless_backend().await;
    let (_proxy, client) = TrustedProxy::start(&backend).await;
    let mut requests = TrustedProxy::connect(&client).await;
    for (client, request, body) in
        [(1, "POST /1", "hi"), (2, "GET /2", ""), (1, "GET /3", ""), (2, "GET /4", "")]
    {
        requests.send(client, request, body.len(), body).await;
        requests.receive().await;
    }
    for expected in ["1:/1", "2:/2", "1:/3", "2:/4"] {
        assert_eq!(report(&backend).await, expected);
    }
}

// Requirements: H43.
/// Not even the same client, as far as the proxy can tell, uses the connection again.
#[tokio::test]
async fn response_before_the_whole_body_ends_the_connection() {
    let backend = careless_backend().await;
    let (_proxy, client) = TrustedProxy::start(&backend).await;
    let mut early = TrustedProxy::connect(&client).await;
    early.send(1, "POST /early", 4, "ab").await;
    early.receive().await;
    let mut requests = TrustedProxy::connect(&client).await;
    requests.send(1, "POST /slow", 4, "ab").await;
    let response = read_response(&mut requests.0).await;
    let mut body = [0; 2];
    requests.0.read_exact(&mut body[..1]).await.unwrap();
    requests.0.write_all(b"cd").await.unwrap();
    requests.0.read_exact(&mut body[1..]).await.unwrap();
    assert_eq!((response.status, &body), (200, b"ok"));
    requests.send(1, "GET /next", 0, "").await;
    requests.receive().await;
    for expected in ["1:/early", "2:/slow", "3:/next"] {
        assert_eq!(report(&backend).await, expected);
    }
}
