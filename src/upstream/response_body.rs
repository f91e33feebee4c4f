//! The body of a backend's response on its way to the client.
//!
//! Polling the body drives the exchange: at most one body frame per direction is buffered, a slow reader
//! slows the sender down, and dropping the body closes the backend connection.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::exchange::{BackendExchange, BodyError};
use super::idle_timer::{Awaited, IdleTimer};
use crate::reject::abort::AbortCause;

/// The body of a response, and the connection that carries it. `B` is the body of the request.
#[derive(Debug)]
pub struct ResponseBody<B>
where
    B: Body<Data = Bytes> + 'static,
{
    body: Incoming,
    exchange: BackendExchange<B>,
    idle: IdleTimer,
}

impl<B> ResponseBody<B>
where
    B: Body<Data = Bytes> + 'static,
{
    /// Continues an exchange after the response head. `idle` limits the time without progress.
    pub fn new(body: Incoming, exchange: BackendExchange<B>, idle: IdleTimer) -> Self {
        idle.activity().record();
        Self { body, exchange, idle }
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = AbortCause;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AbortCause>>> {
        let this = &mut *self;
        this.exchange.poll_io(cx);
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.idle.activity().record();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(Some(Err(this.exchange.abort_cause(&error))))
            }
            Poll::Pending => {
                let cause = match ready!(this.idle.poll_expired(cx)) {
                    Awaited::Client => AbortCause::BodyTimeout,
                    Awaited::Backend => AbortCause::BackendIdleTimeout,
                };
                Poll::Ready(Some(Err(cause)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
