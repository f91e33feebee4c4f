//! A bridge from HTTP/1.1 to HTTP/2: each WebSocket that it accepts becomes a stream (RFC 8441) of a connection to the
//! proxy, so that every scenario can measure HTTP/2. It relays bytes and checks nothing.

use std::future::{Future, poll_fn};
use std::io::Write;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use h2::client::{Builder, SendRequest};
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::Request;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::spawn_local;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::cli::{BridgeOptions, Group};
use crate::client::connect::{STEP_TIMEOUT, within};
use crate::client::tls;
use crate::error::Error;
use crate::http::{HEAD_BYTES_MAX, field};

const READ_BYTES: usize = 64 << 10;
/// Like Chromium's.
const STREAM_WINDOW: u32 = 6 << 20;
const CONNECTION_WINDOW: u32 = 15 << 20;

struct Bridge {
    options: BridgeOptions,
    tls: TlsConnector,
    /// The connection for further streams, and how many it has had.
    newest: Mutex<Option<(SendRequest<Bytes>, usize)>>,
}

/// Relays until the process is ended.
pub async fn run(options: BridgeOptions) -> Result<(), Error> {
    let mut config = (*tls::config(&options.ca, Group::X25519, true, None)?).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind(options.listen).await?;
    writeln!(std::io::stdout().lock(), "listening {}", listener.local_addr()?)?;
    let bridge = Rc::new(Bridge {
        options,
        tls: TlsConnector::from(Arc::new(config)),
        newest: Mutex::new(None),
    });
    loop {
        let (stream, _) = listener.accept().await?;
        let bridge = bridge.clone();
        spawn_local(async move {
            if let Err(error) = bridge.serve(stream).await {
                eprintln!("loadgen bridge: {}", error.0);
            }
        });
    }
}

impl Bridge {
    async fn serve(&self, mut stream: TcpStream) -> Result<(), Error> {
        stream.set_nodelay(true)?;
        let head = within("request", STEP_TIMEOUT, read_head(&mut stream)).await?;
        let path = head.split(' ').nth(1).unwrap_or("/");
        let key = field(&head, "sec-websocket-key").ok_or_else(|| Error::new("not a WebSocket"))?;
        let request = Request::connect(format!("https://{}{path}", self.options.name))
            .extension(Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13")
            .body(())
            .map_err(|error| Error::new(error.to_string()))?;
        let mut sender = self.connection().await?;
        let (response, up) = sender.send_request(request, false).map_err(failed)?;
        let response = within("response", STEP_TIMEOUT, async { response.await.map_err(failed) });
        let response = response.await?;
        if response.status() != 200 {
            return Err(Error::new(format!("handshake rejected: {}", response.status())));
        }
        let accept = derive_accept_key(key.as_bytes());
        let switching = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        stream.write_all(switching.as_bytes()).await?;
        let (reader, writer) = stream.into_split();
        let sending = spawn_local(send(reader, up));
        let received = receive(response.into_body(), writer).await;
        sending.abort();
        received
    }

    /// A connection that may have one more stream.
    async fn connection(&self) -> Result<SendRequest<Bytes>, Error> {
        if self.options.streams == 1 {
            // Without the lock: connections open at the same time.
            return within("connection", STEP_TIMEOUT, self.connect()).await;
        }
        let mut newest = self.newest.lock().await;
        if let Some((sender, streams)) = &mut *newest
            && *streams < self.options.streams
        {
            *streams += 1;
            return Ok(sender.clone());
        }
        let sender = within("connection", STEP_TIMEOUT, self.connect()).await?;
        *newest = Some((sender.clone(), 1));
        Ok(sender)
    }

    async fn connect(&self) -> Result<SendRequest<Bytes>, Error> {
        let name = ServerName::try_from(self.options.name.clone())
            .map_err(|error| Error::new(error.to_string()))?;
        let stream = TcpStream::connect(self.options.connect).await?;
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(name, stream).await?;
        let mut builder = Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let (mut sender, mut connection) = builder.handshake(stream).await.map_err(failed)?;
        // RFC 8441 3: not before the server has announced it.
        poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(ended) => {
                Poll::Ready(Err(ended.map_or_else(failed, |()| Error::new("the connection ended"))))
            }
            Poll::Pending if sender.is_extended_connect_protocol_enabled() => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await?;
        spawn_local(async move {
            if let Err(error) = connection.await {
                eprintln!("loadgen bridge: {error}");
            }
        });
        sender = sender.ready().await.map_err(failed)?;
        Ok(sender)
    }
}

async fn read_head(stream: &mut TcpStream) -> Result<String, Error> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > HEAD_BYTES_MAX || stream.read_buf(&mut head).await? == 0 {
            return Err(Error::new("no complete request header"));
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// From the WebSocket to the stream, as flow control permits.
async fn send(mut reader: OwnedReadHalf, mut stream: SendStream<Bytes>) -> Result<(), Error> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_BYTES);
        if reader.read_buf(&mut buffer).await? == 0 {
            return stream.send_data(Bytes::new(), true).map_err(failed);
        }
        while !buffer.is_empty() {
            stream.reserve_capacity(buffer.len());
            let capacity = match stream.capacity() {
                0 => poll_fn(|cx| stream.poll_capacity(cx)).await,
                capacity => Some(Ok(capacity)),
            };
            let capacity = capacity.ok_or_else(|| Error::new("the stream ended"))?;
            let now = capacity.map_err(failed)?.min(buffer.len());
            stream.send_data(buffer.split_to(now).freeze(), false).map_err(failed)?;
        }
    }
}

/// From the stream to the WebSocket.
async fn receive(mut stream: RecvStream, mut writer: OwnedWriteHalf) -> Result<(), Error> {
    while let Some(data) = stream.data().await {
        let data = data.map_err(failed)?;
        writer.write_all(&data).await?;
        stream.flow_control().release_capacity(data.len()).map_err(failed)?;
    }
    Ok(())
}

fn failed(error: h2::Error) -> Error {
    Error::new(format!("HTTP/2: {error}"))
}
