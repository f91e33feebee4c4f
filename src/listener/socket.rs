//! Listening sockets and the accept loop, which pauses when the machine is out of something and
//! never ends by an error.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::inherited::InheritedSockets;
use crate::net::{UNSENT_BYTES_MAX, socket};

/// A bound socket. It is closed with the last of its clones.
#[derive(Clone, Debug)]
pub struct Listener {
    socket: Arc<TcpListener>,
    local: SocketAddr,
    inherited: bool,
}

/// One connection, as the kernel handed it over.
#[derive(Debug)]
pub struct AcceptedStream {
    /// The connection, `TCP_NODELAY` set.
    pub io: socket::Socket,
    /// The peer's address, as the socket has it.
    pub peer: SocketAddr,
    /// Where it came to.
    pub local: SocketAddr,
}

/// What the accept loop has to tell.
#[derive(Debug)]
pub enum AcceptEvent {
    /// A client is here.
    Connection(AcceptedStream),
    /// Accepting pauses for this long: descriptors or memory ran out.
    Paused(io::Error, Duration),
}

/// An address could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{hint}")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
    hint: &'static str,
}

impl Listener {
    /// Takes the inherited socket with this address, or else binds one and listens. Nothing is
    /// accepted before [`Listener::run`]. Must be called within a runtime.
    pub fn open(address: SocketAddr, inherited: &mut InheritedSockets) -> Result<Self, BindError> {
        match inherited.take(address) {
            Some((found, managers)) => found.and_then(|socket| Self::adopt(socket, managers)),
            None => Self::bind(address).and_then(|socket| Self::of(socket, false)),
        }
        .map_err(|source| {
            let hint = HINTS.iter().find(|(kind, _)| *kind == source.kind());
            BindError { address, hint: hint.map_or("", |(_, hint)| hint), source }
        })
    }

    fn bind(address: SocketAddr) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            // Each family is spelled out in the file, so that no address is counted twice.
            socket.set_only_v6(true)?;
        }
        prepare(&socket)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket)
    }

    fn adopt(socket: std::net::TcpListener, managers: bool) -> io::Result<Self> {
        let socket = socket.into();
        prepare(&socket)?;
        Self::of(socket, managers)
    }

    fn of(socket: Socket, inherited: bool) -> io::Result<Self> {
        let socket = Arc::new(TcpListener::from_std(socket.into())?);
        let local = socket.local_addr()?;
        Ok(Self { socket, local, inherited })
    }

    /// The address with the port that the kernel chose, if the file said 0.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Whether the service manager opened it, and holds it too.
    pub fn is_inherited(&self) -> bool {
        self.inherited
    }

    /// Only a listener for all addresses has to ask.
    fn local_of(&self, io: &TcpStream) -> SocketAddr {
        if self.local.ip().is_unspecified() {
            // A peer that is gone already shows itself at the first read.
            return io.local_addr().unwrap_or(self.local);
        }
        self.local
    }

    /// Accepts until dropped, and tells `each` of everything. `jitter` gives a number in `[0, 1)`
    /// for each pause, so that many listeners do not wake at once.
    pub async fn run(self, mut jitter: impl FnMut() -> f64, mut each: impl FnMut(AcceptEvent)) {
        let mut pause = PAUSE_MIN;
        loop {
            match self.socket.accept().await {
                Ok((io, peer)) => {
                    pause = PAUSE_MIN;
                    if self.inherited {
                        // It may have come before the socket was ours.
                        let socket = SockRef::from(&io);
                        let _ = socket.set_tcp_nodelay(true);
                        let _ = socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX);
                    }
                    let local = self.local_of(&io);
                    each(AcceptEvent::Connection(AcceptedStream { io: io.into(), peer, local }));
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => {
                    let wait = pause.mul_f64(0.8 + 0.4 * jitter());
                    each(AcceptEvent::Paused(error, wait));
                    tokio::time::sleep(wait).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }
}

/// On Linux each connection has the latter two from its listener.
fn prepare(socket: &Socket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The one connection failed, not the listener (accept(2)); try the next at once.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::Interrupted
            | Kind::TimedOut
            | Kind::PermissionDenied
    )
}

/// What an operator can do about a failed bind.
const HINTS: [(io::ErrorKind, &str); 3] = [
    (io::ErrorKind::AddrInUse, " (another process, or another listener, has it)"),
    (
        io::ErrorKind::PermissionDenied,
        " (ports below 1024 need CAP_NET_BIND_SERVICE or a socket unit)",
    ),
    (io::ErrorKind::AddrNotAvailable, " (no interface of this machine has it)"),
];
/// Connections the kernel holds for us between two accepts; it caps this at somaxconn.
const BACKLOG: i32 = 4096;
/// First pause when descriptors or memory ran out; doubled up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn open(address: &str) -> Result<Listener, BindError> {
        Listener::open(address.parse().unwrap(), &mut InheritedSockets::default())
    }

    #[tokio::test]
    async fn two_families_share_a_port_number() {
        let v6 = open("[::1]:0").unwrap();
        let port = v6.local().port();
        // Another process may hold the IPv4 port; only the IPv6 wildcard must not.
        let wild = open(&format!("127.0.0.1:{port}"));
        assert!(wild.is_ok() || wild.unwrap_err().to_string().contains("another process"));
    }

    #[tokio::test]
    async fn connections_have_what_their_listener_set() {
        for wildcard in ["127.0.0.1:0", "0.0.0.0:0"] {
            let listener = open(wildcard).unwrap();
            let port = listener.local().port();
            let there = SocketAddr::from(([127, 0, 0, 1], port));
            let client = TcpStream::connect(there);
            let (_client, connection) = tokio::join!(client, first(listener));
            assert_equipped(&connection);
            assert_eq!(connection.local, there);
        }
    }

    #[tokio::test]
    async fn who_waited_in_an_inherited_socket_has_the_same() {
        let passed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let there = passed.local_addr().unwrap();
        // Before anybody serves.
        let waiting = std::net::TcpStream::connect(there).unwrap();
        let listener = Listener::open(there, &mut InheritedSockets::of(vec![passed])).unwrap();
        assert!(listener.is_inherited());
        let connection = first(listener.clone()).await;
        assert_eq!(connection.peer, waiting.local_addr().unwrap());
        assert_equipped(&connection);
        let (_late, connection) = tokio::join!(TcpStream::connect(there), first(listener));
        assert_equipped(&connection);
    }

    fn assert_equipped(connection: &AcceptedStream) {
        let socket::Socket::Tcp(tcp) = &connection.io else { panic!("TCP") };
        let socket = SockRef::from(tcp);
        assert!(socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT_BYTES_MAX);
    }

    /// The first connection that comes.
    async fn first(listener: Listener) -> AcceptedStream {
        let (accepted, mut arrives) = tokio::sync::mpsc::channel(1);
        let accepting = listener.run(
            || 0.0,
            |event| {
                if let AcceptEvent::Connection(connection) = event {
                    let _ = accepted.try_send(connection);
                }
            },
        );
        tokio::select! {
            () = accepting => unreachable!("it never ends"),
            connection = arrives.recv() => connection.unwrap(),
        }
    }

    #[tokio::test]
    async fn a_taken_address_is_named() {
        let first = open("127.0.0.1:0").unwrap();
        let fault = open(&first.local().to_string()).unwrap_err().to_string();
        assert!(fault.contains(&first.local().to_string()), "{fault}");
        assert!(fault.contains("another process"), "{fault}");
    }
}
