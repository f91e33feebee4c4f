//! One plain HTTP request to a backend, and its answer back, both streamed.
//!
//! Whoever reads the answer's body drives the exchange: nothing is buffered beyond one frame
//! each way, a slow reader slows the sender, and dropping the body drops the backend connection.

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

/// Sends a plain request on, and gives its answer once the head is there and lawful.
///
/// `silence` bounds the time in which neither a piece of the request body, nor the answer's
/// head, nor a piece of the answer's body comes: [`RejectReason::BodyTimeout`] while the client owes
/// its body, else [`RejectReason::BackendIdleTimeout`]. Trailers end here both ways, and interim responses
/// (1xx) are not passed on.
pub async fn forward<B>(
    dialled: BackendConnection,
    request: Request<B>,
    introduction: &ForwardedHeaders<'_>,
    silence: Duration,
) -> Result<Response<ResponseBody<B>>, RejectReason>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BodyError>,
{
    let (head, body) = request.into_parts();
    let mut silence = ExchangeTimeout::new(silence);
    let upload = RequestBody { body, pulse: Arc::clone(&silence.pulse) };
    let request = head::plain_request(&head, introduction)?.map(|()| upload);
    let BackendConnection { mut stream, backend } = dialled;
    // We let go first, once the answer is whole: TIME_WAIT would hold a local port for a minute,
    // and one busy client could use up all of them.
    stream.reset_on_drop();
    let (mut exchange, mut answer) = BackendExchange::begin(stream, request).await?;
    let answer = poll_fn(|cx| match exchange.poll_answer(cx, &mut answer) {
        Poll::Ready(answer) => Poll::Ready(answer),
        Poll::Pending => silence.poll_over(cx).map(Err),
    });
    let rules = &introduction.manner.response_headers;
    let judged = answer.await.and_then(|answer| {
        let (head, body) = answer.into_parts();
        match head.status.as_u16() {
            200..=599 => Ok((head::plain_response(&head, rules)?, body)),
            101 => Err(RejectReason::BackendHandshakeInvalid("a 101 that nobody asked for")),
            _ => Err(RejectReason::BackendHandshakeInvalid("a status that does not exist")),
        }
    });
    match judged {
        Ok((response, body)) => {
            backend.answered();
            silence.pulse.beat();
            Ok(response.map(|()| ResponseBody { body, exchange, silence }))
        }
        Err(refusal) => Err(refusal),
    }
}

/// An answer's body, with the connection that it comes by.
#[derive(Debug)]
pub struct ResponseBody<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
{
    body: Incoming,
    exchange: BackendExchange<RequestBody<B>>,
    silence: ExchangeTimeout,
}

/// Why an answer ended before its end. The client sees its connection cut, never a body that
/// looks whole.
#[derive(Debug, thiserror::Error)]
pub enum BrokenResponse {
    /// Nothing came for too long.
    #[error("{0}")]
    Silent(RejectReason),
    /// The backend, or the client's request body, broke off.
    #[error("the exchange with the backend broke off")]
    Lost(#[from] hyper::Error),
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BrokenResponse;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenResponse>>> {
        let this = &mut *self;
        this.exchange.poll_drive(cx);
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                this.silence.pulse.beat();
                Poll::Ready(Some(Ok(frame)))
            }
            // Trailers come last.
            Poll::Ready(Some(Ok(_)) | None) => Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Pending => {
                let refusal = ready!(this.silence.poll_over(cx));
                Poll::Ready(Some(Err(BrokenResponse::Silent(refusal))))
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

/// A client's request body on its way to the backend.
#[derive(Debug)]
struct RequestBody<B> {
    body: B,
    pulse: Arc<ActivityTimer>,
}

impl<B: Body<Data = Bytes> + Unpin> Body for RequestBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.pulse.client_owes.store(frame.is_pending(), Ordering::Relaxed);
        let frame = ready!(frame);
        self.pulse.beat();
        // RFC 9110 6.5.1: trailers may be discarded. What they could say of Host, Connection or
        // ourselves is then nobody's worry.
        Poll::Ready(frame.filter(|frame| !frame.as_ref().is_ok_and(Frame::is_trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What the two directions of one exchange tell its clock.
#[derive(Debug, Default)]
struct ActivityTimer {
    beats: AtomicU32,
    client_owes: AtomicBool,
}

impl ActivityTimer {
    fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }
}

/// The clock of one exchange.
#[derive(Debug)]
struct ExchangeTimeout {
    pulse: Arc<ActivityTimer>,
    heard: u32,
    limit: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl ExchangeTimeout {
    fn new(limit: Duration) -> Self {
        Self { pulse: Arc::default(), heard: 0, limit, sleep: Box::pin(sleep(limit)) }
    }

    /// Ready when it was silent for too long. To be asked after the exchange was driven: what
    /// has come while nobody looked is no silence.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<RejectReason> {
        let beats = self.pulse.beats.load(Ordering::Relaxed);
        if beats != self.heard {
            self.heard = beats;
            self.sleep.as_mut().reset(Instant::now() + self.limit);
        }
        self.sleep.as_mut().poll(cx).map(|()| {
            if self.pulse.client_owes.load(Ordering::Relaxed) {
                RejectReason::BodyTimeout
            } else {
                RejectReason::BackendIdleTimeout
            }
        })
    }
}

#[cfg(test)]
mod tests;
