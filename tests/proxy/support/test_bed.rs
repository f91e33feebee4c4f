//! A proxy with one raw backend, where the test controls both ends of every tunnel.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};
use tokio_rustls::client::TlsStream;

use super::client::{HANDSHAKE, RawResponse, read_head, read_response};
use super::{Backend, Client, Proxy, Record, route, switching_protocols, wire, within_timeout};

/// One end of a plain connection.
pub type PlainStream = BufReader<TcpStream>;
/// The client's end of a TLS connection.
pub type TlsClientStream = BufReader<TlsStream<TcpStream>>;

/// A raw backend that hands over each connection once it has sent its 101.
pub struct MockBackend {
    backend: Backend,
    arrivals: Mutex<mpsc::Receiver<PlainStream>>,
}

impl MockBackend {
    /// Listens on its own port.
    pub async fn new() -> Self {
        Self::with("").await
    }

    /// Adds header lines to its 101.
    pub async fn with(lines: &'static str) -> Self {
        let (sender, arrivals) = mpsc::channel(1024);
        let backend = Backend::raw(move |head, mut stream, _| {
            let sender = sender.clone();
            async move {
                let response =
                    switching_protocols(&head).replacen("\r\n", &format!("\r\n{lines}"), 1);
                stream.write_all(response.as_bytes()).await.unwrap();
                drop(sender.send(stream).await);
            }
        });
        Self { backend: backend.await, arrivals: Mutex::new(arrivals) }
    }

    /// The head of the most recent request.
    pub fn last_head(&self) -> String {
        self.backend.heads().pop().unwrap()
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.backend.address
    }

    /// Waits for the next connection.
    pub async fn accept(&self) -> PlainStream {
        let mut arrivals = self.arrivals.lock().await;
        within_timeout("a connection at the backend", arrivals.recv()).await.unwrap()
    }
}

/// A proxy with one route, which leads to one [`MockBackend`].
pub struct TestBed {
    pub proxy: Proxy,
    pub client: Client,
    pub backend: MockBackend,
}

impl TestBed {
    /// Starts a proxy; `more` adds keys to the route, and may add further tables.
    pub async fn with(more: &str) -> Self {
        Self::with_backend(MockBackend::new().await, more).await
    }

    /// Starts a proxy with the given backend.
    pub async fn with_backend(backend: MockBackend, more: &str) -> Self {
        let proxy = Proxy::start(&route(&[backend.address()], more)).await;
        Self { client: Client::new(&proxy).await, proxy, backend }
    }

    /// Opens a tunnel from a plain client; returns both ends.
    pub async fn open(&self) -> (PlainStream, PlainStream) {
        (self.client.raw_tunnel().await, self.backend.accept().await)
    }

    /// Opens a tunnel from a client at this loopback address.
    pub async fn open_from(&self, host: [u8; 4]) -> (PlainStream, PlainStream) {
        let client = upgrade(self.client.connect_plain_from(host).await).await;
        (client, self.backend.accept().await)
    }

    /// Opens a tunnel from a TLS client.
    pub async fn open_secure(&self) -> (TlsClientStream, PlainStream) {
        (upgrade(self.client.connect_tls().await).await, self.backend.accept().await)
    }

    /// Opens a tunnel from a plain client; the end of `side` comes first.
    pub async fn open_for(&self, side: Side) -> (PlainStream, PlainStream) {
        let (client, backend) = self.open().await;
        match side {
            Side::Client => (client, backend),
            Side::Backend => (backend, client),
        }
    }

    /// Waits for the end record of the n-th tunnel, counted from 1.
    pub async fn tunnel_end(&self, session: usize) -> Record {
        self.proxy.tunnel_end(session).await
    }
}

/// One side of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Backend,
}

impl Side {
    /// Both sides of a tunnel.
    pub const BOTH: [Self; 2] = [Self::Client, Self::Backend];

    /// The name that records use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Backend => "backend",
        }
    }

    /// The opposite side.
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Backend,
            Self::Backend => Self::Client,
        }
    }

    /// Sorts the streams of this side and of the other one: the client's first.
    pub fn client_first<S>(self, own: S, other: S) -> (S, S) {
        match self {
            Self::Client => (own, other),
            Self::Backend => (other, own),
        }
    }

    /// Encodes a frame as this side sends it.
    pub fn frame(self, first: u8, payload: &[u8]) -> Vec<u8> {
        match self {
            Self::Client => wire::masked(first, payload),
            Self::Backend => wire::unmasked(first, payload),
        }
    }
}

impl Proxy {
    /// Waits for the end record of the n-th tunnel of this process, counted from 1.
    pub async fn tunnel_end(&self, session: usize) -> Record {
        let matches = |record: &Record| record["event"] == "ended" && record["session"] == session;
        self.record("an ended tunnel", matches).await
    }

    /// The JSON body of `/healthz`.
    pub async fn health(&self) -> Value {
        let (response, body) = get(self.admin().await, "/healthz").await;
        assert_eq!(response.status, 200, "{response:?}");
        serde_json::from_slice(&body).unwrap()
    }

    /// Waits until `/healthz` reports no connection and no tunnel.
    pub async fn wait_until_idle(&self) {
        self.wait_for_tunnels(0).await;
    }

    /// Waits until `/healthz` reports this many connections.
    pub async fn wait_for_connections(&self, count: usize) {
        within_timeout("the connections", async {
            while self.health().await["connections"] != count {}
        })
        .await;
    }

    /// Waits until `/healthz` reports `left` tunnels and no other connection.
    pub async fn wait_for_tunnels(&self, left: usize) {
        within_timeout("the gauges to return", async {
            loop {
                let health = self.health().await;
                if (&health["connections"], &health["tunnels"]) == (&left.into(), &left.into()) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }
}

/// Performs the opening handshake; panics unless the response is a 101.
pub async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> BufReader<S> {
    let mut stream = BufReader::new(stream);
    stream.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    stream
}

/// Sends one GET on a new connection; returns head and body.
pub async fn get(address: SocketAddr, path: &str) -> (RawResponse, Vec<u8>) {
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let response = read_response(&mut stream).await;
    let mut body = Vec::new();
    let _ = within_timeout("a body", stream.read_to_end(&mut body)).await;
    (response, body)
}

/// Closes a connection with a reset.
pub fn reset(stream: PlainStream) {
    let stream = stream.into_inner();
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Sends a pong from the backend and waits for it at the client: by then the proxy has also
/// processed everything that the client sent earlier.
pub async fn wait_until_client_data_processed<C>(client: &mut C, backend: &mut PlainStream)
where
    C: AsyncRead + Unpin,
{
    backend.write_all(&wire::unmasked(0x80 | wire::PONG, b"processed")).await.unwrap();
    let frame = wire::read_past_pings(client).await.unwrap();
    assert_eq!((frame.opcode(), &frame.payload[..]), (wire::PONG, &b"processed"[..]));
}

/// Sends one message in each direction, and asserts that both arrive.
pub async fn assert_relays<C>(client: &mut C, backend: &mut PlainStream)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    client.write_all(&wire::masked(0x80 | wire::TEXT, b"up")).await.unwrap();
    client.flush().await.unwrap();
    let frame = wire::read(backend).await.unwrap();
    assert_eq!((frame.opcode(), &frame.payload[..]), (wire::TEXT, &b"up"[..]));
    backend.write_all(&wire::unmasked(0x80 | wire::TEXT, b"down")).await.unwrap();
    let frame = wire::read_past_pings(client).await.unwrap();
    assert_eq!((frame.opcode(), &frame.payload[..]), (wire::TEXT, &b"down"[..]));
}

/// Completes the closing handshake with code 1000, started by the client.
pub async fn close_normally<C>(mut client: C, mut backend: PlainStream)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let close = wire::close(1000, "");
    client.write_all(&wire::masked(0x80 | wire::CLOSE, &close)).await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(wire::read(&mut backend).await.unwrap().code(), 1000);
    backend.write_all(&wire::unmasked(0x80 | wire::CLOSE, &close)).await.unwrap();
    assert_eq!(wire::read_past_pings(&mut client).await.unwrap().code(), 1000);
}

/// Completes the end of a tunnel after a violation by `side`: the other side gets a Close, sends an
/// answer to what it had received before, and its own Close. The answer must reach the side at fault
/// ahead of its Close. Returns the Closes to the side at fault and to the other one.
pub async fn close_after_violation<S, T>(
    side: Side,
    at_fault: &mut S,
    other: &mut T,
) -> (wire::Frame, wire::Frame)
where
    S: AsyncRead + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let to_other = wire::read(other).await.unwrap();
    assert_eq!(to_other.opcode(), wire::CLOSE);
    let answer = side.other().frame(0x80 | wire::TEXT, b"the answer");
    let close = side.other().frame(0x80 | wire::CLOSE, &to_other.payload);
    other.write_all(&[answer, close].concat()).await.unwrap();
    other.flush().await.unwrap();
    assert_eq!(wire::read(at_fault).await.unwrap().payload, b"the answer");
    (wire::read(at_fault).await.unwrap(), to_other)
}

/// Waits for the proxy's Close on both sides and answers it; returns code and reason.
pub async fn answer_close(mut client: PlainStream, mut backend: PlainStream) -> (u16, String) {
    let close = wire::read_past_pings(&mut client).await.unwrap();
    client.write_all(&wire::masked(0x88, &close.payload)).await.unwrap();
    let other = wire::read(&mut backend).await.unwrap();
    backend.write_all(&wire::unmasked(0x88, &other.payload)).await.unwrap();
    (close.code(), String::from_utf8(close.payload[2..].to_vec()).unwrap())
}
