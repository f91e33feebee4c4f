//! The HTTP/1.1 server of one connection: reads request heads with limits, calls the handler for each
//! request in order, and hands the stream over when a request becomes a tunnel.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, TRANSFER_ENCODING};
use hyper::rt::Write;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, Uri, Version};
use tokio::select;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::framing::{FramingChecker, FramingStream};
use super::head_error::{Unread, invalid_head};
use super::interim::InterimSender;
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
/// yet still gets a response to its first one, if it arrives within two seconds. `on_idle` is called again and again
/// while every request has its response.
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
    on_idle: impl Fn(),
) -> Result<Served<S, T>, DropReason>
where
    S: Stream + Send + 'static,
    T: Send + 'static,
    H: Fn(Request<Incoming>, Result<(), RejectReason>, InterimSender) -> F + Send + Sync,
    F: Future<Output = Reply<T>> + Send,
{
    let framing = FramingChecker::shared();
    let output = ResponseOutput::default();
    let stream = FramingStream::new(stream, framing.clone());
    let io = OutputStream::new(HttpIo::new(stream, timeouts.write), output.clone());
    // hyper runs the handler inside the connection and accepts only a response from it. Everything else
    // that this loop needs is sent through a channel before the response is written.
    let (sender, mut events) = mpsc::channel(EVENTS_MAX);
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
        let (sender, output, handler) = (sender.clone(), output.clone(), &handler);
        Box::pin(async move {
            output.start_request(expects_continue).await;
            announce(&sender);
            // Called here because its future is large, and would otherwise be moved twice.
            let response = send_tunnel(handler(request, checked, interim).await, &sender);
            // A client that was not told to continue may or may not send its body.
            let is_last = is_last || output.has_expectation();
            let response = if is_last { closing(response, version) } else { response };
            Ok::<_, Infallible>(response.map(|body| OutputBody::new(body, output, version)))
        }) as Pin<Box<dyn Future<Output = _> + Send + '_>>
    });
    let mut connection = builder(limits).serve_connection(io, service);
    let mut timer = pin!(RequestTimer::new(timeouts));
    let (mut drain, mut grace) = (pin!(drain), pin!(sleep(FIRST_REQUEST_GRACE)));
    let (mut draining, mut grace_over, mut closing) = (false, false, false);
    let (mut served, mut tunnel) = (false, None);
    let end = loop {
        let serving = poll_fn(|cx| {
            let polled = connection.poll_without_shutdown(cx);
            while let Ok(event) = events.try_recv() {
                served = true;
                tunnel = event.tunnel();
            }
            if let Poll::Ready(end) = polled {
                return Poll::Ready(End::Finished(end));
            }
            if !closing && draining && (served || grace_over) {
                closing = true;
                Pin::new(&mut connection).graceful_shutdown();
                cx.waker().wake_by_ref();
            }
            let is_silent = framing.is_between_requests();
            let phase = ConnectionPhase::of(output.is_idle(), served && is_silent);
            if served && phase != ConnectionPhase::Response {
                on_idle();
            }
            // A client that did not finish its first head by now gets no response.
            if closing && phase == ConnectionPhase::Head {
                return Poll::Ready(End::Expired { is_silent });
            }
            let expired = timer.as_mut().poll_expired(phase, output.requests(), cx);
            expired.map(|()| End::Expired { is_silent })
        });
        select! {
            end = serving => break end,
            () = &mut drain, if !draining => draining = true,
            () = &mut grace, if draining && !grace_over => grace_over = true,
        }
    };
    // The last poll may have called the handler.
    while let Ok(event) = events.try_recv() {
        served = true;
        tunnel = event.tunnel();
    }
    let parts = connection.into_parts();
    let (must_reset, is_body_endless) = (output.must_reset(), framing.is_body_endless());
    let finished = Finished { end, limits, is_body_endless, served, draining, must_reset };
    finished.close_or_upgrade(parts.io.into_inner(), parts.read_buf, tunnel).await
}

/// Reports to the connection that the handler of a request starts.
fn announce<T>(sender: &mpsc::Sender<Event<T>>) {
    // Not sent earlier: hyper never polls the handler if the client disconnects right after its
    // request. Further pipelined requests need no event, and the last slot is for a tunnel.
    if sender.capacity() > 1 {
        let _ = sender.try_send(Event::Started);
    }
}

/// Passes the tunnel of a reply to the connection, and returns the response.
fn send_tunnel<T>(reply: Reply<T>, sender: &mpsc::Sender<Event<T>>) -> Response<Body> {
    match reply {
        Reply::Response(response) => response,
        Reply::Tunnel { response, tunnel } => {
            // The channel has a free slot, and the receiver outlives the connection.
            let _ = sender.try_send(Event::Tunnel(tunnel));
            response
        }
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

/// A message from a request handler to its connection.
enum Event<T> {
    /// The handler has started.
    Started,
    /// A tunnel follows the response.
    Tunnel(Box<T>),
}

impl<T> Event<T> {
    fn tunnel(self) -> Option<Box<T>> {
        match self {
            Self::Started => None,
            Self::Tunnel(tunnel) => Some(tunnel),
        }
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

/// Configures hyper. Field names have the spelling of the backend, or that of the RFCs if the proxy adds them:
/// some clients compare them exactly.
fn builder(limits: HeadLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // The time for a head is that of `RequestTimer`.
        .header_read_timeout(None)
        .max_buf_size(limits.bytes)
        // The buffer alone may be exceeded by one read.
        .max_header_size(limits.bytes)
        .preserve_header_case(true)
        .title_case_headers(true)
        .half_close(false);
    // hyper's own limit is 100; it allocates space for any that is set.
    if limits.fields != HeadLimits::default().fields {
        builder.max_headers(limits.fields);
    }
    builder
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

/// Capacity of the event channel, which is read after every poll of the connection.
const EVENTS_MAX: usize = 4;
/// Time for the first request of a connection that was accepted just before a drain started, so that its
/// client gets a 503 instead of a reset.
const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(2);
/// Maximum time to read and discard data after the last response.
const LINGER: Duration = Duration::from_secs(2);
/// More than the socket buffers of both ends hold, which a client may have sent before it got the response.
const LINGER_BYTES_MAX: usize = 16 * 1024 * 1024;
