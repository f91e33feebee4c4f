//! The HTTP/1.1 server of one connection: reads request heads with limits, calls the handler for each
//! request in order, and hands the stream over when a request becomes a tunnel.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, TRANSFER_ENCODING};
use hyper::rt::Write;
use hyper::service::service_fn;
use hyper::{Request, Response, Uri, Version};
use tokio::select;
use tokio::time::{sleep, timeout};

use super::framing::{FramingChecker, FramingStream};
use super::head_error::{Unread, invalid_head};
use super::http1_body::Http1Body;
use super::interim::InterimSender;
use super::on_demand::OnDemandConnection;
use super::output::{OutputBody, OutputStream, ResponseOutput};
use super::reply::Reply;
use super::request_timer::{ConnectionPhase, HttpTimeouts, RequestTimer};
use super::response::Body;
use crate::http::head_limits::HeadLimits;
use crate::net::Stream;
use crate::net::http_io::HttpIo;
use crate::reject::RejectReason;
use crate::reject::drop_reason::DropReason;
use crate::reject::stage::ConnectionStage;

/// A client's stream after the upgrade.
#[derive(Debug)]
pub struct UpgradedClient<S> {
    /// The stream.
    pub stream: Box<S>,
    /// Bytes that the client sent after its handshake and that have already been read.
    pub after_head: Bytes,
}

/// What a connection waits with.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionWait {
    /// Each request has its response, and there was one.
    pub is_idle: bool,
    /// It holds hyper's buffers.
    pub has_buffers: bool,
    /// Number of bytes of the next head.
    pub head_bytes: usize,
    /// The client does not accept its response.
    pub is_stalled: bool,
}

/// How a connection ended without an error.
#[derive(Debug)]
pub enum Served<S, T> {
    /// All requests have a response, and the connection is closed.
    Closed,
    /// The 101 has been written, and the tunnel takes over the stream.
    Upgraded(UpgradedClient<S>, Box<T>),
    /// The client disconnected before its 101 was written; the tunnel never starts.
    Abandoned(Box<T>),
}

/// Serves requests until the connection ends or one of them becomes a tunnel.
///
/// `handler` receives each request, the reason to reject it if its framing is ambiguous or its target too
/// long, and the means to send interim responses. A 100 is sent only by `handler`, while the request body can be read before. When `drain`
/// is ready, the connection is closed after the current request; a client that has not sent a request
/// yet still gets a response to its first one, if it arrives within two seconds. `on_wait` is called whenever the
/// connection waits for something.
///
/// # Errors
/// The connection ended before its first request was complete, sent something that is not
/// HTTP/1.1, or did not read its response.
pub async fn serve<S, T, H, F>(
    stream: Box<S>,
    timeouts: HttpTimeouts,
    limits: HeadLimits,
    drain: impl Future<Output = ()>,
    handler: H,
    on_wait: impl Fn(ConnectionWait),
) -> Result<Served<S, T>, DropReason>
where
    S: Stream + Send + 'static,
    T: Send + 'static,
    H: Fn(Request<Http1Body>, Result<(), RejectReason>, InterimSender) -> F + Send + Sync,
    F: Future<Output = Reply<T>> + Send,
{
    let framing = FramingChecker::shared();
    let output = ResponseOutput::default();
    let stream = FramingStream::new(stream, framing.clone());
    let io = OutputStream::new(HttpIo::new(stream, timeouts.write), output.clone());
    // hyper runs the handler inside the connection and accepts only a response from it. Everything else
    // that this loop needs is left here before the response is written.
    let handled = Handled { served: AtomicBool::new(false), tunnel: Mutex::new(None) };
    let service = service_fn(|request: Request<Incoming>| {
        // The framing check cannot continue after a chunked body, and an HTTP/1.0 connection is not
        // persistent by default (RFC 9112 9.3).
        let version = request.version();
        let is_last =
            request.headers().contains_key(TRANSFER_ENCODING) || version < Version::HTTP_11;
        let interim = InterimSender::new(output.clone(), &request);
        let expects_continue = interim.expects_continue();
        output.receive_request();
        let checked = framing.next_head().and_then(|()| check_target(request.uri(), limits));
        let request = request.map(|body| Http1Body::new(body, &output));
        let (handled, output, handler) = (&handled, output.clone(), &handler);
        Box::pin(async move {
            output.start_request(expects_continue).await;
            // Not set earlier: hyper never polls the handler if the client disconnects right after its request.
            handled.served.store(true, Ordering::Relaxed);
            // Called here because its future is large, and would otherwise be moved twice.
            let response = handled.keep_tunnel(handler(request, checked, interim).await);
            // A client that was not told to continue may or may not send its body.
            let is_last = is_last || output.has_expectation();
            let response = if is_last { closing(response, version) } else { response };
            Ok::<_, Infallible>(response.map(|body| OutputBody::new(body, output, version)))
        }) as Pin<Box<dyn Future<Output = _> + Send + '_>>
    });
    let mut connection = OnDemandConnection::new(limits, io, service);
    let mut timer = pin!(RequestTimer::new(timeouts));
    let (mut drain, mut grace) = (pin!(drain), pin!(sleep(FIRST_REQUEST_GRACE)));
    let (mut draining, mut grace_over, mut closing) = (false, false, false);
    let end = loop {
        let serving = poll_fn(|cx| {
            let polled = connection.poll(cx);
            let served = handled.served.load(Ordering::Relaxed);
            if let Poll::Ready(end) = polled {
                return Poll::Ready(End::Finished(end));
            }
            if !closing && draining && (served || grace_over) {
                closing = true;
                connection.graceful_shutdown();
                cx.waker().wake_by_ref();
            }
            let is_silent = framing.is_between_requests();
            let phase = ConnectionPhase::of(output.is_idle(), served && is_silent);
            // A client that did not finish its first head by now gets no response.
            if closing && phase == ConnectionPhase::Head {
                return Poll::Ready(End::Expired { is_silent });
            }
            let may_rest = || output.is_body_read() && framing.awaits_head();
            let (timer, requests) = (timer.as_mut(), output.requests());
            let expired = connection.poll_expired(timer, phase, requests, may_rest, cx);
            on_wait(ConnectionWait {
                is_idle: served && phase != ConnectionPhase::Response,
                has_buffers: connection.is_active(),
                head_bytes: framing.head_bytes(),
                is_stalled: output.is_stalled(),
            });
            expired.map(|()| End::Expired { is_silent })
        });
        select! {
            end = serving => break end,
            () = &mut drain, if !draining => draining = true,
            () = &mut grace, if draining && !grace_over => grace_over = true,
        }
    };
    let (must_reset, is_body_endless) = (output.must_reset(), framing.is_body_endless());
    // It is absent only while it changes.
    let Some((io, unread)) = connection.into_parts() else { return Ok(Served::Closed) };
    let (served, tunnel) = handled.into_parts();
    let finished = Finished { end, limits, is_body_endless, served, draining, must_reset };
    finished.close_or_upgrade(io, unread, tunnel).await
}

/// What the handlers of a connection leave for its loop.
struct Handled<T> {
    /// A handler has started.
    served: AtomicBool,
    /// Follows the response.
    tunnel: Mutex<Option<Box<T>>>,
}

impl<T> Handled<T> {
    /// Keeps the tunnel of a reply, and returns the response.
    fn keep_tunnel(&self, reply: Reply<T>) -> Response<Body> {
        match reply {
            Reply::Response(response) => response,
            Reply::Tunnel { response, tunnel } => {
                *self.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
                response
            }
        }
    }

    fn into_parts(self) -> (bool, Option<Box<T>>) {
        let tunnel = self.tunnel.into_inner().unwrap_or_else(PoisonError::into_inner);
        (self.served.into_inner(), tunnel)
    }
}

/// What ended the loop of a connection.
enum End {
    /// hyper has finished.
    Finished(hyper::Result<()>),
    /// No request, or not the whole head of one, came in time.
    Expired { is_silent: bool },
}

/// A connection whose loop has ended.
struct Finished {
    end: End,
    limits: HeadLimits,
    /// See [`FramingChecker::is_body_endless`].
    is_body_endless: bool,
    served: bool,
    draining: bool,
    /// See [`ResponseOutput::must_reset`].
    must_reset: bool,
}

impl Finished {
    /// Passes the stream on if a tunnel follows, and closes it otherwise.
    async fn close_or_upgrade<S: Stream, T>(
        self,
        mut io: HttpIo<FramingStream<S>>,
        unread: Bytes,
        tunnel: Option<Box<T>>,
    ) -> Result<Served<S, T>, DropReason> {
        match tunnel {
            Some(tunnel) if matches!(self.end, End::Finished(Ok(()))) => {
                return Ok(Served::Upgraded(upgraded(io, unread), tunnel));
            }
            Some(tunnel) => {
                linger(&mut io).await;
                return Ok(Served::Abandoned(tunnel));
            }
            None if self.must_reset => {
                // Time for the client to receive what it can still get.
                let _ = timeout(LINGER, discard_input(&mut io)).await;
                io.abort();
            }
            None => linger(&mut io).await,
        }
        self.drop_reason(&unread).map_or(Ok(Served::Closed), Err)
    }

    /// Why a connection without a tunnel ended, unless this is normal.
    fn drop_reason(self, unread: &[u8]) -> Option<DropReason> {
        let (limits, is_body_endless) = (self.limits, self.is_body_endless);
        let unread = Unread { bytes: unread, limits, is_body_endless };
        let reason = match self.end {
            End::Finished(Ok(())) | End::Expired { .. } if self.draining => return None,
            End::Finished(Ok(())) => DropReason::ClientDisconnected(ConnectionStage::Head),
            End::Finished(Err(error)) => classify(&error, unread),
            End::Expired { is_silent: true } => DropReason::NoRequest,
            End::Expired { is_silent: false } => DropReason::HeadTimeout,
        };
        // A client may stay idle or disconnect between requests.
        let is_normal = matches!(
            reason,
            DropReason::NoRequest | DropReason::HeadTimeout | DropReason::ClientDisconnected(_)
        );
        (!self.served || !is_normal).then_some(reason)
    }
}

/// Announces that the connection ends with this response (RFC 9112 9.6).
fn closing(mut response: Response<Body>, version: Version) -> Response<Body> {
    // Otherwise hyper adds keep-alive for an HTTP/1.0 client that asked for it.
    *response.version_mut() = version;
    let close = HeaderValue::from_static("close");
    if response.headers().get(CONNECTION) != Some(&close) {
        response.headers_mut().append(CONNECTION, close);
    }
    response
}

/// Rejects a target that leaves too little of the largest head for the fields. hyper answers a larger head
/// with 431.
fn check_target(uri: &Uri, limits: HeadLimits) -> Result<(), RejectReason> {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let path_and_query = uri.path_and_query().map_or("", |target| target.as_str());
    if authority.len() + path_and_query.len() > limits.target_bytes() {
        return Err(RejectReason::UriTooLong);
    }
    Ok(())
}

fn upgraded<S: Stream>(io: HttpIo<FramingStream<S>>, read: Bytes) -> UpgradedClient<S> {
    let (stream, rest) = io.into_parts();
    let after_head = match (read.is_empty(), rest.is_empty()) {
        (_, true) if read.is_empty() => Bytes::new(),
        // Copied, because hyper's `Bytes` would keep its whole read buffer alive.
        (_, true) => Bytes::copy_from_slice(&read),
        (true, false) => Bytes::from(rest),
        (false, false) => Bytes::from([&read[..], &rest[..]].concat()),
    };
    UpgradedClient { stream: stream.into_inner(), after_head }
}

/// Closes the connection so that the peer can read the last response. Closing while unread data is buffered
/// would cause a reset, which may discard the response (RFC 9112 9.6).
async fn linger<S: Stream>(io: &mut HttpIo<S>) {
    let lingering = async {
        poll_fn(|cx| Pin::new(&mut *io).poll_shutdown(cx)).await?;
        discard_input(io).await
    };
    // The connection is closed in any case.
    let _ = timeout(LINGER, lingering).await;
}

/// Reads and discards what the peer sends, until it closes its side or has sent too much.
async fn discard_input<S: Stream>(io: &mut HttpIo<S>) -> io::Result<()> {
    let mut discarded = 0;
    while discarded <= LINGER_BYTES_MAX {
        let mut received = 0;
        poll_fn(|cx| io.poll_read_with(cx, usize::MAX, |bytes| received = bytes.len())).await?;
        if received == 0 {
            return Ok(());
        }
        discarded += received;
    }
    Ok(())
}

fn classify(error: &hyper::Error, unread: Unread<'_>) -> DropReason {
    if error.is_parse() {
        return DropReason::HeadInvalid(invalid_head(error, unread));
    }
    let source = std::error::Error::source(error).and_then(|s| s.downcast_ref::<io::Error>());
    if source.is_some_and(|source| source.kind() == io::ErrorKind::TimedOut) {
        return DropReason::WriteTimeout;
    }
    DropReason::ClientDisconnected(ConnectionStage::Head)
}

/// Time for the first request of a connection that was accepted just before a drain started, so that its
/// client gets a 503 instead of a reset.
const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(2);
/// Maximum time to read and discard data after the last response.
const LINGER: Duration = Duration::from_secs(2);
/// More than the socket buffers of both ends hold, which a client may have sent before it got the response.
const LINGER_BYTES_MAX: usize = 16 * 1024 * 1024;
