//! Forwarding one plain HTTP request to a backend and streaming its response back.
//!
//! Polling the response body drives the exchange: at most one body frame per direction is buffered, a
//! slow reader slows the sender down, and dropping the body closes the backend connection.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::{Request, Response};
use tokio::time::{Instant, Sleep, sleep};

use super::connect::BackendConnection;
use super::exchange::{BackendExchange, BodyError};
use super::forwarded_headers::ForwardedHeaders;
use super::head;
use crate::net::Transport as _;
use crate::reject::RejectReason;

/// Forwards a plain request, and returns the response once its head is complete and valid.
///
/// `idle_timeout` limits the time without progress, which is a frame of the request body, the response
/// head, or a frame of the response body. Trailers are removed in both directions, and interim
/// responses (1xx) are not forwarded.
///
/// # Errors
/// [`RejectReason::RequestInvalid`] if the request cannot be forwarded, [`RejectReason::BackendHandshakeInvalid`] if the
/// response is invalid, [`RejectReason::BodyTimeout`] if the client stopped sending its body, and
/// [`RejectReason::BackendIdleTimeout`] if the backend made no progress.
pub async fn forward<B>(
    connection: BackendConnection,
    request: Request<B>,
    forwarded: &ForwardedHeaders<'_>,
    idle_timeout: Duration,
) -> Result<Response<ResponseBody<B>>, RejectReason>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BodyError>,
{
    let (head, body) = request.into_parts();
    let mut idle = IdleTimer::new(idle_timeout);
    let upload = RequestBody { body, activity: Arc::clone(&idle.activity) };
    let request = head::plain_request(&head, forwarded)?.map(|()| upload);
    let BackendConnection { mut stream, backend } = connection;
    // The proxy closes this connection first, after the response. TIME_WAIT would occupy a local port for
    // a minute, and one busy client could exhaust them.
    stream.reset_on_drop();
    let (mut exchange, mut response) = BackendExchange::start(stream, request).await?;
    let response = poll_fn(|cx| match exchange.poll_response(cx, &mut response) {
        Poll::Ready(response) => Poll::Ready(response),
        Poll::Pending => idle.poll_expired(cx).map(Err),
    });
    let rules = &forwarded.policy.response_headers;
    let checked = response.await.and_then(|response| {
        let (head, body) = response.into_parts();
        match head.status.as_u16() {
            200..=599 => Ok((head::plain_response(&head, rules)?, body)),
            101 => Err(RejectReason::BackendHandshakeInvalid(
                "101 response to a request without an upgrade",
            )),
            _ => Err(RejectReason::BackendHandshakeInvalid("response status out of range")),
        }
    });
    let (response, body) = checked?;
    backend.record_success();
    idle.activity.record();
    Ok(response.map(|()| ResponseBody { body, exchange, idle }))
}

/// The body of a response, and the connection that carries it.
#[derive(Debug)]
pub struct ResponseBody<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
{
    body: Incoming,
    exchange: BackendExchange<RequestBody<B>>,
    idle: IdleTimer,
}

/// Why a response body ended early. The connection to the client is then aborted, so that the client
/// cannot mistake the body for a complete one.
#[derive(Debug, thiserror::Error)]
pub enum ResponseBodyError {
    /// No progress within the idle timeout.
    #[error("{0}")]
    IdleTimeout(RejectReason),
    /// The backend connection or the client's request body failed.
    #[error("the connection to the backend failed during the response")]
    Failed(#[from] hyper::Error),
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = ResponseBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseBodyError>>> {
        let this = &mut *self;
        this.exchange.poll_io(cx);
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                this.idle.activity.record();
                Poll::Ready(Some(Ok(frame)))
            }
            // Trailers are the last frame.
            Poll::Ready(Some(Ok(_)) | None) => Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Pending => {
                let reason = ready!(this.idle.poll_expired(cx));
                Poll::Ready(Some(Err(ResponseBodyError::IdleTimeout(reason))))
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

/// The body of the client's request.
#[derive(Debug)]
struct RequestBody<B> {
    body: B,
    activity: Arc<ExchangeActivity>,
}

impl<B: Body<Data = Bytes> + Unpin> Body for RequestBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.activity.awaiting_client.store(frame.is_pending(), Ordering::Relaxed);
        let frame = ready!(frame);
        self.activity.record();
        // RFC 9110 6.5.1 allows a proxy to discard trailers; forwarding them would require the same checks
        // as for headers.
        Poll::Ready(frame.filter(|frame| !frame.as_ref().is_ok_and(Frame::is_trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Progress of one exchange, recorded by both directions.
#[derive(Debug, Default)]
struct ExchangeActivity {
    /// Counts progress.
    count: AtomicU32,
    /// The backend could take more of the request body than the client has sent.
    awaiting_client: AtomicBool,
}

impl ExchangeActivity {
    fn record(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Expires when an exchange makes no progress.
#[derive(Debug)]
struct IdleTimer {
    activity: Arc<ExchangeActivity>,
    /// The count at the last poll.
    seen: u32,
    limit: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl IdleTimer {
    fn new(limit: Duration) -> Self {
        Self { activity: Arc::default(), seen: 0, limit, sleep: Box::pin(sleep(limit)) }
    }

    /// Ready when the exchange made no progress for too long. Must be called after the exchange was
    /// polled, so that data which has already arrived counts as progress.
    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<RejectReason> {
        let count = self.activity.count.load(Ordering::Relaxed);
        if count != self.seen {
            self.seen = count;
            self.sleep.as_mut().reset(Instant::now() + self.limit);
        }
        self.sleep.as_mut().poll(cx).map(|()| {
            if self.activity.awaiting_client.load(Ordering::Relaxed) {
                RejectReason::BodyTimeout
            } else {
                RejectReason::BackendIdleTimeout
            }
        })
    }
}

#[cfg(test)]
mod tests;
