//! One session from the 101 to its record. The session is the protocol state and the record of one
//! tunnel, the tunnel the task that performs its I/O; this module starts that task, and releases what
//! the session holds when it ends.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use http_body_util::Empty;
use hyper::Response;
use pin_project_lite::pin_project;
use ws::{DeflateMode, Entropy, Session, SessionPolicy, Summary, TerminationReason};

use super::request_log::RequestLog;
use super::route::Route;
use super::state::ProxyState;
use crate::admission::concurrency::Permit;
use crate::downstream::h1::UpgradedClient;
use crate::downstream::response::{Body, boxed};
use crate::net::Stream;
use crate::net::network::TargetAddr;
use crate::net::opened::OpenedStream;
use crate::sessions::connection::Connection;
use crate::sessions::info::SessionInfo;
use crate::sessions::registry::{CommandReceiver, Registration};
use crate::sys::clock::now;
use crate::telemetry::events::handshake_reported;
use crate::telemetry::metrics::HandshakeStage;
use crate::telemetry::metrics::handles::BackendCounts;
use crate::telemetry::record::{SessionEnd, record_end, record_start};
use crate::tunnel::{BytesAfterHead, Tunnel};
use crate::upstream::choice::load::LoadGuard;
use crate::upstream::connect::ConnectedBackend;
use crate::upstream::handshake::UpgradedBackend;

/// A tunnel with a completed handshake, while the 101 is being sent to the client.
#[derive(Debug)]
pub struct PendingTunnel {
    guard: SessionGuard,
    policy: Arc<SessionPolicy>,
    backend: OpenedStream,
    after_head: bytes::Bytes,
    deflate: DeflateMode,
}

/// The results of admission and of the handshake with a backend.
pub struct HandshakeResult {
    /// The permit of the tunnel.
    pub permit: Permit,
    /// The backend connection and the negotiated parameters.
    pub upgraded: UpgradedBackend,
    /// When the connection to the backend was started.
    pub backend_started: Instant,
}

/// Registration and permit, which are released when the session ends.
#[derive(Debug)]
struct SessionGuard {
    registration: Registration,
    permit: SessionPermit,
}

/// What counts a tunnel. Few pools count their tunnels, so that only these pay for it.
#[derive(Debug)]
enum SessionPermit {
    Plain { _permit: Permit },
    Counted { _both: Box<(Permit, LoadGuard)> },
}

impl SessionPermit {
    fn new(permit: Permit, load: Option<LoadGuard>) -> Self {
        match load {
            Some(load) => Self::Counted { _both: Box::new((permit, load)) },
            None => Self::Plain { _permit: permit },
        }
    }
}

impl PendingTunnel {
    /// Registers the session. Returns the 101 for the client and the tunnel that starts after it.
    pub fn new(
        state: &ProxyState,
        connection: &Arc<Connection>,
        route: &Arc<Route>,
        handshake: HandshakeResult,
        log: &mut RequestLog,
    ) -> (Response<Body>, Self) {
        let HandshakeResult { permit, upgraded, backend_started } = handshake;
        let opened = now();
        let backend_handshake = opened.duration_since(backend_started);
        state
            .metrics
            .handshake_stage_took(HandshakeStage::Upgrade, opened.duration_since(log.started));
        state.metrics.handshake_stage_took(HandshakeStage::Backend, backend_handshake);
        let registration = state.registry.register(SessionInfo {
            connection: connection.clone(),
            counts: tunnel_counts(state, &upgraded.to),
            fields: log.packed_fields(upgraded.subprotocol.as_ref()),
            key: log.choice_key(),
            opened,
            backend_handshake_micros: u32::try_from(backend_handshake.as_micros())
                .unwrap_or(u32::MAX),
            generation: u32::try_from(log.generation).unwrap_or(u32::MAX),
        });
        if let Some(detail) = upgraded.subprotocol.and_then(|selected| selected.reported) {
            let (session, info) = (registration.handle.number, &registration.handle.info);
            handshake_reported(session, info.client(), &route.name, &info.counts.id, detail);
        }
        let (backend, after_head) = OpenedStream::new(upgraded.stream, upgraded.after_head);
        let tunnel = Self {
            guard: SessionGuard {
                registration,
                permit: SessionPermit::new(permit, log.take_load()),
            },
            policy: route.policy.clone(),
            backend,
            after_head,
            deflate: upgraded.deflate,
        };
        (upgraded.response.map(|()| boxed(Empty::new())), tunnel)
    }

    /// Ends the session of a client that disconnected before the 101 was written, and writes its
    /// record.
    pub fn abandon(self) {
        // `finish` counts an ended tunnel, so it must be counted as opened first.
        self.guard.info().counts.tunnel_opened();
        let reason = TerminationReason::ClientDisconnected;
        self.guard.finish(&Summary::unstarted(reason, &self.policy));
    }
}

/// The counters of a tunnel to this backend: if the name has only one, those of its address.
fn tunnel_counts(
    state: &ProxyState,
    ConnectedBackend { backend, address }: &ConnectedBackend,
) -> Arc<BackendCounts> {
    match (&backend.listed, address) {
        (Some(listed), TargetAddr::Tcp(address)) if listed.id == backend.id => {
            state.metrics.tunnels_at(&backend.counts, *address)
        }
        (_, _) => backend.counts.clone(),
    }
}

/// Starts the tunnel in its own task, so that the memory of the connection's task is freed.
pub fn start<S: Stream + Send + 'static>(
    state: &Arc<ProxyState>,
    client: UpgradedClient<S>,
    pending: PendingTunnel,
) {
    let handle = &pending.guard.registration.handle;
    record_start(|| handle.start_record());
    let mut entropy = SessionEntropy(state.clone());
    let session = Session::new(pending.policy, pending.deflate, state.uptime(), &mut entropy);
    let after_head =
        BytesAfterHead { from_client: client.after_head, from_backend: pending.after_head };
    let commands = pending.guard.registration.commands();
    handle.info.counts.tunnel_opened();
    let tunnel =
        Tunnel::new(*client.stream, pending.backend, session, after_head, commands, entropy);
    state.tasks.spawn(SessionTask { tunnel, guard: Some(pending.guard) });
}

/// Randomness from [`ProxyState::net`]. Every tunnel holds one, so it is a single pointer.
struct SessionEntropy(Arc<ProxyState>);

impl Entropy for SessionEntropy {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.0.net.fill_random(bytes);
    }
}

pin_project! {
    /// A hand-written future, because an `async` block would store the tunnel twice.
    struct SessionTask<S, E> {
        #[pin]
        tunnel: Tunnel<S, OpenedStream, CommandReceiver, E>,
        // `None` once the tunnel has ended.
        guard: Option<SessionGuard>,
    }

    impl<S, E> PinnedDrop for SessionTask<S, E> {
        fn drop(this: Pin<&mut Self>) {
            // After a panic or when the runtime shuts down, the session still gets its record.
            let this = this.project();
            let summary = this.tunnel.summary();
            if let Some(guard) = this.guard.take() {
                guard.finish(&summary);
            }
        }
    }
}

impl<S: Stream, E: Entropy> Future for SessionTask<S, E> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let summary = ready!(this.tunnel.poll(cx));
        if let Some(guard) = this.guard.take() {
            guard.finish(&summary);
        }
        Poll::Ready(())
    }
}

impl SessionGuard {
    fn info(&self) -> &SessionInfo {
        &self.registration.handle.info
    }

    /// Releases the permit and then writes the record, so that a reader of the record can rely on the
    /// permit being free.
    fn finish(self, summary: &Summary) {
        let Self { registration, permit } = self;
        let handle = registration.handle.clone();
        registration.count_repeated_end(summary);
        drop((permit, registration));
        let age = now().duration_since(handle.info.opened);
        handle.info.counts.tunnel_ended(summary.reason, summary.close_codes, age);
        record_end(&SessionEnd { start: handle.start_record(), summary, age });
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::admission::concurrency::{ConcurrencyLimits, TunnelLimits};
    use crate::net::Recv;
    use crate::net::scratch::{RecvScratch, SendScratch};
    use crate::net::socket::Socket;
    use crate::net::tls_engine::ServerEngine;
    use crate::net::unbuffered_tls::UnbufferedTls;
    use crate::sessions::info::SessionInfo;
    use crate::sessions::registry::Registry;
    use crate::sys::entropy::SystemEntropy;

    /// A client stream that panics at the first read.
    struct PanickingStream;

    impl Stream for PanickingStream {
        fn poll_recv<'s>(
            &mut self,
            _: &mut Context<'_>,
            _: &'s mut RecvScratch,
        ) -> Poll<io::Result<Recv<'s>>> {
            panic!("bug in the stream");
        }

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn send(
            &mut self,
            _: &mut Context<'_>,
            _: &[&[u8]],
            _: &mut SendScratch,
        ) -> io::Result<()> {
            Ok(())
        }

        fn poll_close(&mut self, _: &mut Context<'_>, _: &mut SendScratch) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn abort(&mut self) {}

        fn backlog(&self) -> usize {
            0
        }
    }

    // Requirements: SR14.
    #[tokio::test]
    async fn panic_ends_one_session_and_frees_permits() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backend = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (limits, registry) = (Arc::<ConcurrencyLimits>::default(), Arc::<Registry>::default());
        let info = SessionInfo::sample();
        let counts = info.counts.clone();
        let permit = limits
            .admit_tunnel(
                info.client(),
                &Arc::default(),
                TunnelLimits { total: 1, per_client: 1, per_route: None },
            )
            .unwrap();
        let registration = registry.register(info);
        let mut entropy = SystemEntropy;
        let session = Session::new(Arc::default(), DeflateMode::Off, Duration::ZERO, &mut entropy);
        let commands = registration.commands();
        counts.tunnel_opened();
        let (backend, _) = OpenedStream::new(Socket::Tcp(backend), Bytes::new());
        let tunnel = Tunnel::new(
            PanickingStream,
            backend,
            session,
            BytesAfterHead::default(),
            commands,
            entropy,
        );
        let guard = Some(SessionGuard { registration, permit: SessionPermit::new(permit, None) });
        let tasks = tokio_util::task::TaskTracker::new();
        let ended = tasks.spawn(SessionTask { tunnel, guard }).await;
        assert!(ended.unwrap_err().is_panic());
        assert_eq!((limits.tunnels(), registry.count(), counts.open.get()), (0, 0, 0));
        tasks.close();
        tasks.wait().await;
    }

    /// The task of a tunnel is one allocation; above 2,048 bytes the allocator would use 2,560.
    #[test]
    fn session_task_fits_in_2_kib() {
        type WssStream = UnbufferedTls<ServerEngine, Socket>;
        let task = size_of::<SessionTask<WssStream, SessionEntropy>>() + TASK_OVERHEAD;
        assert!(task <= 2048, "{task} B");
    }

    /// Bytes that tokio and the task tracker add to the future.
    const TASK_OVERHEAD: usize = 112;
}
