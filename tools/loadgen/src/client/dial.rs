//! From nothing to an open WebSocket: TCP, TLS, upgrade.

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

use super::link::{Desk, Link, Start};
use super::tls::Tls;
use crate::buffer::Outgoing;
use crate::fail::Fail;

const STEP_WAIT: Duration = Duration::from_secs(10);
const READ_BYTES: usize = 16 << 10;
const HEAD_BYTES_MAX: usize = 16 << 10;

pub struct Dialer {
    pub target: SocketAddr,
    pub host: String,
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// How many source addresses to use in turn; 1 leaves the choice to the kernel.
    pub sources: u8,
    pub turn: Cell<u64>,
    pub desk: Rc<Desk>,
}

impl Dialer {
    pub async fn open(&self, path: &str) -> Result<Link, Fail> {
        let mut stream = within("connect", self.connect()).await?;
        let mut wire = Vec::with_capacity(READ_BYTES);
        let key = generate_key();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n",
            self.host
        );
        let mut plain = Vec::new();
        let mut tls = match &self.tls {
            Some((config, name)) => {
                let mut tls = Box::new(Tls::new(config, name)?);
                let shake = shake(&mut stream, &mut tls, &mut wire, request.as_bytes());
                within("TLS handshake", shake).await?;
                Some(tls)
            }
            None => {
                within("upgrade", async { Ok(stream.write_all(request.as_bytes()).await?) })
                    .await?;
                None
            }
        };
        let answer = answer(&mut stream, &mut tls, &mut wire, &mut plain);
        let end = within("upgrade", answer).await?;
        judge(&String::from_utf8_lossy(&plain[..end]), &key)?;
        // Thousands of links are kept: what is left of the handshake's buffers is cut to size.
        let partial = wire.as_slice().to_vec();
        let start = Start { stream, tls, partial, early: plain.split_off(end) };
        Ok(Link::new(start, self.desk.clone()))
    }

    async fn connect(&self) -> Result<TcpStream, Fail> {
        let socket = match self.target {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if self.sources > 1 {
            let turn = self.turn.replace(self.turn.get() + 1) % u64::from(self.sources);
            let last = 2 + turn.min(252) as u8;
            socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0))?;
        }
        socket.set_nodelay(true)?;
        Ok(socket.connect(self.target).await?)
    }
}

/// So many links, some of them at a time.
pub async fn open_many(
    dialer: &Rc<Dialer>,
    path: &str,
    count: usize,
    at_a_time: usize,
) -> Result<Vec<Link>, Fail> {
    let mut links = Vec::with_capacity(count);
    let mut opening = JoinSet::new();
    while links.len() < count {
        while opening.len() < at_a_time.max(1) && opening.len() + links.len() < count {
            let (dialer, path) = (dialer.clone(), path.to_owned());
            opening.spawn_local(async move { dialer.open(&path).await });
        }
        let place = || format!("tunnel {} of {count}", links.len() + 1);
        match opening.join_next().await {
            Some(Ok(link)) => {
                let link = link.map_err(|fail| fail.at(place()))?;
                links.push(link);
            }
            Some(Err(error)) => return Err(Fail::new(error.to_string())),
            None => return Err(Fail::new("nobody opens tunnels")),
        }
    }
    Ok(links)
}

/// The request goes out together with our Finished.
async fn shake(
    stream: &mut TcpStream,
    tls: &mut Tls,
    wire: &mut Vec<u8>,
    request: &[u8],
) -> Result<(), Fail> {
    loop {
        let mut out = Outgoing::default();
        let turn = tls.take(wire, &mut out, |_| Err(Fail::new("data before the request")))?;
        wire.drain(..turn.used);
        if turn.open {
            tls.seal(request, &mut out)?;
        }
        stream.write_all(out.waiting()).await?;
        if turn.open {
            return Ok(());
        }
        if turn.closed || stream.read_buf(wire).await? == 0 {
            return Err(Fail::new("closed by the other side"));
        }
        wire.reserve(READ_BYTES);
    }
}

/// Until the answer's head is there: where it ends in `plain`.
async fn answer(
    stream: &mut TcpStream,
    tls: &mut Option<Box<Tls>>,
    wire: &mut Vec<u8>,
    plain: &mut Vec<u8>,
) -> Result<usize, Fail> {
    loop {
        match tls {
            Some(tls) => {
                let mut out = Outgoing::default();
                let turn = tls.take(wire, &mut out, |part| {
                    plain.extend_from_slice(part);
                    Ok(())
                })?;
                wire.drain(..turn.used);
                stream.write_all(out.waiting()).await?;
            }
            None => plain.append(wire),
        }
        if let Some(at) = plain.windows(4).position(|four| four == b"\r\n\r\n") {
            return Ok(at + 4);
        }
        if plain.len() > HEAD_BYTES_MAX {
            return Err(Fail::new("an answer too long"));
        }
        wire.reserve(READ_BYTES);
        if stream.read_buf(wire).await? == 0 {
            return Err(Fail::new("closed by the other side"));
        }
    }
}

fn judge(head: &str, key: &str) -> Result<(), Fail> {
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("101") {
        return Err(Fail::new(format!("handshake refused: {status}")));
    }
    let accept = crate::backend::field(head, "sec-websocket-accept");
    if accept != Some(derive_accept_key(key.as_bytes()).as_str()) {
        return Err(Fail::new("handshake answered with a wrong Sec-WebSocket-Accept"));
    }
    Ok(())
}

async fn within<R>(
    what: impl Display,
    step: impl Future<Output = Result<R, Fail>>,
) -> Result<R, Fail> {
    match timeout(STEP_WAIT, step).await {
        Ok(result) => result.map_err(|fail| fail.at(what)),
        Err(_) => Err(Fail::new(format!("{what}: not done in {} s", STEP_WAIT.as_secs()))),
    }
}
