//! Connecting to a backend: one deadline covers all backends and addresses that are tried.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout_at};

use super::choice::load::LoadGuard;
use super::choice::queue::MaximumReached;
use super::connect_error::{ConnectError, ConnectFailure, cause, classify, unresolved};
use super::http1::connection::HttpConnection;
use super::http1::idle_connections::Wanted;
use super::pool::Backend;
use super::resolve::address_order;
use super::tls_failure::{handshake_error, of_handshake};
use crate::client::ClientKey;
use crate::config::values::backend_address::BackendAddress;
use crate::net::network::{Net, TargetAddr};
use crate::net::socket::Socket;
use crate::reject::RejectReason;
use crate::reject::backend_tls::BackendTlsFailure;

/// A connection to a backend that is free for a request.
#[derive(Debug)]
pub struct BackendConnection {
    /// The connection.
    pub link: Link,
    /// What it is connected to.
    pub to: ConnectedBackend,
}

/// A new or a used connection.
#[derive(Debug)]
pub enum Link<Used = HttpConnection> {
    /// A new one, on which no request has been sent, with `TCP_NODELAY` set.
    New(Socket),
    /// One that has carried requests.
    Used(Used),
}

/// The backend and the address that a connection leads to.
#[derive(Clone, Debug)]
pub struct ConnectedBackend {
    /// The backend that accepted the connection.
    pub backend: Arc<Backend>,
    /// The one of its addresses.
    pub address: TargetAddr,
}

/// Connects one request to a backend.
#[derive(Debug)]
pub struct Connector<'a> {
    /// Provides connections and addresses.
    pub net: &'a dyn Net,
    /// The backends in the order in which they are tried.
    pub order: Vec<Arc<Backend>>,
    /// The client. If the name of a backend resolves to several addresses, each client tries them in
    /// its own order.
    pub key: ClientKey,
    /// A PROXY header or nothing, sent on a new connection before anything else.
    pub proxy_header: Vec<u8>,
    /// The time for all attempts together.
    pub limit: Duration,
    /// Whether an attempt that fails counts against the backend.
    pub records_failures: bool,
}

impl Connector<'_> {
    /// Connects to the first backend that accepts.
    ///
    /// A backend that refuses the connection or exceeds its share of the time is counted as failed, and
    /// the next one is tried. Every attempt except the last gets half of the remaining time, so that one
    /// unresponsive machine does not use up all of it. After [`ATTEMPTS_MAX`] attempts there is no other.
    ///
    /// # Errors
    /// With [`RejectReason::ConnectTimeout`] when the time is up, [`RejectReason::NoBackend`] when no backend
    /// accepted, [`RejectReason::BackendTls`] when the TLS handshake with one of them failed,
    /// [`RejectReason::LocalPorts`] when there was no local port for one of them, and
    /// [`RejectReason::NoDescriptors`] when this process has no file descriptor or memory
    /// for a socket.
    pub async fn connect(&self) -> Result<(Socket, ConnectedBackend), ConnectError> {
        let (socket, to, _) = self.connect_tunnel(|_| Ok(None)).await?;
        Ok((socket, to))
    }

    /// As [`connect`](Self::connect), for a tunnel: `enter` counts it at a backend that is tried after the first one.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_tunnel(
        &self,
        enter: impl Fn(&Backend) -> Result<Option<LoadGuard>, MaximumReached>,
    ) -> Result<(Socket, ConnectedBackend, Option<LoadGuard>), ConnectError> {
        let take = |_: &Backend, _: &TargetAddr| None::<Infallible>;
        let (Link::New(socket), to, load) = self.try_backends(take, enter).await?;
        Ok((socket, to, load))
    }

    /// As [`connect`](Self::connect), but takes an idle connection if the backend has one that is `wanted`.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_or_reuse(
        &self,
        wanted: Option<Wanted>,
    ) -> Result<BackendConnection, ConnectError> {
        let take = |backend: &Backend, address: &TargetAddr| backend.idle.take(address, wanted?);
        let (link, to, _) = self.try_backends(take, |_| Ok(None)).await?;
        Ok(BackendConnection { link, to })
    }

    /// Connects to the first backend that accepts, or uses the connection to it that `take` returns.
    async fn try_backends<Used>(
        &self,
        take: impl Fn(&Backend, &TargetAddr) -> Option<Used>,
        enter: impl Fn(&Backend) -> Result<Option<LoadGuard>, MaximumReached>,
    ) -> Result<(Link<Used>, ConnectedBackend, Option<LoadGuard>), ConnectError> {
        let mut started = Instant::now();
        let deadline = started + self.limit;
        let mut failed = ConnectError::new();
        let mut attempts_left = ATTEMPTS_MAX;
        for (index, backend) in self.order.iter().enumerate() {
            // The first one was entered when it was chosen.
            let load = if index == 0 { Ok(None) } else { enter(backend) };
            let Ok(load) = load else {
                failed.push(backend, "it has its maximum number of tunnels");
                continue;
            };
            let Some(left) = attempts_left.checked_sub(1) else {
                failed.push(backend, "not tried after 16 others");
                break;
            };
            attempts_left = left;
            let until = attempt_deadline(deadline, left == 0 || index + 1 == self.order.len());
            let error = match self.connect_backend(backend, &take, until).await {
                Ok((link, address)) => {
                    if matches!(link, Link::New(_)) {
                        backend.record_connection();
                    }
                    let to = ConnectedBackend { backend: Arc::clone(backend), address };
                    return Ok((link, to, load));
                }
                Err(error) => error,
            };
            let (failure, uploads) = (classify(&error), backend.health.waiting_uploads());
            let mut cause = cause(&error);
            let tls_failure = of_handshake(&error);
            // The kernel accepts a connection for a backend that has no worker left for its handshake.
            let has_timed_out = failure == ConnectFailure::Timeout
                || tls_failure == Some(BackendTlsFailure::Timeout);
            let is_held = has_timed_out && uploads > 0;
            if is_held {
                cause.push_str(&format!(
                    ", while it waits for the rest of {uploads} request bodies"
                ));
            }
            failed.push(backend, &cause);
            if let (Some(failure), RejectReason::NoBackend) = (tls_failure, failed.reason) {
                failed.reason = RejectReason::BackendTls(failure);
            }
            match failure {
                ConnectFailure::Backend | ConnectFailure::Timeout if !self.records_failures => {}
                ConnectFailure::Backend | ConnectFailure::Timeout if is_held => {
                    backend.record_held(uploads);
                }
                ConnectFailure::Backend | ConnectFailure::Timeout => {
                    backend.record_failure(started, &cause);
                }
                // Says nothing about the backend, whose state does not change.
                ConnectFailure::LocalPorts => failed.reason = RejectReason::LocalPorts,
                ConnectFailure::LocalResources => {
                    return Err(failed.with(RejectReason::NoDescriptors));
                }
            }
            started = Instant::now();
            if started >= deadline {
                let has_cause = tls_failure.is_some();
                return Err(if has_cause {
                    failed
                } else {
                    failed.with(RejectReason::ConnectTimeout)
                });
            }
        }
        Err(failed)
    }

    /// Tries every address of a backend, until the time is up. The error is the one of the last attempt.
    async fn connect_backend<Used>(
        &self,
        backend: &Backend,
        take: &impl Fn(&Backend, &TargetAddr) -> Option<Used>,
        until: Instant,
    ) -> io::Result<(Link<Used>, TargetAddr)> {
        let mut addresses = self.targets(backend, until).await?;
        addresses.truncate(ATTEMPTS_MAX);
        let mut last = None;
        let count = addresses.len();
        for (index, address) in addresses.into_iter().enumerate() {
            if let Some(used) = take(backend, &address) {
                return Ok((Link::Used(used), address));
            }
            let until = attempt_deadline(until, index + 1 == count);
            let connecting = self.connect_address(backend, &address, until);
            match backend.idle.give_up_while_connecting(connecting).await {
                Ok(stream) => return Ok((Link::New(stream), address)),
                Err(error) if classify(&error) == ConnectFailure::LocalResources => {
                    return Err(error);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::other("the name has no address")))
    }

    /// The addresses of a backend in the order in which this client tries them.
    async fn targets(&self, backend: &Backend, until: Instant) -> io::Result<Vec<TargetAddr>> {
        let (host, port) = match &backend.address {
            BackendAddress::Tcp { host, port } => (host, *port),
            BackendAddress::Unix(path) => return Ok(vec![TargetAddr::Unix(path.clone())]),
        };
        // As the resolver would, without lists of one address.
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![TargetAddr::Tcp(SocketAddr::new(ip, port))]);
        }
        let resolving = backend.resolver.addresses(self.net, host, port);
        let found = match timeout_at(until, resolving).await {
            Ok(found) => found,
            Err(elapsed) => Err(elapsed.into()),
        };
        let found = found.map_err(unresolved)?;
        Ok(address_order(self.key, &found).into_iter().map(TargetAddr::Tcp).collect())
    }

    async fn connect_address(
        &self,
        backend: &Backend,
        address: &TargetAddr,
        until: Instant,
    ) -> io::Result<Socket> {
        let mut socket = match (&backend.sources, address) {
            // In a box, because most connections need no room for it.
            (Some(sources), TargetAddr::Tcp(to)) => {
                Box::pin(timeout_at(until, sources.connect(self.net, *to))).await??
            }
            (_, address) => timeout_at(until, self.net.connect(address)).await??,
        };
        timeout_at(until, socket.write_all(&self.proxy_header)).await??;
        let Some(tls) = &backend.tls else { return Ok(socket) };
        let Some(client) = &tls.client else { return Err(io::Error::other("TLS is not possible")) };
        // In a box, because most connections need no room for it.
        match Box::pin(timeout_at(until, client.connect(socket))).await {
            Ok(connected) => connected.map_err(|error| handshake_error(Some(&error))),
            Err(_elapsed) => Err(handshake_error(None)),
        }
    }
}

/// When one attempt ends: at `deadline` if it is the last, otherwise after half of the time left.
fn attempt_deadline(deadline: Instant, is_last: bool) -> Instant {
    if is_last {
        return deadline;
    }
    let now = Instant::now();
    now + deadline.saturating_duration_since(now) / 2
}

/// Backends that are tried for one request, and addresses of each: a name may have 1,000 addresses, none of which accepts.
const ATTEMPTS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustix::io::Errno;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    use super::*;
    use crate::net::network::{NetFuture, SystemNet};
    use crate::telemetry::metrics::backend_state::BackendState;
    use crate::upstream::scripted::{assert_send, backend, backend_at, refusing_port};

    const LIMIT: Duration = Duration::from_secs(5);

    /// Connects a client to the first of these backends that accepts.
    async fn connect(
        net: &dyn Net,
        order: &[Arc<Backend>],
        key: ClientKey,
        limit: Duration,
    ) -> Result<(Socket, ConnectedBackend), ConnectError> {
        let (order, proxy_header) = (order.to_vec(), Vec::new());
        assert_send(
            Connector { net, order, key, proxy_header, limit, records_failures: true }.connect(),
        )
        .await
    }

    /// A resolver that rotates the addresses in its answer with each lookup, as name servers do.
    #[derive(Debug)]
    struct RotatingNet(AtomicUsize, Vec<SocketAddr>);

    impl Net for RotatingNet {
        fn connect<'a>(&'a self, address: &'a TargetAddr) -> NetFuture<'a, Socket> {
            SystemNet.connect(address)
        }

        fn resolve<'a>(&'a self, _: &'a str, _: u16) -> NetFuture<'a, Vec<SocketAddr>> {
            let mut found = self.1.clone();
            found.rotate_left(self.0.fetch_add(1, Ordering::Relaxed) % self.1.len());
            Box::pin(async { Ok(found) })
        }

        fn fill_random(&self, bytes: &mut [u8]) {
            SystemNet.fill_random(bytes);
        }
    }

    #[tokio::test]
    async fn each_client_keeps_its_address_of_a_name() {
        let mut listeners = Vec::new();
        for host in [1, 2, 3] {
            let address = SocketAddr::from(([127, 0, 0, host], 0));
            listeners.push(TcpListener::bind(address).await.unwrap());
        }
        let addresses = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let net = RotatingNet(AtomicUsize::new(0), addresses);
        let mut used = BTreeSet::new();
        for client in 0..20 {
            let mut of_client = BTreeSet::new();
            for _ in 0..4 {
                // Nothing is cached, as after the end of the cache's time.
                let order = [backend_at(("replicas.internal", 1))];
                let (socket, _) =
                    connect(&net, &order, ClientKey::sample(client), LIMIT).await.unwrap();
                let Socket::Tcp(tcp) = &socket else { panic!("TCP") };
                of_client.insert(tcp.peer_addr().unwrap());
            }
            assert_eq!(of_client.len(), 1, "client {client}: {of_client:?}");
            used.extend(of_client);
        }
        assert_eq!(used.len(), 3, "20 clients use every address");
    }

    // Requirements: BM01.
    #[tokio::test]
    async fn refused_connect_tries_the_next_backend() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (dead, alive) = (backend_at(refusing_port()), backend(&listener));
        let order = [Arc::clone(&dead), Arc::clone(&alive)];
        assert_eq!(alive.state(), BackendState::Untried);
        for _ in 0..3 {
            let (socket, to) =
                connect(&SystemNet, &order, ClientKey::sample(1), LIMIT).await.unwrap();
            assert!(Arc::ptr_eq(&to.backend, &alive));
            let Socket::Tcp(tcp) = &socket else { panic!("TCP") };
            assert!(tcp.nodelay().unwrap());
        }
        assert!(dead.health.is_ejected() && !alive.health.is_ejected());
        assert_eq!((dead.state(), alive.state()), (BackendState::Down, BackendState::Up));
    }

    // Requirements: BM01.
    #[tokio::test]
    async fn refused_by_all_is_no_backend() {
        let order = [backend_at(refusing_port()), backend_at(refusing_port())];
        let error = connect(&SystemNet, &order, ClientKey::sample(1), LIMIT).await.unwrap_err();
        let [one, two] = [0, 1].map(|n| format!("{}: connection refused", order[n].id));
        assert_eq!(error.detail, format!("{one}; {two}"));
        assert_eq!(error.reason, RejectReason::NoBackend);
        let error = connect(&SystemNet, &[], ClientKey::sample(1), LIMIT).await.unwrap_err();
        assert_eq!(error.reason, RejectReason::NoBackend);
    }

    #[tokio::test]
    async fn accepted_connection_resets_failures() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let order = [backend(&listener)];
        let now = Instant::now();
        let failures = [(); 3].map(|()| order[0].health.record_failure(now, now));
        assert_eq!(failures, [false, false, true]);
        connect(&SystemNet, &order, ClientKey::sample(1), LIMIT).await.unwrap();
        assert!(!order[0].health.is_ejected());
    }

    #[tokio::test]
    async fn resolves_names_and_tries_all_addresses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // On most machines `localhost` resolves to `::1` first, where nothing listens.
        let order = [backend_at(("localhost", port))];
        assert!(connect(&SystemNet, &order, ClientKey::sample(1), LIMIT).await.is_ok());
        let order = [backend_at(("no-such-host.invalid", 9))];
        let error = connect(&SystemNet, &order, ClientKey::sample(1), LIMIT).await.unwrap_err();
        assert_eq!(error.reason, RejectReason::NoBackend);
        let detail = "no-such-host.invalid:9: the name does not resolve: ";
        assert!(error.detail.starts_with(detail), "{error:?}");
    }

    // Requirements: BM02.
    #[tokio::test]
    async fn unresponsive_backend_leaves_time_for_the_next() {
        let (full, _held) = blackhole().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let order = [Arc::clone(&full), backend(&listener)];
        let (_, to) = connect(&SystemNet, &order, ClientKey::sample(1), Duration::from_millis(400))
            .await
            .unwrap();
        assert!(Arc::ptr_eq(&to.backend, &order[1]));

        let started = Instant::now();
        let error =
            connect(&SystemNet, &order[..1], ClientKey::sample(1), Duration::from_millis(200))
                .await
                .unwrap_err();
        assert_eq!(error.reason, RejectReason::ConnectTimeout);
        assert_eq!(error.reason.key(), Some("timeouts.connect"));
        assert_eq!(error.detail, format!("{}: timed out", full.id));
        assert!(started.elapsed() < Duration::from_secs(2));
        connect(&SystemNet, &order[..1], ClientKey::sample(1), Duration::from_millis(50))
            .await
            .unwrap_err();
        assert!(full.health.is_ejected(), "a timeout counts as a failure");
    }

    /// A listener with a full backlog: the kernel drops further SYNs, as an unreachable machine would.
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
            assert!(held.len() < 64, "the backlog never fills");
        }
        (backend_at(("127.0.0.1", address.port())), (socket, held))
    }

    /// A network in which every connection attempt fails with this error.
    #[derive(Debug)]
    struct FailingNet(Errno);

    impl Net for FailingNet {
        fn connect<'a>(&'a self, _: &'a TargetAddr) -> NetFuture<'a, Socket> {
            Box::pin(async { Err(self.0.into()) })
        }

        fn resolve<'a>(&'a self, host: &'a str, port: u16) -> NetFuture<'a, Vec<SocketAddr>> {
            SystemNet.resolve(host, port)
        }

        fn fill_random(&self, bytes: &mut [u8]) {
            SystemNet.fill_random(bytes);
        }
    }

    // Requirements: RE05.
    #[tokio::test]
    async fn exhausted_local_ports_do_not_eject_a_backend() {
        let order = [backend_at(("127.0.0.1", 9)), backend_at(("127.0.0.2", 9))];
        for (errno, reason, state) in [
            (Errno::ADDRNOTAVAIL, RejectReason::LocalPorts, BackendState::Untried),
            (Errno::AGAIN, RejectReason::LocalPorts, BackendState::Untried),
            (Errno::CONNREFUSED, RejectReason::NoBackend, BackendState::Down),
        ] {
            for _ in 0..5 {
                let error = connect(&FailingNet(errno), &order, ClientKey::sample(1), LIMIT)
                    .await
                    .unwrap_err();
                assert_eq!(error.reason, reason);
            }
            assert_eq!(order[0].state(), state, "{errno}");
        }
    }

    #[tokio::test]
    async fn request_tries_a_bounded_number_of_backends() {
        let order: Vec<_> = (0..30).map(|_| backend_at(refusing_port())).collect();
        let failed = connect(&SystemNet, &order, ClientKey::sample(1), LIMIT).await.unwrap_err();
        let tried = order.iter().filter(|backend| backend.counts.connect_failures.get() > 0);
        assert_eq!((failed.reason, tried.count()), (RejectReason::NoBackend, ATTEMPTS_MAX));
    }
}
