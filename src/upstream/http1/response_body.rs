//! The body of a backend's response on its way to the client.
//!
//! Polling the body drives the exchange: at most one body frame per direction is buffered, a slow reader
//! slows the sender down, and dropping the body before its end resets the backend connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::exchange::{AfterResponse, BackendExchange};
use super::idle_timer::{Awaited, ExchangeActivity, IdleTimer};
use crate::reject::abort::AbortCause;
use crate::sys::worker_step::{charge_part, poll_step};
use crate::upstream::connect::ConnectedBackend;

/// The body of a response, and the connection that carries it. Boxed, because it is moved through several
/// layers.
#[derive(Debug)]
pub struct ResponseBody(Box<RelayedResponse>);

#[derive(Debug)]
struct RelayedResponse {
    body: Incoming,
    exchange: BackendExchange,
    idle: IdleTimer,
    has_ended: bool,
    to: ConnectedBackend,
    /// How long the connection may be idle afterwards; `None` if it is not used again.
    keep: Option<Duration>,
}

impl ResponseBody {
    /// Continues an exchange after the response head. `idle` limits the time without progress.
    pub fn new(
        body: Incoming,
        exchange: BackendExchange,
        idle: IdleTimer,
        to: ConnectedBackend,
        keep: Option<Duration>,
    ) -> Self {
        idle.activity().record();
        Self(Box::new(RelayedResponse { body, exchange, idle, has_ended: false, to, keep }))
    }

    /// Whether all of the body was passed on.
    pub fn has_ended(&self) -> bool {
        self.0.has_ended()
    }

    /// What was transferred in both directions.
    pub fn activity(&self) -> &Arc<ExchangeActivity> {
        self.0.idle.activity()
    }
}

impl RelayedResponse {
    fn has_ended(&self) -> bool {
        self.has_ended || self.body.is_end_stream()
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = AbortCause;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AbortCause>>> {
        let this = &mut *self.0;
        // A backend that sends without end must not keep the worker from others.
        ready!(poll_step(cx));
        match this.exchange.poll_part(cx, &mut this.body) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                charge_part(bytes);
                this.idle.activity().record();
                this.idle.activity().add_down(bytes);
                // Nothing follows trailers, and hyper does not ask for it.
                this.has_ended = frame.is_trailers();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                this.has_ended = true;
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(Some(Err(this.exchange.abort_cause(&error))))
            }
            Poll::Pending => {
                let cause = match ready!(this.idle.poll_expired(cx)) {
                    Awaited::Client => AbortCause::BodyTimeout,
                    Awaited::SlowClient => AbortCause::BodyTooSlow,
                    Awaited::Backend => AbortCause::BackendIdleTimeout,
                };
                Poll::Ready(Some(Err(cause)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.body.size_hint()
    }
}

/// hyper drops a body as soon as its length is reached. The connection is then kept for another request,
/// or closed once the backend has closed it.
impl Drop for RelayedResponse {
    fn drop(&mut self) {
        if !self.has_ended() {
            return;
        }
        let idle = &self.to.backend.idle;
        match (self.exchange.take_after_response(), self.keep) {
            (Some(AfterResponse::Reusable(http)), Some(max_idle)) => {
                idle.put(http, self.to.address.clone(), max_idle);
            }
            (Some(AfterResponse::Reusable(http)), None) => {
                idle.close_after_backend(http.into_parts().0)
            }
            (Some(AfterResponse::Ended(socket)), _) => idle.close_after_backend(socket),
            (None, _) => {}
        }
    }
}
