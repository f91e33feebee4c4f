//! Backends that cannot be reached, and the backends that serve in their place.

use std::net::SocketAddr;
use std::net::TcpStream as StdStream;
use std::time::Duration;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::control::CONTROL;
use crate::support::{
    Backend, Client, HANDSHAKE, Proxy, read_response, read_to_end, route, within_timeout,
};

/// An address that refuses connections: bound, so that no other process gets it, and not listening.
pub struct RefusingAddress {
    /// The address.
    pub address: SocketAddr,
    socket: Socket,
}

impl RefusingAddress {
    /// Binds a port of its own.
    pub fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self { address, socket }
    }

    /// Accepts connections from now on.
    pub fn listen(self) -> TcpListener {
        self.socket.listen(16).unwrap();
        self.socket.set_nonblocking(true).unwrap();
        TcpListener::from_std(self.socket.into()).unwrap()
    }
}

/// A socket with a full accept queue: connecting to it hangs until the kernel gives up.
pub struct Full {
    /// The address it would listen on.
    pub address: SocketAddr,
    _listener: Socket,
    _queue: Vec<StdStream>,
}

impl Full {
    /// Listens on its own port.
    pub fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let wait = Duration::from_millis(100);
        let mut queue = Vec::new();
        while let Ok(stream) = StdStream::connect_timeout(&address, wait) {
            queue.push(stream);
        }
        Self { address, _listener: listener, _queue: queue }
    }
}

// Requirements: BM01.
#[tokio::test]
async fn refused_connection_is_503() {
    let (one, other) = (RefusingAddress::new(), RefusingAddress::new());
    let proxy = Proxy::with_backends(&[one.address, other.address]).await;
    let client = Client::new(&proxy).await;
    let mut waits = std::collections::BTreeSet::new();
    for n in 1..=12 {
        let response = client.request(HANDSHAKE.as_bytes()).await;
        assert_eq!((response.status, response.header("connection")), (503, Some("close")));
        let wait: u32 = response.header("retry-after").unwrap().parse().unwrap();
        assert!((5..=10).contains(&wait), "{wait}");
        waits.insert(wait);
        let record = proxy.nth_end_record(n).await;
        assert_eq!(
            (&record["end"], &record["key"]),
            (&"no_backend".into(), &"route.backends".into())
        );
        let detail = record["detail"].as_str().unwrap();
        for address in [one.address, other.address] {
            assert!(detail.contains(&format!("{address}: connection refused")), "{record}");
        }
    }
    // RFC 9110 10.2.3, H17: with jitter, so that clients do not return at the same time.
    assert!(waits.len() > 1, "{waits:?}");
}

// Requirements: BM01.
#[tokio::test]
async fn next_backend_serves_when_one_is_down() {
    let backend = Backend::echo().await;
    // In one of the two orders the unreachable backend is the client's first choice.
    for number in 0..6_u8 {
        let down = RefusingAddress::new();
        let proxy = Proxy::with_backends(&[down.address, backend.address]).await;
        let client = Client::new(&proxy).await;
        let mut stream = client.connect_plain_from([127, 0, 0, 10 + number]).await;
        stream.write_all(HANDSHAKE.as_bytes()).await.unwrap();
        assert_eq!(read_response(&mut tokio::io::BufReader::new(stream)).await.status, 101);
        let record = proxy.end_record("client_disconnected").await;
        assert_eq!(record["backend"], backend.address.to_string());
    }
}

// Requirements: BM02, UH28.
#[tokio::test]
async fn connect_timeout_is_504() {
    let full = Full::new();
    let more = "[timeouts]\nconnect = \"200ms\"";
    let proxy = Proxy::start(&route(&[full.address], more)).await;
    let response = Client::new(&proxy).await.request(HANDSHAKE.as_bytes()).await;
    assert_eq!(response.status, 504);
    let record = proxy.end_record("connect_timeout").await;
    assert_eq!((&record["key"], &record["value"]), (&"timeouts.connect".into(), &"200ms".into()));
    assert!(record["age_ms"].as_u64().unwrap() < 2000);
    assert_eq!(record["detail"], format!("{}: timed out", full.address));
}

#[tokio::test]
async fn record_names_an_unresolved_backend() {
    let named = "backends = [{ address = \"no-such-host.invalid:9001\", id = \"chat\" }]";
    let proxy = Proxy::start(&format!(
        "[[route]]\nname = \"all\"\nhost = \"*\"\norigins = [\"*\"]\n{named}\n"
    ))
    .await;
    assert_eq!(Client::new(&proxy).await.request(HANDSHAKE.as_bytes()).await.status, 503);
    let record = proxy.end_record("no_backend").await;
    let expected = "chat (no-such-host.invalid:9001): the name does not resolve: ";
    assert!(record["detail"].as_str().unwrap().starts_with(expected), "{record}");
}

// Requirements: BM02.
#[tokio::test]
async fn hanging_backend_leaves_time_for_the_next() {
    let full = Full::new();
    let backend = Backend::echo().await;
    let more = "[timeouts]\nconnect = \"1s\"";
    let proxy = Proxy::start(&route(&[full.address, backend.address], more)).await;
    let client = Client::new(&proxy).await;
    for number in 0..4_u8 {
        let mut stream = client.connect_plain_from([127, 0, 0, 10 + number]).await;
        stream.write_all(HANDSHAKE.as_bytes()).await.unwrap();
        assert_eq!(read_response(&mut tokio::io::BufReader::new(stream)).await.status, 101);
    }
}

// Requirements: UH29.
#[tokio::test]
async fn client_disconnect_cancels_the_connect() {
    let full = Full::new();
    let proxy = Proxy::start(&route(&[full.address], "[timeouts]\nconnect = \"10s\"")).await;
    let mut stream = Client::new(&proxy).await.connect_plain().await;
    stream.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    // Nothing visible from outside shows that the proxy is connecting.
    tokio::time::sleep(Duration::from_millis(500)).await;
    drop(stream);
    let record = proxy.end_record("client_disconnected").await;
    assert!(record["age_ms"].as_u64().unwrap() < 5000, "{record}");
}

// Requirements: TC05.
#[tokio::test]
async fn disconnected_client_still_gets_a_record() {
    let refusing = RefusingAddress::new();
    let proxy = Proxy::with_backends(&[refusing.address]).await;
    let client = Client::new(&proxy).await;
    for n in 1..=20 {
        let mut stream = client.connect_plain().await;
        stream.write_all(HANDSHAKE.as_bytes()).await.unwrap();
        drop(stream);
        let record = proxy.nth_end_record(n).await;
        let end = record["end"].as_str().unwrap();
        assert!(matches!(end, "client_disconnected" | "no_backend"), "{record}");
    }
}

/// The response of `/readyz`.
async fn ready(proxy: &Proxy) -> bool {
    let mut stream = tokio::net::TcpStream::connect(proxy.admin().await).await.unwrap();
    stream
        .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let said = within_timeout("/readyz", read_to_end(&mut stream)).await;
    said.starts_with(b"HTTP/1.1 200")
}

/// Whether a backend of `/status.json` has this state, and has failed so often.
fn is_in_state(status: &Value, state: &str, failures: u64) -> bool {
    let backend = &status["pools"][0]["backends"][0];
    backend["state"] == state && backend["connect_failures"].as_u64() >= Some(failures)
}

/// The states of the only backend in the metrics.
async fn states(proxy: &Proxy) -> Vec<&'static str> {
    let scrape = proxy.scrape().await;
    let is_set = |state: &&str| scrape.sum("tidegate_backend_state", &[("state", *state)]) == 1.0;
    ["up", "untried", "down", "drained"].into_iter().filter(is_set).collect()
}

// Requirements: BM25, BM27.
#[tokio::test]
async fn failed_backend_is_down_until_it_accepts() {
    let refusing = RefusingAddress::new();
    let more = format!("proxy_protocol = true\n{CONTROL}");
    let proxy = Proxy::start(&route(&[refusing.address], &more)).await;
    proxy.status("untried", |status| is_in_state(status, "untried", 0)).await;
    assert_eq!(states(&proxy).await, ["untried"]);
    assert!(ready(&proxy).await);

    // The only request; only probes follow.
    assert_eq!(Client::new(&proxy).await.request(HANDSHAKE.as_bytes()).await.status, 503);
    assert_eq!(states(&proxy).await, ["down"]);
    assert!(!ready(&proxy).await);
    proxy.status("failed probes", |status| is_in_state(status, "down", 3)).await;
    proxy
        .record("a warning", |record| {
            record["message"]
                == "backend down: connection attempts failed in a row; it is tried last until one \
                    succeeds"
        })
        .await;
    let url = format!("ws://localhost:{}/", proxy.address("plain").await.port());
    let explained = proxy.command(json!({"command": "explain", "url": url})).await;
    assert_eq!(explained["reason"], "no_backend");
    let shown = explained.to_string();
    assert!(shown.contains("all are down; a request would still try"), "{shown}");
    assert!(shown.contains(", down: connection refused, "), "{shown}");
    let problem = |status: &Value| status["pools"][0]["backends"][0]["problem"].clone();
    let status = proxy.status("the cause", |status| problem(status).is_string()).await;
    let problem = problem(&status).as_str().unwrap().to_owned();
    assert!(
        problem.starts_with("connection refused, ") && problem.ends_with(" in a row"),
        "{problem}"
    );

    let listener = refusing.listen();
    let (mut probe, _) = within_timeout("a probe", listener.accept()).await.unwrap();
    // The connection ends without a reset, even if the server has sent something.
    probe.write_all(b"220 hello\r\n").await.unwrap();
    let mut sent = Vec::new();
    within_timeout("the end", probe.read_to_end(&mut sent)).await.unwrap();
    assert_eq!(sent, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", "a PROXY header without an address");
    drop(probe);
    proxy.status("up", |status| is_in_state(status, "up", 3)).await;
    assert_eq!(states(&proxy).await, ["up"]);
    assert!(ready(&proxy).await);
    proxy
        .record("the end", |record| record["message"] == "backend up: it accepts connections again")
        .await;
}

/// The state is that of the backend, whatever route shows it, and so is the number of failures.
#[tokio::test]
async fn routes_of_one_backend_show_the_same_failures() {
    let refusing = RefusingAddress::new();
    let chat = route(&[refusing.address], "path = \"/ws\"").replace("\"all\"", "\"chat\"");
    let proxy = Proxy::start(&format!("{}{chat}", route(&[refusing.address], ""))).await;
    assert_eq!(Client::new(&proxy).await.request(HANDSHAKE.as_bytes()).await.status, 503);
    let is_probed = |status: &Value| {
        let [all, chat] = [0, 1].map(|route| &status["pools"][route]["backends"][0]);
        assert_eq!(all["connect_failures"], chat["connect_failures"], "{status}");
        is_in_state(status, "down", 2)
    };
    proxy.status("a failed probe", is_probed).await;
}

/// Most pages answer 200 whatever the client asks to upgrade to: otherwise one client could exclude
/// every backend for all others.
#[tokio::test]
async fn status_200_does_not_exclude_a_backend() {
    let backend = Backend::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    for _ in 0..6 {
        assert_eq!(client.request(HANDSHAKE.as_bytes()).await.status, 200);
    }
    assert!(ready(&proxy).await);
}
