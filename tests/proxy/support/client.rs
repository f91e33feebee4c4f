//! Clients of the proxy: tungstenite or raw bytes, over TLS or plain TCP.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::process::Proxy;
use super::within_timeout;

/// Connects to one proxy.
#[derive(Clone)]
pub struct Client {
    /// Address of the TLS listener.
    pub tls: SocketAddr,
    /// Address of the plain listener.
    pub plain: SocketAddr,
    connector: TlsConnector,
    /// As `connector`, but selects HTTP/2.
    http2_connector: TlsConnector,
}

/// The head of a response, read without an HTTP library.
#[derive(Debug)]
pub struct RawResponse {
    /// The status code; 0 if there is none.
    pub status: u16,
    /// Status line and header lines, as sent.
    pub head: String,
}

impl RawResponse {
    /// The value of a header, the first if there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// All values of a header, joined by `, `.
    pub fn all(&self, name: &str) -> String {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let lines = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name));
        lines.map(|(_, value)| value.trim()).collect::<Vec<_>>().join(", ")
    }
}

impl Client {
    /// Trusts the certificate of a proxy started by [`Proxy::start`].
    pub async fn new(proxy: &Proxy) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(proxy.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut http2_config = config.clone();
        http2_config.alpn_protocols = vec![b"h2".to_vec()];
        Self {
            tls: proxy.address("tls").await,
            plain: proxy.address("plain").await,
            connector: TlsConnector::from(Arc::new(config)),
            http2_connector: TlsConnector::from(Arc::new(http2_config)),
        }
    }

    /// Opens a TLS connection with the server name `localhost`.
    pub async fn connect_tls(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.tls).await.unwrap();
        stream.set_nodelay(true).unwrap();
        self.tls_over(stream).await.unwrap()
    }

    /// Opens a TLS connection for HTTP/2. Nothing is sent on it.
    pub async fn connect_http2(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.tls).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = within_timeout("TLS", self.http2_connector.connect(name, stream)).await;
        let stream = stream.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        stream
    }

    /// Performs a TLS handshake over any stream.
    pub async fn tls_over<S>(&self, stream: S) -> std::io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from("localhost").unwrap();
        within_timeout("TLS", self.connector.connect(name, stream)).await
    }

    /// Opens a plain TCP connection.
    pub async fn connect_plain(&self) -> TcpStream {
        let stream = TcpStream::connect(self.plain).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Opens a plain TCP connection from another loopback address (`127.0.0.0/8`).
    pub async fn connect_plain_from(&self, host: impl Into<IpAddr>) -> TcpStream {
        connect(host, self.plain).await
    }

    /// Opens a WebSocket over TLS with tungstenite, adding these headers to the handshake.
    pub async fn websocket(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<(WebSocketStream<TlsStream<TcpStream>>, Response), Error> {
        let mut request = format!("wss://localhost{path}").into_client_request().unwrap();
        for (name, value) in headers {
            let name: hyper::header::HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        within_timeout("the handshake", client_async(request, self.connect_tls().await)).await
    }

    /// Opens a WebSocket over TLS; panics if the handshake is rejected.
    pub async fn open(&self, path: &str) -> WebSocketStream<TlsStream<TcpStream>> {
        self.websocket(path, &[]).await.unwrap().0
    }

    /// Opens a WebSocket over plain TCP with a handwritten handshake, for raw frames.
    pub async fn raw_tunnel(&self) -> BufReader<TcpStream> {
        let mut stream = BufReader::new(self.connect_plain().await);
        stream.write_all(HANDSHAKE.as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        stream
    }

    /// Sends raw bytes on a new plain connection and reads one response head.
    pub async fn request(&self, bytes: &[u8]) -> RawResponse {
        let mut stream = BufReader::new(self.connect_plain().await);
        stream.write_all(bytes).await.unwrap();
        read_response(&mut stream).await
    }
}

/// Opens a connection from another loopback address (`127.0.0.0/8`).
pub async fn connect(host: impl Into<IpAddr>, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((host.into(), 0).into()).unwrap();
    let stream = within_timeout("a connection", socket.connect(to)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Reads one response head.
pub async fn read_response(stream: &mut (impl AsyncBufReadExt + Unpin)) -> RawResponse {
    let head = read_head(stream).await;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    RawResponse { status, head }
}

/// Sends a request and reads the whole response.
pub async fn exchange(
    stream: &mut (impl AsyncBufReadExt + AsyncWriteExt + Unpin),
    request: &str,
) -> (RawResponse, Vec<u8>) {
    stream.write_all(request.as_bytes()).await.unwrap();
    let response = read_response(stream).await;
    let body = read_body(stream, &response).await;
    (response, body)
}

/// Reads the body that the response head announces: by length, chunked, or until EOF.
pub async fn read_body(
    stream: &mut (impl AsyncBufReadExt + Unpin),
    response: &RawResponse,
) -> Vec<u8> {
    if response.header("transfer-encoding") == Some("chunked") {
        return chunks(stream).await;
    }
    match response.header("content-length") {
        Some(length) => {
            let mut body = vec![0; length.parse().unwrap()];
            within_timeout("a body", stream.read_exact(&mut body)).await.unwrap();
            body
        }
        None => read_to_end(stream).await,
    }
}

/// Reads a chunked body (RFC 9112 7.1); panics unless it is complete and without trailers.
async fn chunks(stream: &mut (impl AsyncBufReadExt + Unpin)) -> Vec<u8> {
    within_timeout("chunks", async {
        let mut body = Vec::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            let size = usize::from_str_radix(line.trim_end(), 16);
            let size = size.unwrap_or_else(|_| panic!("{line:?} is not a chunk size"));
            let start = body.len();
            body.resize(start + size + 2, 0);
            stream.read_exact(&mut body[start..]).await.unwrap();
            assert!(body.ends_with(b"\r\n"));
            body.truncate(start + size);
            if size == 0 {
                return body;
            }
        }
    })
    .await
}

/// Reads up to and including the empty line, or until the stream ends.
pub async fn read_head(stream: &mut (impl AsyncBufReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    within_timeout("a head", async {
        loop {
            match stream.read_until(b'\n', &mut head).await {
                Ok(0) | Err(_) => return,
                Ok(_) if head.ends_with(b"\r\n\r\n") => return,
                Ok(_) => {}
            }
        }
    })
    .await;
    String::from_utf8_lossy(&head).into_owned()
}

/// Reads until the stream ends, by EOF or by an error.
pub async fn read_to_end(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut all = Vec::new();
    let mut piece = [0; 16 * 1024];
    within_timeout("the end of a stream", async {
        while let Ok(n @ 1..) = stream.read(&mut piece).await {
            all.extend_from_slice(&piece[..n]);
        }
    })
    .await;
    all
}

/// A valid opening handshake.
pub const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";
