//! From the 101 to the record: the task of one tunnel, and all that must live exactly as long.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use http_body_util::Empty;
use hyper::Response;
use pin_project_lite::pin_project;
use tokio::net::TcpStream;

use super::chance::SystemEntropy;
use super::gate::{Gate, now};
use super::generation::Route;
use super::inquiry::Inquiry;
use super::journey::Connection;
use super::registry::{Orders, Registration};
use crate::admit::{Body, Permit, Served, boxed};
use crate::backend::{Backend, Upgraded};
use crate::observe::{Deciding, Ended, ended};
use crate::stream::{PlainStream, Stream};
use crate::tunnel::{Early, Ending, Tunnel};
use crate::ws::{Closes, End, Session, Tally};

/// A tunnel that is agreed with both sides, while its 101 is on the way to the client.
#[derive(Debug)]
pub struct Plan {
    story: Story,
    backend: PlainStream<TcpStream>,
    early: bytes::Bytes,
    deflate: bool,
}

/// What the record of a session needs, and what must not be let go before it ends.
#[derive(Debug)]
struct Story {
    connection: Arc<Connection>,
    route: Arc<Route>,
    backend: Arc<Backend>,
    host: Box<str>,
    target: Box<str>,
    opened: Instant,
    dial: Duration,
    generation: u64,
    registration: Registration,
    permit: Permit,
}

impl Plan {
    /// The 101 for the client, and what follows it.
    pub fn new(
        gate: &Gate,
        connection: &Arc<Connection>,
        route: &Arc<Route>,
        permit: Permit,
        upgraded: Upgraded,
        dialling: Instant,
        inquiry: &Inquiry,
    ) -> (Response<Body>, Self) {
        let opened = now();
        let (host, target) = inquiry.shown();
        let story = Story {
            connection: connection.clone(),
            route: route.clone(),
            backend: upgraded.backend,
            host,
            target,
            opened,
            dial: opened.duration_since(dialling),
            generation: inquiry.generation,
            registration: gate.registry.register(),
            permit,
        };
        let plan = Self {
            story,
            backend: PlainStream::new(upgraded.stream),
            early: upgraded.early,
            deflate: upgraded.deflate,
        };
        (upgraded.response.map(|()| boxed(Empty::new())), plan)
    }

    /// The client left before its 101 was out: the record, and nothing else.
    pub fn abandon(self) {
        let (tally, closes) = (Tally::default(), Closes::default());
        self.story.finish(&Ending { end: End::ClientGone, tally, closes });
    }
}

/// Begins the tunnel, in a task of its own: the connection's task is done, and its memory with
/// it.
pub fn open<S: Stream + Send + 'static>(gate: &Gate, served: Served<S>, plan: Plan) {
    let mut entropy = SystemEntropy;
    let terms = plan.story.route.terms.clone();
    let session = Session::new(terms, plan.deflate, now(), &mut entropy);
    let early = Early { from_client: served.early, from_backend: plan.early };
    let orders = plan.story.registration.orders();
    let tunnel = Tunnel::new(served.stream, plan.backend, session, early, orders, entropy);
    gate.tasks.spawn(SessionTask { tunnel, story: Some(plan.story) });
}

pin_project! {
    /// By hand, because an `async` block would hold the tunnel twice.
    struct SessionTask<S> {
        #[pin]
        tunnel: Tunnel<S, PlainStream<TcpStream>, Orders, SystemEntropy>,
        // Until the tunnel has ended.
        story: Option<Story>,
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

impl Story {
    /// Gives the place back, and then tells of it: who reads the record may count on the place.
    fn finish(self, ending: &Ending) {
        let session = self.registration.session;
        drop((self.permit, self.registration));
        let value = ending.end.value(&self.route.terms);
        ended(&Ended {
            visitor: &self.connection.visitor,
            session,
            route: &self.route.name,
            backend: &self.backend.id,
            host: &self.host,
            target: &self.target,
            end: ending.end,
            deciding: Deciding { key: ending.end.key(), value },
            tally: &ending.tally,
            closes: ending.closes,
            age: now().duration_since(self.opened),
            dial: self.dial,
            generation: self.generation,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::StockStream;

    /// What every open socket costs, beside rustls' own buffers and keys: the task is one
    /// allocation of this size.
    #[test]
    fn a_session_is_small() {
        type Wss = StockStream<TcpStream>;
        let own = size_of::<SessionTask<Wss>>() - size_of::<Wss>();
        assert!(own <= 700, "{own} B beside the TLS stream");
    }
}
