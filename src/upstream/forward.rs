//! Forwarding one plain HTTP request to a backend and streaming its response back.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{AUTHORIZATION, EXPECT};
use hyper::{Method, Request, Response, StatusCode, Version};
use tokio::time::Instant;

use super::connect::{BackendConnection, Connector, Link};
use super::connect_error::ConnectError;
use super::forwarded_headers::ForwardedHeaders;
use super::head;
use super::http1::connection::{BodyError, HttpConnection, UploadBody};
use super::http1::exchange::{BackendExchange, PendingResponse};
use super::http1::idle_connections::Wanted;
use super::http1::idle_timer::{Awaited, ExchangeActivity, IdleLimits, IdleTimer};
use super::http1::interim::InterimRelay;
use super::http1::response_body::ResponseBody;
use super::http1::reuse_hint::{RequestKind, ReuseHint, authenticates_connection};
use super::pool::Backend;
use crate::config::settings::HeaderRules;
use crate::reject::RejectReason;
use crate::sys::worker_step::{charge_part, poll_step};

/// How a plain request is forwarded.
#[derive(Clone, Copy, Debug)]
pub struct ForwardOptions {
    /// The longest time without progress, which is a part of the request body, the response head, an
    /// interim response, or a part of the response body.
    pub idle: IdleLimits,
    /// How long a connection may wait for its next request; `None` if each request gets a new one.
    pub keep_alive: Option<Duration>,
}

/// What the caller learns while a request is forwarded.
pub trait ForwardObserver {
    /// A connection to this backend carries the request.
    fn connected(&mut self, backend: &Arc<Backend>);
    /// There is no connection to any backend.
    fn not_connected(&mut self, failed: &ConnectError);
    /// The backend sent a valid response head, or none for this reason. A failure that the client may have caused
    /// is not reported.
    fn responded(&mut self, backend: &Backend, response: Result<(), RejectReason>);
    /// An interim response (1xx) for the client.
    fn interim(&self, response: &Response<()>);
}

/// Forwards a plain request, and returns the response once its head is complete and valid.
///
/// Trailers pass if the head announces them. `Expect: 100-continue` is the backend's to answer: the body is
/// forwarded as it comes, with or without a 100.
///
/// A request fails on a used connection if the backend closes it at the same moment, which is here within
/// half a second. It is then repeated once, on a new connection, if nothing of it was sent, or if it may be
/// repeated and nothing of a response came (RFC 9110 9.2.2).
///
/// # Errors
/// Those of [`Connector::connect`], [`RejectReason::RequestInvalid`] if the request cannot be forwarded,
/// [`RejectReason::BackendHandshakeInvalid`] if the response is invalid, [`RejectReason::BodyTimeout`] if the client stopped
/// sending its body, [`RejectReason::BodyTooSlow`] if it sent it too slowly, and [`RejectReason::BackendIdleTimeout`] if the
/// backend made no progress.
pub async fn forward<B>(
    connector: &Connector<'_>,
    request: Request<B>,
    forwarded: &ForwardedHeaders<'_>,
    options: ForwardOptions,
    observer: &mut (dyn ForwardObserver + Send + Sync),
) -> Result<Response<ResponseBody>, RejectReason>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BodyError>,
{
    let (mut head, body) = request.into_parts();
    let activity = Arc::<ExchangeActivity>::default();
    activity.set_expectation(head.headers.contains_key(EXPECT) && head.version >= Version::HTTP_11);
    let may_repeat = head.method.is_idempotent() && body.is_end_stream();
    let kind =
        RequestKind { has_body: !body.is_end_stream(), is_head: head.method == Method::HEAD };
    // Others must not use a connection that the backend takes for this client's, or on which it may take the
    // rest of this request for the next one: many do not read a body that they do not expect.
    let is_shareable = !authenticates_connection(&head.headers, &AUTHORIZATION)
        && (!kind.has_body || [Method::POST, Method::PUT, Method::PATCH].contains(&head.method));
    let keep_alive = options.keep_alive.filter(|_| is_shareable);
    let keeps = keep_alive.is_some();
    let spelling = head::take_spelling(&mut head.extensions);
    // To build the request again, which is cheaper than a copy of each.
    let mut spare = (keeps && may_repeat).then(|| spelling.clone());
    let request = head::plain_request(&head, spelling, forwarded, keeps)?;
    let mut request = request.map(|()| upload(body, kind, &activity));
    // A request that cannot be repeated must not meet the backend closing the connection.
    let mut wanted = keep_alive.map(|keep_alive| wanted(forwarded, keep_alive, may_repeat));
    loop {
        let connected = connector.connect_or_reuse(wanted.take()).await;
        let BackendConnection { link, to } = connected.map_err(|failed| {
            observer.not_connected(&failed);
            failed.reason
        })?;
        observer.connected(&to.backend);
        let (mut http, is_used) = http_on(link, forwarded).await?;
        if kind.has_body {
            http.reserve_for(forwarded.client.addr);
        }
        let (mut exchange, pending) = BackendExchange::start(http, request);
        exchange.reset_if_incomplete();
        let rules = &forwarded.policy.response_headers;
        let sent = Instant::now();
        let mut idle = IdleTimer::new(options.idle, activity.clone(), &to.backend.health, sent);
        let waiting = response_head(&mut exchange, pending, &mut idle, rules, observer);
        let received = match is_used {
            true => waiting.await,
            false => to.backend.idle.give_up_while(waiting).await,
        };
        let is_sent = !kind.has_body || idle.activity().is_request_sent();
        match received {
            Ok(response) => {
                let checked = checked(response, rules, kind);
                let (response, body, hint) = report(observer, &to.backend, is_sent, checked)?;
                let keep = keep_alive.filter(|_| is_sent).and_then(|most| hint.apply(most));
                let body = ResponseBody::new(body, exchange, idle, to, keep);
                return Ok(response.map(|()| body));
            }
            Err(reason) if !is_used => {
                let failed = Err(exchange.into_reason(reason));
                return report(observer, &to.backend, is_sent, failed);
            }
            // The backend may have worked on it.
            Err(reason) if sent.elapsed() > REPEAT_WITHIN => return Err(reason),
            Err(reason) => {
                request = match exchange.take_unsent() {
                    Some(request) => request,
                    None => match spare.take() {
                        Some(spelling) if exchange.ended_unanswered() => {
                            head::plain_request(&head, spelling, forwarded, keeps)?
                                .map(|()| no_body())
                        }
                        Some(_) | None => return Err(reason),
                    },
                };
            }
        }
    }
}

/// The used connection that a request may take.
fn wanted(forwarded: &ForwardedHeaders<'_>, keep_alive: Duration, may_repeat: bool) -> Wanted {
    Wanted {
        client: forwarded.client.addr,
        limits: forwarded.policy.response_head,
        max_idle: if may_repeat { keep_alive } else { keep_alive.min(UNREPEATABLE_IDLE_MAX) },
        is_proven: !may_repeat,
    }
}

/// Reports the response of a backend to the observer. If the request was not sent as a whole, the client may be
/// the cause of a failure.
fn report<T>(
    observer: &mut (dyn ForwardObserver + Send + Sync),
    backend: &Backend,
    is_sent: bool,
    response: Result<T, RejectReason>,
) -> Result<T, RejectReason> {
    match &response {
        Ok(_) => observer.responded(backend, Ok(())),
        Err(reason) if is_sent => observer.responded(backend, Err(*reason)),
        Err(_) => {}
    }
    response
}

/// Waits for the response head, as long as there is progress.
async fn response_head(
    exchange: &mut BackendExchange,
    mut pending: PendingResponse,
    idle: &mut IdleTimer,
    rules: &HeaderRules,
    observer: &(dyn ForwardObserver + Send + Sync),
) -> Result<Response<Incoming>, RejectReason> {
    let activity = Arc::clone(idle.activity());
    let send = |response: &Response<()>| {
        activity.record();
        if response.status() == StatusCode::CONTINUE {
            activity.set_expectation(false);
        }
        observer.interim(response);
    };
    let interim = InterimRelay { rules, send: &send };
    poll_fn(|cx| match exchange.poll_response(cx, &mut pending, interim) {
        Poll::Ready(response) => Poll::Ready(response),
        Poll::Pending => idle.poll_expired(cx).map(|awaited| match awaited {
            Awaited::Client => Err(RejectReason::BodyTimeout),
            Awaited::SlowClient => Err(RejectReason::BodyTooSlow),
            Awaited::Backend => Err(RejectReason::BackendIdleTimeout),
        }),
    })
    .await
}

/// The response for the client, built from a valid one of a backend.
fn checked(
    response: Response<Incoming>,
    rules: &HeaderRules,
    kind: RequestKind,
) -> Result<(Response<()>, Incoming, ReuseHint), RejectReason> {
    let (mut head, body) = response.into_parts();
    match head.status.as_u16() {
        101 => Err(RejectReason::BackendHandshakeInvalid(
            "101 response to a request without an upgrade",
        )),
        // Up to 999: a client treats a status that it does not know as 500 (RFC 9110 15).
        _ => {
            let hint = ReuseHint::of(&head, kind);
            Ok((head::plain_response(&mut head, rules)?, body, hint))
        }
    }
}

/// The connection, and whether it has carried requests.
async fn http_on(
    link: Link,
    forwarded: &ForwardedHeaders<'_>,
) -> Result<(HttpConnection, bool), RejectReason> {
    match link {
        Link::Used(http) => Ok((http, true)),
        Link::New(socket) => {
            let http = HttpConnection::new(socket, forwarded.policy.response_head).await?;
            Ok((http, false))
        }
    }
}

fn upload<B>(body: B, kind: RequestKind, activity: &Arc<ExchangeActivity>) -> UploadBody
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BodyError>,
{
    if !kind.has_body {
        return no_body();
    }
    let activity = activity.clone();
    RequestBody { body, activity }.map_err(Into::into).boxed_unsync()
}

fn no_body() -> UploadBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// The body of the client's request.
#[derive(Debug)]
struct RequestBody<B> {
    body: B,
    activity: Arc<ExchangeActivity>,
}

/// hyper drops a body as soon as it has all of it.
impl<B> Drop for RequestBody<B> {
    fn drop(&mut self) {
        self.activity.set_request_sent();
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for RequestBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        ready!(poll_step(cx));
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.activity.set_awaiting_client(frame.is_pending());
        let frame = ready!(frame);
        // A client need not wait for the 100.
        self.activity.set_expectation(false);
        if let Some(Ok(frame)) = &frame {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            charge_part(bytes);
            self.activity.add_up(bytes);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How soon after a request its connection must have ended for the request to be repeated.
const REPEAT_WITHIN: Duration = Duration::from_millis(500);
/// How long a connection may have been idle for a request that cannot be repeated. Applications close idle
/// connections after 2 s (Gunicorn) or later.
const UNREPEATABLE_IDLE_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
