//! Opens connections: TCP, TLS, and the opening handshake of a WebSocket.

use std::cell::Cell;
use std::fmt::Display;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::connection::{Connection, Established, SharedBuffers};
use super::tls::Tls;
use crate::buffer::WriteBuffer;
use crate::error::Error;
use crate::http::{HEAD_BYTES_MAX, field};

/// The usual deadline of each step of a connection.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(10);
const READ_BYTES: usize = 16 << 10;

pub struct Connector {
    pub target: SocketAddr,
    pub host: String,
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// Number of source addresses to alternate between; `None` leaves the choice to the kernel.
    pub sources: Option<u8>,
    pub next_source: Cell<u64>,
    /// Bytes sent by all TLS handshakes, and with them.
    pub handshake_bytes: Cell<u64>,
    pub buffers: Rc<SharedBuffers>,
    /// The deadline of each step: connect, TLS handshake, upgrade.
    pub step_timeout: Cell<Duration>,
}

impl Connector {
    /// Opens a WebSocket.
    pub async fn open(&self, path: &str) -> Result<Connection, Error> {
        let key = generate_key();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n",
            self.host
        );
        let Established { mut stream, mut tls, partial: mut wire, early: mut plain } =
            self.open_stream(request.as_bytes()).await?;
        let response = read_response_head(&mut stream, &mut tls, &mut wire, &mut plain);
        let end = within("upgrade", self.step_timeout.get(), response).await?;
        check_response(&String::from_utf8_lossy(&plain[..end]), &key)?;
        // Thousands of connections stay open, so shrink the handshake's buffers to their content.
        let partial = wire.as_slice().to_vec();
        let established = Established { stream, tls, partial, early: plain.split_off(end) };
        Ok(Connection::new(established, self.buffers.clone()))
    }

    /// Connects, performs the TLS handshake, and sends `request`, which may be empty.
    pub async fn open_stream(&self, request: &[u8]) -> Result<Established, Error> {
        let mut stream = within("connect", self.step_timeout.get(), self.connect()).await?;
        let mut wire = Vec::with_capacity(READ_BYTES);
        let tls = match &self.tls {
            Some((config, name)) => {
                let mut tls = Box::new(Tls::new(config, name)?);
                let sent = &self.handshake_bytes;
                let handshake = handshake(&mut stream, &mut tls, &mut wire, request, sent);
                within("TLS handshake", self.step_timeout.get(), handshake).await?;
                Some(tls)
            }
            None => {
                let request = async { Ok(stream.write_all(request).await?) };
                within("request", self.step_timeout.get(), request).await?;
                None
            }
        };
        Ok(Established { stream, tls, partial: wire, early: Vec::new() })
    }

    /// Connects without TLS.
    pub async fn connect(&self) -> Result<TcpStream, Error> {
        let socket = match self.target {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if let Some(sources) = self.sources {
            let next = self.next_source.replace(self.next_source.get() + 1) % u64::from(sources);
            let last = 2 + next.min(252) as u8;
            socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0))?;
        }
        socket.set_nodelay(true)?;
        Ok(socket.connect(self.target).await?)
    }
}

/// Opens `count` connections, `concurrency` at a time.
pub async fn open_many(
    connector: &Rc<Connector>,
    path: &str,
    count: usize,
    concurrency: usize,
) -> Result<Vec<Connection>, Error> {
    let mut connections = Vec::with_capacity(count);
    let mut opening = JoinSet::new();
    while connections.len() < count {
        while opening.len() < concurrency.max(1) && opening.len() + connections.len() < count {
            let (connector, path) = (connector.clone(), path.to_owned());
            opening.spawn_local(async move { connector.open(&path).await });
        }
        let place = || format!("tunnel {} of {count}", connections.len() + 1);
        match opening.join_next().await {
            Some(Ok(connection)) => {
                let connection = connection.map_err(|error| error.context(place()))?;
                connections.push(connection);
            }
            Some(Err(error)) => return Err(Error::new(error.to_string())),
            None => return Err(Error::new("no connection attempt is left")),
        }
    }
    Ok(connections)
}

/// Performs the TLS handshake and sends the request together with the Finished message.
async fn handshake(
    stream: &mut TcpStream,
    tls: &mut Tls,
    wire: &mut Vec<u8>,
    request: &[u8],
    sent: &Cell<u64>,
) -> Result<(), Error> {
    loop {
        let mut out = WriteBuffer::default();
        let progress = tls.process(wire, &mut out, |_| {
            Err(Error::new("received data before the request was sent"))
        })?;
        wire.drain(..progress.used);
        if progress.open && !request.is_empty() {
            tls.encrypt(request, &mut out)?;
        }
        stream.write_all(out.as_slice()).await?;
        sent.set(sent.get() + out.as_slice().len() as u64);
        if progress.open {
            return Ok(());
        }
        if progress.closed || stream.read_buf(wire).await? == 0 {
            return Err(Error::new("the peer closed the connection"));
        }
        wire.reserve(READ_BYTES);
    }
}

/// Reads up to the end of the response head. Returns the offset of that end in `plain`.
async fn read_response_head(
    stream: &mut TcpStream,
    tls: &mut Option<Box<Tls>>,
    wire: &mut Vec<u8>,
    plain: &mut Vec<u8>,
) -> Result<usize, Error> {
    loop {
        match tls {
            Some(tls) => {
                let mut out = WriteBuffer::default();
                let progress = tls.process(wire, &mut out, |part| {
                    plain.extend_from_slice(part);
                    Ok(())
                })?;
                wire.drain(..progress.used);
                stream.write_all(out.as_slice()).await?;
            }
            None => plain.append(wire),
        }
        if let Some(at) = plain.windows(4).position(|four| four == b"\r\n\r\n") {
            return Ok(at + 4);
        }
        if plain.len() > HEAD_BYTES_MAX {
            return Err(Error::new("the response header is too long"));
        }
        wire.reserve(READ_BYTES);
        if stream.read_buf(wire).await? == 0 {
            return Err(Error::new("the peer closed the connection"));
        }
    }
}

fn check_response(head: &str, key: &str) -> Result<(), Error> {
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("101") {
        return Err(Error::new(format!("handshake rejected: {status}")));
    }
    let accept = field(head, "sec-websocket-accept");
    if accept != Some(derive_accept_key(key.as_bytes()).as_str()) {
        return Err(Error::new("wrong Sec-WebSocket-Accept in the handshake response"));
    }
    Ok(())
}

/// Performs a step of a connection, with a deadline.
pub async fn within<R>(
    what: impl Display,
    time: Duration,
    step: impl Future<Output = Result<R, Error>>,
) -> Result<R, Error> {
    match timeout(time, step).await {
        Ok(result) => result.map_err(|error| error.context(what)),
        Err(_) => Err(Error::new(format!("{what}: not complete after {} s", time.as_secs()))),
    }
}
