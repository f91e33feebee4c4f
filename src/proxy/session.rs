//! From the 101 to the record: the task of one tunnel, and all that must live exactly as long.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use http_body_util::Empty;
use hyper::Response;
use pin_project_lite::pin_project;
use tokio::net::TcpStream;
use ws::{
    CloseCodes, DeflateMode, ReadDelays, ReportedViolations, Session, SessionPolicy, Stats,
    TerminationReason,
};

use super::request_log::RequestLog;
use super::snapshot::Route;
use super::state::ProxyState;
use crate::admission::concurrency::Permit;
use crate::downstream::h1::UpgradedClient;
use crate::downstream::response::{Body, boxed};
use crate::net::Stream;
use crate::net::plain::PlainStream;
use crate::sessions::connection::Connection;
use crate::sessions::info::SessionInfo;
use crate::sessions::registry::{CommandReceiver, Registration};
use crate::sys::clock::now;
use crate::sys::entropy::SystemEntropy;
use crate::telemetry::metrics::HandshakeStep;
use crate::telemetry::record::{DecidingSetting, SessionEnd, begun, ended};
use crate::tunnel::progress::TunnelEnd;
use crate::tunnel::{EarlyBytes, Tunnel};
use crate::upstream::handshake::UpgradedBackend;

/// A tunnel that is agreed with both sides, while its 101 is on the way to the client.
#[derive(Debug)]
pub struct PendingTunnel {
    story: SessionGuard,
    terms: Arc<SessionPolicy>,
    backend: PlainStream<TcpStream>,
    early: bytes::Bytes,
    deflate: DeflateMode,
}

/// What must not be let go before a session ends.
#[derive(Debug)]
struct SessionGuard {
    registration: Registration,
    permit: Permit,
}

impl PendingTunnel {
    /// The 101 for the client, and what follows it.
    pub fn new(
        gate: &ProxyState,
        connection: &Arc<Connection>,
        route: &Arc<Route>,
        permit: Permit,
        upgraded: UpgradedBackend,
        dialling: Instant,
        inquiry: &RequestLog,
    ) -> (Response<Body>, Self) {
        let opened = now();
        gate.metrics.took(HandshakeStep::Admit, opened.duration_since(inquiry.began));
        gate.metrics.took(HandshakeStep::Backend, opened.duration_since(dialling));
        let dial = opened.duration_since(dialling).as_micros();
        let registration = gate.registry.register(SessionInfo {
            connection: connection.clone(),
            counts: upgraded.backend.counts.clone(),
            particulars: inquiry.shown(upgraded.subprotocol.as_deref()),
            opened,
            dial: u32::try_from(dial).unwrap_or(u32::MAX),
            generation: u32::try_from(inquiry.generation).unwrap_or(u32::MAX),
        });
        let plan = Self {
            story: SessionGuard { registration, permit },
            terms: route.terms.clone(),
            backend: PlainStream::new(upgraded.stream),
            early: upgraded.early,
            deflate: upgraded.deflate,
        };
        (upgraded.response.map(|()| boxed(Empty::new())), plan)
    }

    /// The client left before its 101 was out: the record, and nothing else.
    pub fn abandon(self) {
        self.story.facts().counts.began();
        self.story.finish(&TunnelEnd {
            end: TerminationReason::ClientGone,
            value: None,
            tally: Stats::default(),
            closes: CloseCodes::default(),
            client_rtt: None,
            backend_rtt: None,
            client_reported: ReportedViolations::default(),
            backend_reported: ReportedViolations::default(),
            client_delayed: ReadDelays::default(),
            backend_delayed: ReadDelays::default(),
        });
    }
}

/// Begins the tunnel, in a task of its own: the connection's task is done, and its memory with
/// it.
pub fn open<S: Stream + Send + 'static>(
    gate: &ProxyState,
    served: UpgradedClient<S>,
    plan: PendingTunnel,
) {
    let line = &plan.story.registration.line;
    begun(&line.facts.begun(line.session));
    let mut entropy = SystemEntropy;
    let session = Session::new(plan.terms, plan.deflate, &mut entropy);
    let early = EarlyBytes { from_client: served.early, from_backend: plan.early };
    let orders = plan.story.registration.orders();
    line.facts.counts.began();
    let tunnel = Tunnel::new(served.stream, plan.backend, session, early, orders, entropy);
    gate.tasks.spawn(SessionTask { tunnel, story: Some(plan.story) });
}

pin_project! {
    /// By hand, because an `async` block would hold the tunnel twice.
    struct SessionTask<S> {
        #[pin]
        tunnel: Tunnel<S, PlainStream<TcpStream>, CommandReceiver, SystemEntropy>,
        // Until the tunnel has ended.
        story: Option<SessionGuard>,
    }

    impl<S> PinnedDrop for SessionTask<S> {
        fn drop(this: Pin<&mut Self>) {
            // Broken off, by a panic or with the process: its record and its counts are owed.
            let this = this.project();
            let ending = this.tunnel.broken_off();
            if let Some(story) = this.story.take() {
                story.finish(&ending);
            }
        }
    }
}

impl<S: Stream> Future for SessionTask<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let ending = ready!(this.tunnel.poll(cx));
        if let Some(story) = this.story.take() {
            story.finish(&ending);
        }
        Poll::Ready(())
    }
}

impl SessionGuard {
    fn facts(&self) -> &SessionInfo {
        &self.registration.line.facts
    }

    /// Gives the place back, and then tells of it: who reads the record may count on the place.
    fn finish(self, ending: &TunnelEnd) {
        let Self { registration, permit } = self;
        let line = registration.line.clone();
        drop((permit, registration));
        let age = now().duration_since(line.facts.opened);
        line.facts.counts.ended(ending.end, ending.closes, age);
        ended(&SessionEnd {
            tunnel: line.facts.begun(line.session),
            end: ending.end,
            deciding: DecidingSetting { key: ending.end.key(), value: ending.value.clone() },
            tally: &ending.tally,
            closes: ending.closes,
            client_rtt: ending.client_rtt,
            backend_rtt: ending.backend_rtt,
            client_reported: ending.client_reported,
            backend_reported: ending.backend_reported,
            client_delayed: ending.client_delayed,
            backend_delayed: ending.backend_delayed,
            age,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tokio::net::TcpListener;

    use super::*;
    use crate::admission::concurrency::ConcurrencyLimits;
    use crate::net::Recv;
    use crate::net::engine::ServerEngine;
    use crate::net::scratch::{RecvScratch, SendScratch};
    use crate::net::unbuffered_tls::UnbufferedTls;
    use crate::sessions::info::SessionInfo;
    use crate::sessions::registry::Registry;

    /// A client whose first byte is too much for us.
    struct PanickingStream;

    impl Stream for PanickingStream {
        fn poll_recv<'s>(
            &mut self,
            _: &mut Context<'_>,
            _: &'s mut RecvScratch,
        ) -> Poll<io::Result<Recv<'s>>> {
            panic!("a defect of ours");
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
        let (occupancy, registry) =
            (Arc::<ConcurrencyLimits>::default(), Arc::<Registry>::default());
        let facts = SessionInfo::sample();
        let counts = facts.counts.clone();
        let permit = occupancy.tunnel(facts.client(), 1, 1, &Arc::default(), None).unwrap();
        let registration = registry.register(facts);
        let mut entropy = SystemEntropy;
        let session = Session::new(Arc::default(), DeflateMode::Off, &mut entropy);
        let orders = registration.orders();
        counts.began();
        let backend = PlainStream::new(backend);
        let tunnel =
            Tunnel::new(PanickingStream, backend, session, EarlyBytes::default(), orders, entropy);
        let story = Some(SessionGuard { registration, permit });
        let tasks = tokio_util::task::TaskTracker::new();
        let ended = tasks.spawn(SessionTask { tunnel, story }).await;
        assert!(ended.unwrap_err().is_panic());
        assert_eq!((occupancy.tunnels(), registry.len(), counts.open.get()), (0, 0, 0));
        tasks.close();
        tasks.wait().await;
    }

    /// The task of an open socket is one allocation: a byte more than this takes 2,560.
    #[test]
    fn a_session_is_small() {
        type WssTunnel = UnbufferedTls<ServerEngine, TcpStream>;
        let task = size_of::<SessionTask<WssTunnel>>() + AROUND_A_TASK;
        assert!(task <= 2048, "{task} B");
    }

    /// What tokio and the tracker put around the future.
    const AROUND_A_TASK: usize = 112;
}
