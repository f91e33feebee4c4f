//! An HTTP/2 connection, which remains after its first response.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use hyper::{Request, Response};

use super::dropped::report_drop;
use super::request::ConnectionContext;
use super::session::{PendingTunnel, start};
use super::state::ProxyState;
use crate::admission::pending::PendingConnection;
use crate::admission::pending_memory::{HTTP2_BYTES, OWN_RESPONSE_BYTES};
use crate::downstream::h1::UpgradedClient;
use crate::downstream::http2::connection::{self, Http2Limits};
use crate::downstream::http2::handler::Http2Handler;
use crate::downstream::http2::request_body::Http2Body;
use crate::downstream::reply::Reply;
use crate::listener::key::ListenerKey;
use crate::net::Stream;
use crate::net::http2::stream::Http2Stream;
use crate::reject::RejectReason;
use crate::reject::drop_reason::DropReason;
use crate::sessions::connection::Connection;
use crate::sys::clock::now;
use crate::sys::worker_share::{ShareTurn, WorkKind};

/// A connection whose first response is on its way.
pub(super) struct OpenedHttp2 {
    serving: Pin<Box<dyn Future<Output = Result<(), DropReason>> + Send>>,
    connection: Arc<Connection>,
    pending: Arc<PendingConnection>,
}

impl OpenedHttp2 {
    /// Serves a connection until its first response is ready; `None` if it ends before.
    ///
    /// # Errors
    /// The connection ended for one of the reasons of [`connection::serve`].
    pub(super) async fn open<S: Stream + Send + 'static>(
        stream: Box<S>,
        context: ConnectionContext,
    ) -> Result<Option<Self>, DropReason> {
        let limits =
            Http2Limits { timeouts: context.timeouts(), request_head: context.request_head };
        let (pending, connection) = (context.pending.clone(), context.connection.clone());
        pending.set_buffered(HTTP2_BYTES);
        let state = context.state.clone();
        let waiting = state.waiting.clone();
        let drain = async move { state.wait_draining().await };
        let handler = RequestHandler(context);
        let mut serving: Pin<Box<dyn Future<Output = _> + Send>> =
            Box::pin(connection::serve(stream, limits, waiting, drain, handler));
        let ended = poll_fn(|cx| match serving.as_mut().poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending if pending.is_opened() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        match ended.await {
            Some(ended) => ended.map(|()| None),
            None => Ok(Some(Self { serving, connection, pending })),
        }
    }

    /// Serves the connection to its end. It was accepted by this listener at `started`.
    pub(super) async fn serve(self, state: Arc<ProxyState>, key: ListenerKey, started: Instant) {
        let Self { mut serving, connection, pending } = self;
        let mut share = ShareTurn::of(pending.share_owner());
        let ended = poll_fn(|cx| match pending.poll_shed(cx) {
            Poll::Ready(cause) => Poll::Ready(Err(DropReason::Shed(cause))),
            Poll::Pending => {
                let _work = ready!(share.poll(WorkKind::Http, cx));
                serving.as_mut().poll(cx)
            }
        });
        let Err(reason) = ended.await else { return };
        let snapshot = state.snapshot();
        // `None` if a reload has removed it.
        let listener = snapshot.listener(key);
        let client = &connection.client;
        report_drop(&state, &snapshot, listener, client, &reason, now() - started);
    }
}

/// Handles the requests of all streams of a connection.
struct RequestHandler(ConnectionContext);

impl Http2Handler for RequestHandler {
    type Tunnel = PendingTunnel;

    async fn handle(
        &self,
        request: Request<Http2Body>,
        checked: Result<(), RejectReason>,
        send_interim: &(dyn Fn(&Response<()>) + Sync),
    ) -> Reply<PendingTunnel> {
        self.0.pending.set_busy();
        let reply = self.0.handle_request(request, checked, send_interim).await;
        self.0.pending.set_opened();
        reply
    }

    fn start_tunnel(&self, stream: Http2Stream, tunnel: Box<PendingTunnel>) {
        let client = UpgradedClient { stream: Box::new(stream), after_head: Bytes::new() };
        start(&self.0.state, client, *tunnel);
    }

    fn abandon_tunnel(&self, tunnel: Box<PendingTunnel>) {
        tunnel.abandon();
    }

    fn set_idle(&self) {
        self.0.pending.set_idle();
    }

    fn set_waiting(&self, own_responses: usize, has_tunnels: bool) {
        let own_bytes = own_responses as u64 * OWN_RESPONSE_BYTES;
        match has_tunnels {
            true => self.0.pending.set_tunneling(own_bytes),
            false => self.0.pending.set_buffered(HTTP2_BYTES + own_bytes),
        }
    }

    fn set_partial_head(&self, bytes: u64) -> Result<(), DropReason> {
        self.0.pending.set_partial_head(bytes).map_err(DropReason::Shed)
    }

    fn count_refused_heads(&self, count: u32) {
        self.0.state.metrics.http2_heads_refused.add(count.into());
    }

    fn is_shared(&self) -> bool {
        let peer = &self.0.connection.client.addr;
        self.0.state.snapshot().trusted_proxies.contains(peer)
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.0.state.net.fill_random(bytes);
    }
}
