//! HTTP/2 clients of the proxy: the h2 library, or frames written by hand.

use std::io;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use hyper::{HeaderMap, Request, Response};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;

use super::{BASE, Client, Proxy, within_timeout};

/// Starts a proxy whose TLS listener offers HTTP/2, which is the default; otherwise as [`Proxy::start`].
pub async fn http2_proxy(rest: &str) -> Proxy {
    http2_proxy_with("", rest).await
}

/// As [`http2_proxy`], with more keys of the listener.
pub async fn http2_proxy_with(listener: &str, rest: &str) -> Proxy {
    let base = BASE.replace("name = \"tls\"\n", &format!("name = \"tls\"\n{listener}"));
    Proxy::start_bare(&format!("{base}{rest}")).await
}

/// Starts a proxy whose listener without TLS accepts HTTP/2; otherwise as [`Proxy::start`].
pub async fn http2_plain_proxy(rest: &str) -> Proxy {
    let base = BASE.replace("tls = false\n", "tls = false\nhttp2 = true\n");
    Proxy::start_bare(&format!("{base}{rest}")).await
}

/// A connection of the h2 library. Dropping it closes the connection.
pub struct Http2Client {
    /// Sends requests.
    pub sender: SendRequest<Bytes>,
    connection: JoinSet<Result<(), h2::Error>>,
}

impl Http2Client {
    /// Connects to a proxy.
    pub async fn connect(client: &Client) -> Self {
        // Like a browser: streams that are not read must not use up the window of the connection.
        let mut builder = h2::client::Builder::new();
        builder.initial_connection_window_size(8 << 20);
        Self::over(client.connect_http2().await, &mut builder).await
    }

    /// Uses a connection, with these settings.
    pub async fn over<S>(stream: S, builder: &mut h2::client::Builder) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = builder.handshake(stream).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        Self { sender, connection: tasks }
    }

    /// Sends a request head; the body may follow.
    pub async fn send(
        &mut self,
        request: Request<()>,
        is_end: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let sender = within_timeout("a stream", self.sender.clone().ready()).await;
        sender.unwrap().send_request(request, is_end).unwrap()
    }

    /// Sends a request without a body; returns the whole response.
    pub async fn exchange(&mut self, request: Request<()>) -> (Response<()>, Vec<u8>) {
        let (response, _) = self.send(request, true).await;
        let (head, mut body) = within_timeout("a response", response).await.unwrap().into_parts();
        (Response::from_parts(head, ()), read_body(&mut body).await)
    }

    /// Sends a GET for this path; returns the whole response.
    pub async fn get(&mut self, path: &str) -> (Response<()>, Vec<u8>) {
        self.exchange(get(path)).await
    }

    /// Waits for the end of the connection; returns the error, if there was one.
    pub async fn end(&mut self) -> Option<h2::Error> {
        let ended = within_timeout("the end of a connection", self.connection.join_next()).await;
        ended.unwrap().unwrap().err()
    }
}

/// A GET request of `localhost`.
pub fn get(path: &str) -> Request<()> {
    Request::get(format!("https://localhost{path}")).body(()).unwrap()
}

/// Reads a body to its end, and returns the credit for it.
pub async fn read_body(body: &mut RecvStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(data) = within_timeout("a body", body.data()).await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    all
}

/// The trailers, after the body was read.
pub async fn trailers(body: &mut RecvStream) -> HeaderMap {
    within_timeout("trailers", body.trailers()).await.unwrap().unwrap_or_default()
}

/// Sends all of `data` as flow control permits.
pub async fn send_all(stream: &mut SendStream<Bytes>, mut data: Bytes, is_end: bool) {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let mut capacity = stream.capacity();
        if capacity == 0 {
            let waiting = std::future::poll_fn(|cx| stream.poll_capacity(cx));
            capacity = within_timeout("credit", waiting).await.unwrap().unwrap();
        }
        let now = data.split_to(capacity.min(data.len()));
        stream.send_data(now, false).unwrap();
    }
    if is_end {
        stream.send_data(Bytes::new(), true).unwrap();
    }
}

/// A frame (RFC 9113 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFrame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// Error codes (RFC 9113 7).
pub const NO_ERROR: u32 = 0;
pub const PROTOCOL_ERROR: u32 = 1;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const STREAM_CLOSED: u32 = 5;
pub const REFUSED_STREAM: u32 = 7;
pub const COMPRESSION_ERROR: u32 = 9;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// Encodes a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Encodes fields without compression (RFC 7541 6.2.2).
pub fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            match text.len() {
                short @ ..127 => block.push(short as u8),
                long => {
                    block.push(127);
                    let mut rest = long - 127;
                    while rest >= 128 {
                        block.push((rest % 128) as u8 | 128);
                        rest /= 128;
                    }
                    block.push(rest as u8);
                }
            }
            block.extend(text.as_bytes());
        }
    }
    block
}

/// The fields of a GET request.
pub const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/")];

/// A HEADERS frame with a whole GET request.
pub fn get_frame(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields(&[&GET[..], more].concat()))
}

/// A connection on which the test writes frames itself.
pub struct RawHttp2 {
    stream: TlsStream<TcpStream>,
}

impl RawHttp2 {
    /// Connects, and sends the preface with empty SETTINGS.
    pub async fn connect(client: &Client) -> Self {
        let mut raw = Self { stream: client.connect_http2().await };
        raw.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        raw.write(&frame(SETTINGS, 0, 0, b"")).await;
        raw
    }

    /// Writes bytes; a closed connection is not an error, and shows when it is read.
    pub async fn write(&mut self, bytes: &[u8]) {
        let writing = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        let _ = within_timeout("a write", writing).await;
    }

    /// Reads the next frame; `None` at the end of the connection.
    pub async fn read(&mut self) -> Option<RawFrame> {
        let reading = async {
            let mut header = [0; 9];
            self.stream.read_exact(&mut header).await.ok()?;
            let [high, middle, low, kind, flags, a, b, c, d] = header;
            let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
            self.stream.read_exact(&mut payload).await.ok()?;
            Some(RawFrame { kind, flags, stream: u32::from_be_bytes([a, b, c, d]), payload })
        };
        within_timeout("a frame", reading).await
    }

    /// Reads until a frame of this kind on this stream.
    pub async fn read_until(&mut self, kind: u8, stream: u32) -> RawFrame {
        loop {
            let frame = self.read().await.expect("the connection has ended");
            if (frame.kind, frame.stream) == (kind, stream) {
                return frame;
            }
        }
    }

    /// Reads until a frame of one of these kinds; `None` at the end of the connection.
    pub async fn read_first(&mut self, kinds: &[u8]) -> Option<RawFrame> {
        loop {
            let frame = self.read().await?;
            if kinds.contains(&frame.kind) {
                return Some(frame);
            }
        }
    }

    /// The error code of the RST_STREAM for a stream.
    pub async fn reset_code(&mut self, stream: u32) -> u32 {
        code(&self.read_until(RST_STREAM, stream).await.payload)
    }

    /// Reads to the end of the connection; returns the error code of the last GOAWAY.
    pub async fn goaway_code(&mut self) -> Option<u32> {
        let mut found = None;
        while let Some(frame) = self.read().await {
            if frame.kind == GOAWAY {
                found = Some(code(&frame.payload[4..]));
            }
        }
        found
    }

    /// Writes until the connection ends or `next` returns nothing more; returns the code of its GOAWAY.
    pub async fn flood(
        mut self,
        mut next: impl FnMut(u32) -> ControlFlow<(), Vec<u8>>,
    ) -> Option<u32> {
        let mut round = 0;
        while let ControlFlow::Continue(bytes) = next(round) {
            if self.stream.write_all(&bytes).await.is_err() {
                break;
            }
            round += 1;
        }
        let _ = self.stream.flush().await;
        self.goaway_code().await
    }
}

fn code(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload[..4].try_into().unwrap())
}

/// The stream of an extended CONNECT.
pub struct Http2Tunnel {
    pub sender: SendStream<Bytes>,
    pub receiver: RecvStream,
    received: Bytes,
}

/// An extended CONNECT for `websocket` (RFC 8441 5).
pub fn connect(path: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::connect(format!("https://localhost{path}"))
        .extension(h2::ext::Protocol::from_static("websocket"))
        .body(())
        .unwrap();
    for (name, value) in headers {
        let name: hyper::header::HeaderName = name.parse().unwrap();
        request.headers_mut().append(name, value.parse().unwrap());
    }
    request
}

impl Http2Client {
    /// Sends an extended CONNECT; returns the head of the response, and the stream.
    pub async fn connect_websocket(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (Response<()>, BufReader<Http2Tunnel>) {
        let headers = [&[("sec-websocket-version", "13")], headers].concat();
        // RFC 8441 3: not before the server has announced it.
        within_timeout("the settings", async {
            while !self.sender.is_extended_connect_protocol_enabled() {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        })
        .await;
        let (response, sender) = self.send(connect(path, &headers), false).await;
        let (head, receiver) = within_timeout("a response", response).await.unwrap().into_parts();
        let tunnel = Http2Tunnel { sender, receiver, received: Bytes::new() };
        (Response::from_parts(head, ()), BufReader::new(tunnel))
    }

    /// Opens a tunnel; panics unless the response is a 200.
    pub async fn tunnel(&mut self, path: &str) -> BufReader<Http2Tunnel> {
        let (head, tunnel) = self.connect_websocket(path, &[]).await;
        assert_eq!(head.status(), 200, "{head:?}");
        tunnel
    }
}

/// Returns the credit for all bytes that are read.
impl AsyncRead for Http2Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.received.is_empty() {
            match ready!(this.receiver.poll_data(cx)) {
                Some(Ok(data)) => this.received = data,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let taken = this.received.split_to(this.received.len().min(buf.remaining()));
        this.receiver.flow_control().release_capacity(taken.len()).unwrap();
        buf.put_slice(&taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Http2Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.sender.reserve_capacity(buf.len());
        let mut capacity = self.sender.capacity();
        if capacity == 0 {
            match ready!(self.sender.poll_capacity(cx)) {
                Some(Ok(assigned)) => capacity = assigned,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let data = Bytes::copy_from_slice(&buf[..capacity.min(buf.len())]);
        let len = data.len();
        self.sender.send_data(data, false).map_err(io::Error::other)?;
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.sender.send_data(Bytes::new(), true).map_err(io::Error::other))
    }
}
