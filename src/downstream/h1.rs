//! The HTTP/1.1 server of one connection: reads request heads under limits, has requests answered in
//! order, and hands the stream over when one of them becomes a tunnel.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, TRANSFER_ENCODING};
use hyper::rt::{Read, ReadBuf, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::TokioTimer;
use tokio::select;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::framing::{FramingChecker, FramingHandle};
use super::reply::Reply;
use super::response::Body;
use crate::net::Stream;
use crate::net::http_io::HttpIo;
use crate::reject::{ConnectionStage, DropReason, RejectReason};

/// Deadlines of a connection while it speaks HTTP.
#[derive(Clone, Copy, Debug)]
pub struct HttpTimeouts {
    /// From the start of waiting for a request to the end of its head.
    pub request_header: Duration,
    /// A client that does not read its response.
    pub write: Duration,
}

/// A client's stream after the upgrade.
#[derive(Debug)]
pub struct UpgradedClient<S> {
    /// The stream.
    pub stream: S,
    /// What the client sent after its handshake, already read.
    pub early: Bytes,
}

/// How a connection ended without an error.
#[derive(Debug)]
pub enum Served<S, T> {
    /// All requests are answered, and the connection is closed.
    Closed,
    /// The 101 is written: the tunnel takes over the stream.
    Upgraded(UpgradedClient<S>, Box<T>),
    /// The client disconnected before its 101 was written; the tunnel never starts.
    Abandoned(Box<T>),
}

/// Serves requests until the connection ends or one of them becomes a tunnel.
///
/// `handler` gets each request and, if its framing is ambiguous, the reason to reject it. `drain`
/// becomes ready when no further request is wanted; a client that connected just before and has
/// not sent a request yet still gets an answer to its first.
///
/// # Errors
/// The connection ended before its first request was complete, sent something that is not
/// HTTP/1.1, or did not read its response.
pub async fn serve<S, T, H, F>(
    stream: S,
    timeouts: HttpTimeouts,
    drain: impl Future<Output = ()>,
    handler: H,
) -> Result<Served<S, T>, DropReason>
where
    S: Stream + Send + 'static,
    T: Send + 'static,
    H: Fn(Request<Incoming>, Result<(), RejectReason>) -> F + Unpin,
    F: Future<Output = Reply<T>> + Send + 'static,
{
    let framing = FramingChecker::shared();
    let io = FramingHandle::new(HttpIo::new(stream, timeouts.write), framing.clone());
    // hyper runs the handler inside the connection and takes nothing but responses from it; what else
    // the connection needs to know comes as events, before the response is written.
    let (sender, mut events) = mpsc::channel(EVENTS_MAX);
    let service = service_fn(|request: Request<Incoming>| {
        // The framing check cannot follow a chunked body, and RFC 9112 9.3 wants no persistent
        // connection with an HTTP/1.0 client.
        let is_last = request.headers().contains_key(TRANSFER_ENCODING)
            || request.version() < Version::HTTP_11;
        let reply = handler(request, framing.next_head());
        let sender = sender.clone();
        Box::pin(async move {
            // Not sent earlier: hyper never runs the handler of a client that leaves right after its
            // request. Pipelined requests say nothing new, and leave room for a tunnel.
            if sender.capacity() > 1 {
                let _ = sender.try_send(Event::Started);
            }
            let response = match reply.await {
                Reply::Response(response) => response,
                Reply::Tunnel { response, tunnel } => {
                    // There is room, and the receiver outlives the connection.
                    let _ = sender.try_send(Event::Tunnel(tunnel));
                    response
                }
            };
            Ok::<_, std::convert::Infallible>(if is_last { closing(response) } else { response })
        }) as Pin<Box<dyn Future<Output = _> + Send>>
    });
    let mut connection = builder(timeouts.request_header).serve_connection(io, service);
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
            if polled.is_ready() || closing || !(draining && (served || grace_over)) {
                return polled;
            }
            closing = true;
            Pin::new(&mut connection).graceful_shutdown();
            connection.poll_without_shutdown(cx)
        });
        select! {
            end = serving => break end,
            () = &mut drain, if !draining => draining = true,
            () = &mut grace, if draining && !grace_over => grace_over = true,
        }
    };
    // The last poll may have run the handler.
    while let Ok(event) = events.try_recv() {
        served = true;
        tunnel = event.tunnel();
    }
    let parts = connection.into_parts();
    let mut io = parts.io.into_inner();
    match (end, tunnel) {
        (Ok(()), Some(tunnel)) => Ok(Served::Upgraded(upgraded(io, parts.read_buf), tunnel)),
        (Err(_), Some(tunnel)) => {
            linger(&mut io).await;
            Ok(Served::Abandoned(tunnel))
        }
        (Ok(()), None) => {
            linger(&mut io).await;
            if served || draining {
                Ok(Served::Closed)
            } else {
                Err(DropReason::ClientDisconnected(ConnectionStage::Head))
            }
        }
        (Err(error), None) => {
            linger(&mut io).await;
            let reason = classify(&error);
            // Between two requests a client may stay silent or leave.
            let is_leave =
                matches!(reason, DropReason::HeadTimeout | DropReason::ClientDisconnected(_));
            if served && is_leave { Ok(Served::Closed) } else { Err(reason) }
        }
    }
}

/// What a handler tells its connection.
enum Event<T> {
    /// A request is being answered.
    Started,
    /// Its response is followed by a tunnel.
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
fn closing(mut response: Response<Body>) -> Response<Body> {
    let close = HeaderValue::from_static("close");
    if response.headers().get(CONNECTION) != Some(&close) {
        response.headers_mut().append(CONNECTION, close);
    }
    response
}

/// hyper ignores its head timeout without a timer, so both are set here.
fn builder(request_header: Duration) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(request_header)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .half_close(false);
    builder
}

fn upgraded<S: Stream>(io: HttpIo<S>, read: Bytes) -> UpgradedClient<S> {
    let (stream, rest) = io.into_parts();
    let early = match (read.is_empty(), rest.is_empty()) {
        (_, true) if read.is_empty() => Bytes::new(),
        // A copy: hyper's bytes keep its whole read buffer alive.
        (_, true) => Bytes::copy_from_slice(&read),
        (true, false) => Bytes::from(rest),
        (false, false) => Bytes::from([&read[..], &rest[..]].concat()),
    };
    UpgradedClient { stream, early }
}

/// Closes so that the peer can read the last response: unread data of the peer would turn the close
/// into a reset, which may overtake the response (RFC 9112 9.6).
async fn linger<S: Stream>(io: &mut HttpIo<S>) {
    let lingering = async {
        poll_fn(|cx| Pin::new(&mut *io).poll_shutdown(cx)).await?;
        let mut scrap = [0; 4096];
        loop {
            let mut buf = ReadBuf::new(&mut scrap);
            poll_fn(|cx| Pin::new(&mut *io).poll_read(cx, buf.unfilled())).await?;
            if buf.filled().is_empty() {
                return Ok::<_, io::Error>(());
            }
        }
    };
    // The connection is over either way.
    let _ = timeout(LINGER, lingering).await;
}

fn classify(error: &hyper::Error) -> DropReason {
    if error.is_parse() {
        return DropReason::HeadInvalid(error.to_string());
    }
    let source = std::error::Error::source(error).and_then(|s| s.downcast_ref::<io::Error>());
    if source.is_some_and(|source| source.kind() == io::ErrorKind::TimedOut) {
        return DropReason::WriteTimeout;
    }
    if error.is_timeout() {
        DropReason::HeadTimeout
    } else {
        DropReason::ClientDisconnected(ConnectionStage::Head)
    }
}

/// Request line and header lines together; more is 431 (target alone: 414).
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Header lines; more is 431.
const HEADERS_MAX: usize = 64;
/// Events of one poll of the connection that are kept.
const EVENTS_MAX: usize = 4;
/// Time for the first request of a connection that was accepted just before a drain began: its
/// client gets a 503 instead of a reset.
const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(2);
/// Time to keep reading after the last response.
const LINGER: Duration = Duration::from_secs(2);
