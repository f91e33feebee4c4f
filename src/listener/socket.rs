//! Listening sockets and the accept loop. The loop pauses when file descriptors or memory run out, and
//! no error ends it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

use super::inherited::InheritedSockets;
use crate::net::{UNSENT_BYTES_MAX, socket};

/// A listening socket. It is closed when its last clone is dropped.
#[derive(Clone, Debug)]
pub struct Listener {
    socket: Arc<TcpListener>,
    local: SocketAddr,
    /// Whether the service manager opened this socket and holds it as well.
    is_shared: bool,
}

/// A connection that the kernel accepted.
#[derive(Debug)]
pub struct AcceptedStream {
    /// The connection, with `TCP_NODELAY`, `TCP_NOTSENT_LOWAT` and TCP keep-alive set.
    pub io: socket::Socket,
    /// The address of the peer, which may be a proxy.
    pub peer: SocketAddr,
    /// The local address that the peer connected to.
    pub local: SocketAddr,
}

/// An event of the accept loop.
#[derive(Debug)]
pub enum AcceptEvent {
    /// A client or a proxy has connected.
    Connection(AcceptedStream),
    /// File descriptors or memory ran out; the loop pauses for this duration.
    Paused(io::Error, Duration),
}

/// An address could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{hint}")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
    hint: &'static str,
}

impl Listener {
    /// Takes the inherited socket with this address, or binds a new one and listens. Connections are
    /// accepted only by [`Listener::run`]. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The address cannot be bound, or the socket options cannot be set.
    pub fn bind_or_inherit(
        address: SocketAddr,
        inherited: &mut InheritedSockets,
    ) -> Result<Self, BindError> {
        match inherited.take(address) {
            Some((found, is_shared)) => found.and_then(|socket| Self::adopt(socket, is_shared)),
            None => Self::bind(address).and_then(|socket| Self::from_socket(socket, false)),
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
            // The configuration lists IPv4 addresses separately.
            socket.set_only_v6(true)?;
        }
        set_options(&socket)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket)
    }

    fn adopt(socket: std::net::TcpListener, is_shared: bool) -> io::Result<Self> {
        let socket = socket.into();
        set_options(&socket)?;
        Self::from_socket(socket, is_shared)
    }

    fn from_socket(socket: Socket, is_shared: bool) -> io::Result<Self> {
        let socket = Arc::new(TcpListener::from_std(socket.into())?);
        let local = socket.local_addr()?;
        Ok(Self { socket, local, is_shared })
    }

    /// The local address, with the port that the kernel chose if port 0 is configured.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Whether the service manager opened this socket and holds it as well.
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// The local address of a connection; saves the system call if the listener has only one address.
    fn local_of(&self, io: &TcpStream) -> SocketAddr {
        if self.local.ip().is_unspecified() {
            // Fails only if the peer has disconnected, which the first read detects.
            return io.local_addr().unwrap_or(self.local);
        }
        self.local
    }

    /// Accepts connections until dropped, and passes every event to `on_event`. `jitter` returns a
    /// number in `[0, 1)` for each pause, so that several listeners do not resume at the same time.
    pub async fn run(self, mut jitter: impl FnMut() -> f64, mut on_event: impl FnMut(AcceptEvent)) {
        let mut pause = PAUSE_MIN;
        let mut in_a_row = 0;
        loop {
            in_a_row += 1;
            if in_a_row == ACCEPTS_IN_A_ROW {
                in_a_row = 0;
                tokio::task::yield_now().await;
            }
            match self.socket.accept().await {
                Ok((io, peer)) => {
                    pause = PAUSE_MIN;
                    if self.is_shared {
                        // The connection may be older than the options of the listening socket.
                        let socket = SockRef::from(&io);
                        let _ = socket.set_tcp_nodelay(true);
                        let _ = socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX);
                        let _ = socket.set_tcp_keepalive(&KEEP_ALIVE);
                    }
                    let local = self.local_of(&io);
                    let accepted = AcceptedStream { io: io.into(), peer, local };
                    on_event(AcceptEvent::Connection(accepted));
                }
                Err(error) if is_transient(&error) => {}
                Err(error) => {
                    let wait = pause.mul_f64(0.8 + 0.4 * jitter());
                    on_event(AcceptEvent::Paused(error, wait));
                    tokio::time::sleep(wait).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }
}

/// Sets the options of a listening socket. On Linux, accepted connections inherit the TCP options.
fn set_options(socket: &Socket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    socket.set_tcp_keepalive(&KEEP_ALIVE)
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Whether only this connection failed and not the listener (accept(2)); accept can be retried at
/// once.
fn is_transient(error: &io::Error) -> bool {
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
    (io::ErrorKind::AddrInUse, " (another process or listener uses this address)"),
    (
        io::ErrorKind::PermissionDenied,
        " (ports below 1024 need CAP_NET_BIND_SERVICE or a socket unit)",
    ),
    (io::ErrorKind::AddrNotAvailable, " (no interface of this machine has it)"),
];
/// Connections accepted before the worker looks at its other tasks and sockets. Each becomes a task; from
/// 256 runnable tasks on, tokio moves some of a worker to a queue that it looks at rarely.
const ACCEPTS_IN_A_ROW: u32 = 16;
/// Length of the queue of connections that wait for accept; the kernel caps it at
/// `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// First pause after descriptors or memory ran out; doubled up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Detects within six minutes a client that is gone and cannot be pinged: inside a frame of its backend, or
/// without a heartbeat. While the client sends, acknowledges or answers anything within five minutes, it costs
/// no packets.
const KEEP_ALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(300))
    .with_interval(Duration::from_secs(15))
    .with_retries(4);

#[cfg(test)]
mod tests {
    use super::*;

    fn open(address: &str) -> Result<Listener, BindError> {
        Listener::bind_or_inherit(address.parse().unwrap(), &mut InheritedSockets::default())
    }

    #[tokio::test]
    async fn address_families_can_share_a_port() {
        let v6 = open("[::1]:0").unwrap();
        let port = v6.local_addr().port();
        // Another process may use the IPv4 port.
        let v4 = open(&format!("127.0.0.1:{port}"));
        assert!(v4.is_ok() || v4.unwrap_err().to_string().contains("another process"));
    }

    #[tokio::test]
    async fn connections_have_the_listener_options() {
        for wildcard in ["127.0.0.1:0", "0.0.0.0:0"] {
            let listener = open(wildcard).unwrap();
            let port = listener.local_addr().port();
            let there = SocketAddr::from(([127, 0, 0, 1], port));
            let client = TcpStream::connect(there);
            let (_client, connection) = tokio::join!(client, first(listener));
            assert_options_set(&connection);
            assert_eq!(connection.local, there);
        }
    }

    #[tokio::test]
    async fn connections_queued_before_start_get_the_options() {
        let passed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let there = passed.local_addr().unwrap();
        // Connects before the listener exists.
        let waiting = std::net::TcpStream::connect(there).unwrap();
        let listener =
            Listener::bind_or_inherit(there, &mut InheritedSockets::of(vec![passed])).unwrap();
        assert!(listener.is_shared());
        let connection = first(listener.clone()).await;
        assert_eq!(connection.peer, waiting.local_addr().unwrap());
        assert_options_set(&connection);
        let (_late, connection) = tokio::join!(TcpStream::connect(there), first(listener));
        assert_options_set(&connection);
    }

    fn assert_options_set(connection: &AcceptedStream) {
        let socket::Socket::Tcp(tcp) = &connection.io else { panic!("TCP") };
        let socket = SockRef::from(tcp);
        assert!(socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT_BYTES_MAX);
        let keep_alive = (socket.keepalive().unwrap(), socket.tcp_keepalive_time().unwrap());
        assert_eq!(keep_alive, (true, Duration::from_secs(300)));
    }

    /// Runs the accept loop until the first connection.
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
            () = accepting => unreachable!("the accept loop never ends"),
            connection = arrives.recv() => connection.unwrap(),
        }
    }

    #[tokio::test]
    async fn bind_errors_name_the_address() {
        let first = open("127.0.0.1:0").unwrap();
        let error = open(&first.local_addr().to_string()).unwrap_err().to_string();
        assert!(error.contains(&first.local_addr().to_string()), "{error}");
        assert!(error.contains("another process"), "{error}");
    }
}
