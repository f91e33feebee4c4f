//! The operating system services that the data path uses: connections, addresses and randomness. The program uses
//! [`SystemNet`]; a simulation implements [`Net`] itself, so that a whole run follows from one seed.
//!
//! Time is not part of it: every deadline uses tokio's clock, which belongs to the runtime and can
//! be paused and advanced by a test. The lints forbid the other clocks.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream, UnixStream, lookup_host};
use tokio::time::sleep;
use ws::Entropy;

use super::UNSENT_BYTES_MAX;
use super::socket::Socket;
use crate::sys::entropy::SystemEntropy;

/// Where a connection leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TargetAddr {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(Arc<Path>),
}

/// The boxed future that [`Net`] methods return.
pub type NetFuture<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// The operating system services that the data path uses. Dropping a future cancels what it started.
pub trait Net: Debug + Send + Sync {
    /// Connects to `to`, with the socket options that a relay needs. The caller enforces the deadline.
    ///
    /// # Errors
    /// The connection was refused or failed, or this process is out of descriptors or ports.
    fn connect<'a>(&'a self, to: &'a TargetAddr) -> NetFuture<'a, Socket>;

    /// As [`connect`](Self::connect) to a TCP port, from an address of this machine. By default the network has no such
    /// addresses.
    ///
    /// # Errors
    /// As [`connect`](Self::connect); with a message and the kind `AddrNotAvailable` if `from` is not an address of this
    /// machine.
    fn connect_from(&self, from: IpAddr, to: SocketAddr) -> NetFuture<'_, Socket> {
        Box::pin(async move {
            let text = format!("this network cannot connect from {from} to {to}");
            Err(io::Error::new(io::ErrorKind::Unsupported, text))
        })
    }

    /// Looks up the addresses of a host, in the resolver's order. The caller enforces the deadline.
    ///
    /// # Errors
    /// The name does not exist, or the resolver failed.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> NetFuture<'a, Vec<SocketAddr>>;

    /// Fills `bytes` with randomness that a peer cannot predict (RFC 6455 5.3).
    fn fill_random(&self, bytes: &mut [u8]);
}

impl dyn Net {
    /// A random number in `[0, 1)`, for jitter.
    pub fn random_f64(&self) -> f64 {
        let mut bytes = [0; 4];
        self.fill_random(&mut bytes);
        f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
    }

    /// A request id that no other request has: 128 random bits as 32 hexadecimal digits.
    pub fn request_id(&self) -> Box<str> {
        let mut bytes = [0; 16];
        self.fill_random(&mut bytes);
        let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        // The standard formatter takes four times as many instructions.
        digits.map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])).collect()
    }
}

/// TCP, the system's resolver and the operating system's random generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemNet;

impl Net for SystemNet {
    fn connect<'a>(&'a self, to: &'a TargetAddr) -> NetFuture<'a, Socket> {
        match to {
            TargetAddr::Tcp(to) => {
                Box::pin(async move { relay_socket(TcpStream::connect(to).await?, *to) })
            }
            TargetAddr::Unix(path) => Box::pin(connect_unix(path)),
        }
    }

    fn connect_from(&self, from: IpAddr, to: SocketAddr) -> NetFuture<'_, Socket> {
        Box::pin(async move { relay_socket(connect_tcp_from(from, to).await?, to) })
    }

    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> NetFuture<'a, Vec<SocketAddr>> {
        Box::pin(async move { Ok(lookup_host((host, port)).await?.collect()) })
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        SystemEntropy.fill(bytes);
    }
}

/// Connects from this address. The port is chosen when the destination is known, so that each destination has all of
/// the ports (ip(7)); otherwise all connections from an address would share them.
async fn connect_tcp_from(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    setsockopt(&socket, IpBindAddressNoPort, &true)?;
    socket.bind((from, 0).into()).map_err(|error| {
        // Not for lack of a port, since none is chosen here.
        let is_lost = error.kind() == io::ErrorKind::AddrNotAvailable;
        let text = || format!("{from} is not an address of this machine any more");
        if is_lost { io::Error::new(error.kind(), text()) } else { error }
    })?;
    socket.connect(to).await
}

/// Sets the options that a relay needs.
fn relay_socket(stream: TcpStream, to: SocketAddr) -> io::Result<Socket> {
    // The kernel may pick the destination as the local port of this very socket, if it is an
    // ephemeral port without a listener; the socket is then connected to itself.
    if stream.local_addr()? == to {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    Ok(Socket::Tcp(stream))
}

/// Connects to a Unix socket. If its queue is full, connect(2) fails at once instead of waiting for a place as
/// with TCP, so it is tried again until the caller's deadline.
async fn connect_unix(path: &Path) -> io::Result<Socket> {
    loop {
        match UnixStream::connect(path).await {
            Ok(stream) => return Ok(Socket::Unix(Box::new(stream))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(UNIX_RETRY).await,
            Err(error) => return Err(explained(error)),
        }
    }
}

/// Says what a failed connection to a Unix socket means.
fn explained(error: io::Error) -> io::Error {
    let found = UNIX_FAILURES.iter().find(|(kind, _)| *kind == error.kind());
    found.map_or(error, |(_, text)| io::Error::other(*text))
}

const UNIX_FAILURES: [(io::ErrorKind, &str); 3] = [
    (io::ErrorKind::NotFound, "no such socket: nothing has this path"),
    (
        io::ErrorKind::PermissionDenied,
        "permission denied: tidegate must be allowed to write to the socket, and to enter its folders",
    ),
    (io::ErrorKind::ConnectionRefused, "connection refused: no process listens on this path"),
];

/// How soon a connection to a Unix socket with a full queue is tried again.
const UNIX_RETRY: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn connections_come_from_the_chosen_address() {
        for (from, listening) in [("127.0.5.1", "127.0.0.1:0"), ("::1", "[::1]:0")] {
            // IPv6 may be disabled.
            let Ok(listener) = TcpListener::bind(listening) else { continue };
            let from = from.parse().unwrap();
            let to = listener.local_addr().unwrap();
            let _socket = SystemNet.connect_from(from, to).await.unwrap();
            assert_eq!(listener.accept().unwrap().1.ip(), from);
        }
        let (from, to) = ("192.0.2.1".parse().unwrap(), "127.0.0.1:9".parse().unwrap());
        let error = SystemNet.connect_from(from, to).await.unwrap_err();
        assert_eq!(error.to_string(), "192.0.2.1 is not an address of this machine any more");
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn request_ids_are_unique_hex() {
        let net: &dyn Net = &SystemNet;
        let (one, other) = (net.request_id(), net.request_id());
        assert!(one != other && one.len() == 32);
        assert!(one.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }

    #[test]
    fn random_f64_fills_its_range() {
        let net: &dyn Net = &SystemNet;
        let all: Vec<f64> = (0..1000).map(|_| net.random_f64()).collect();
        assert!(all.iter().all(|f| (0.0..1.0).contains(f)));
        assert!(all.iter().any(|f| *f < 0.1) && all.iter().any(|f| *f > 0.9));
    }
}
