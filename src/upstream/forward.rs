//! Forwarding one plain HTTP request to a backend and streaming its response back.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::EXPECT;
use hyper::{Request, Response, StatusCode, Version};

use super::connect::BackendConnection;
use super::exchange::{BackendExchange, BodyError};
use super::forwarded_headers::ForwardedHeaders;
use super::head;
use super::idle_timer::{Awaited, ExchangeActivity, IdleTimer};
use super::interim::InterimRelay;
use super::response_body::ResponseBody;
use crate::net::Transport as _;
use crate::reject::RejectReason;

/// Forwards a plain request, and returns the response once its head is complete and valid.
///
/// `idle_timeout` limits the time without progress, which is a frame of the request body, the response
/// head, an interim response, or a frame of the response body. Trailers pass if the head announces them.
/// `send_interim` gets the interim responses (1xx) for the client. `Expect: 100-continue` is the backend's
/// to answer: the body is forwarded as it comes, with or without a 100.
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
    send_interim: &(dyn Fn(&Response<()>) + Sync),
) -> Result<Response<ResponseBody<RequestBody<B>>>, RejectReason>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BodyError>,
{
    let (mut head, body) = request.into_parts();
    let mut idle = IdleTimer::new(idle_timeout);
    let activity = Arc::clone(idle.activity());
    activity.set_expectation(head.headers.contains_key(EXPECT) && head.version >= Version::HTTP_11);
    let upload = RequestBody { body, activity: Arc::clone(&activity) };
    let request = head::plain_request(&mut head, forwarded)?.map(|()| upload);
    let BackendConnection { mut stream, backend } = connection;
    // The proxy closes this connection first, after the response. TIME_WAIT would occupy a local port for
    // a minute, and one busy client could exhaust them.
    stream.reset_on_drop();
    let (mut exchange, mut response) =
        BackendExchange::start(stream, forwarded.policy.response_head, request).await?;
    let rules = &forwarded.policy.response_headers;
    let send = |response: &Response<()>| {
        activity.record();
        if response.status() == StatusCode::CONTINUE {
            activity.set_expectation(false);
        }
        send_interim(response);
    };
    let interim = InterimRelay { rules, send: &send };
    let response = poll_fn(|cx| match exchange.poll_response(cx, &mut response, interim) {
        Poll::Ready(response) => Poll::Ready(response),
        Poll::Pending => idle.poll_expired(cx).map(|awaited| match awaited {
            Awaited::Client => Err(RejectReason::BodyTimeout),
            Awaited::Backend => Err(RejectReason::BackendIdleTimeout),
        }),
    });
    let checked = response.await.and_then(|response| {
        let (mut head, body) = response.into_parts();
        match head.status.as_u16() {
            101 => Err(RejectReason::BackendHandshakeInvalid(
                "101 response to a request without an upgrade",
            )),
            // Up to 999: a client treats a status that it does not know as 500 (RFC 9110 15).
            _ => Ok((head::plain_response(&mut head, rules)?, body)),
        }
    });
    let (response, body) = checked?;
    backend.record_success();
    Ok(response.map(|()| ResponseBody::new(body, exchange, idle)))
}

/// The body of the client's request.
#[derive(Debug)]
pub struct RequestBody<B> {
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
        self.activity.set_awaiting_client(frame.is_pending());
        let frame = ready!(frame);
        // A client need not wait for the 100.
        self.activity.set_expectation(false);
        self.activity.record();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
