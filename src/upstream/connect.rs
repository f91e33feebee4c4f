//! TCP to a backend, under one deadline for all attempts.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout_at};

use super::pool::Backend;
use crate::net::network::Net;
use crate::net::socket::Socket;
use crate::reject::RejectReason;

/// A connection on which no request was sent yet.
#[derive(Debug)]
pub struct BackendConnection {
    /// Connected, without Nagle's delay.
    pub stream: Socket,
    /// Who took it.
    pub backend: Arc<Backend>,
}

/// Connects to the first backend of `order` that takes the connection, and begins it with these
/// bytes, if any.
///
/// A backend that refuses, or that takes none of its time, makes way for the next one and is
/// noted as failed. While others are left, an attempt gets half of the time that is left, so
/// that one silent machine does not use up `limit` for all. When no time is left:
/// [`RejectReason::ConnectTimeout`]; when no backend is left: [`RejectReason::NoBackend`].
pub async fn connect(
    net: &dyn Net,
    order: &[Arc<Backend>],
    begin: &[u8],
    limit: Duration,
) -> Result<BackendConnection, RejectReason> {
    let deadline = Instant::now() + limit;
    for (tried, backend) in order.iter().enumerate() {
        let until = share(deadline, tried + 1 == order.len());
        let error = match timeout_at(until, connect_backend(net, backend, begin, until)).await {
            Ok(Ok(stream)) => {
                return Ok(BackendConnection { stream, backend: Arc::clone(backend) });
            }
            Ok(Err(error)) => error,
            Err(elapsed) => elapsed.into(),
        };
        match classify(&error) {
            ConnectFailure::Backend => backend.failed(&error),
            ConnectFailure::Path => {}
            ConnectFailure::Process => return Err(RejectReason::NoDescriptors),
        }
        if Instant::now() >= deadline {
            return Err(RejectReason::ConnectTimeout);
        }
    }
    Err(RejectReason::NoBackend)
}

/// When this attempt ends: with `deadline` if it is the last, else half-way to it.
fn share(deadline: Instant, is_last: bool) -> Instant {
    let now = Instant::now();
    if is_last { deadline } else { now + deadline.saturating_duration_since(now) / 2 }
}

/// Tries every address of a backend; the error is the last one's.
async fn connect_backend(
    net: &dyn Net,
    backend: &Backend,
    begin: &[u8],
    until: Instant,
) -> io::Result<Socket> {
    let addresses = backend.names.addresses(net, &backend.address).await?;
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for (tried, address) in addresses.iter().enumerate() {
        let until = share(until, tried + 1 == addresses.len());
        match timeout_at(until, connect_address(net, *address, begin)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) if classify(&error) == ConnectFailure::Process => return Err(error),
            Ok(Err(error)) => last = error,
            Err(elapsed) => last = elapsed.into(),
        }
    }
    Err(last)
}

async fn connect_address(net: &dyn Net, address: SocketAddr, begin: &[u8]) -> io::Result<Socket> {
    let mut stream = net.connect(address).await?;
    stream.write_all(begin).await?;
    Ok(stream)
}

/// Whose fault it is that a connect failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectFailure {
    /// Nobody there, or nobody willing.
    Backend,
    /// No local port left towards this address; another backend has another address.
    Path,
    /// No descriptor or memory left: no backend can be reached.
    Process,
}

fn classify(error: &io::Error) -> ConnectFailure {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => ConnectFailure::Process,
        Some(Errno::ADDRNOTAVAIL | Errno::AGAIN) => ConnectFailure::Path,
        Some(_) | None => ConnectFailure::Backend,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    use super::*;
    use crate::net::network::SystemNet;
    use crate::upstream::scripted::{backend, backend_at, refusing_port, sendable};

    const LIMIT: Duration = Duration::from_secs(5);

    // Requirements: BM01.
    #[tokio::test]
    async fn refused_connect_tries_the_next_backend() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (dead, alive) = (backend_at(refusing_port()), backend(&listener));
        let order = [Arc::clone(&dead), Arc::clone(&alive)];
        for _ in 0..3 {
            let dialled = sendable(connect(&SystemNet, &order, b"", LIMIT)).await.unwrap();
            assert!(Arc::ptr_eq(&dialled.backend, &alive));
            let Socket::Tcp(tcp) = &dialled.stream else { panic!("TCP") };
            assert!(tcp.nodelay().unwrap());
        }
        assert!(!dead.health.is_up(Instant::now()), "three refusals eject");
        assert!(alive.health.is_up(Instant::now()));
    }

    // Requirements: BM01.
    #[tokio::test]
    async fn refused_by_all_is_no_backend() {
        let order = [backend_at(refusing_port()), backend_at(refusing_port())];
        assert_eq!(
            connect(&SystemNet, &order, b"", LIMIT).await.unwrap_err(),
            RejectReason::NoBackend
        );
        assert_eq!(
            connect(&SystemNet, &[], b"", LIMIT).await.unwrap_err(),
            RejectReason::NoBackend
        );
    }

    #[tokio::test]
    async fn a_connect_alone_does_not_restore_a_backend() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let order = [backend(&listener)];
        let now = Instant::now();
        order[0].health.failed(now);
        order[0].health.failed(now);
        connect(&SystemNet, &order, b"", LIMIT).await.unwrap();
        assert!(order[0].health.failed(now).is_some());
    }

    #[tokio::test]
    async fn names_are_looked_up_and_all_addresses_tried() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // On most machines `localhost` is `::1` first, where nobody listens.
        let order = [backend_at(("localhost", port))];
        assert!(connect(&SystemNet, &order, b"", LIMIT).await.is_ok());
        let order = [backend_at(("no-such-host.invalid", 9))];
        assert_eq!(
            connect(&SystemNet, &order, b"", LIMIT).await.unwrap_err(),
            RejectReason::NoBackend
        );
    }

    // Requirements: BM02.
    #[tokio::test]
    async fn unresponsive_backend_leaves_time_for_the_next() {
        let (full, _held) = blackhole().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let order = [Arc::clone(&full), backend(&listener)];
        let dialled = connect(&SystemNet, &order, b"", Duration::from_millis(400)).await.unwrap();
        assert!(Arc::ptr_eq(&dialled.backend, &order[1]));

        let begun = Instant::now();
        let refused =
            connect(&SystemNet, &order[..1], b"", Duration::from_millis(200)).await.unwrap_err();
        assert_eq!(refused, RejectReason::ConnectTimeout);
        assert_eq!(refused.key(), Some("timeouts.connect"));
        assert!(begun.elapsed() < Duration::from_secs(2));
        connect(&SystemNet, &order[..1], b"", Duration::from_millis(50)).await.unwrap_err();
        assert!(!full.health.is_up(Instant::now()), "silence counts as failure");
    }

    /// A listener whose queue is full: the kernel drops further SYNs, as a dead machine would.
    async fn blackhole() -> (Arc<Backend>, (socket2::Socket, Vec<TcpStream>)) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let mut held = Vec::new();
        while let Ok(stream) =
            timeout(Duration::from_millis(100), TcpStream::connect(address)).await
        {
            held.push(stream.unwrap());
            assert!(held.len() < 64, "the queue never fills");
        }
        (backend_at(("127.0.0.1", address.port())), (socket, held))
    }

    #[test]
    fn our_own_want_is_not_the_backends_fault() {
        let of = |errno: Errno| classify(&io::Error::from(errno));
        assert_eq!(of(Errno::MFILE), ConnectFailure::Process);
        assert_eq!(of(Errno::NFILE), ConnectFailure::Process);
        assert_eq!(of(Errno::ADDRNOTAVAIL), ConnectFailure::Path);
        assert_eq!(of(Errno::CONNREFUSED), ConnectFailure::Backend);
        assert_eq!(of(Errno::HOSTUNREACH), ConnectFailure::Backend);
    }
}
