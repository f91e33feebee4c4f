//! The HTTP/1.1 server on one connection: heads read under limits, requests answered one after
//! another, and the stream handed back when one of them switched protocols.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, TRANSFER_ENCODING};
use hyper::rt::{Read, ReadBuf, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::TokioTimer;
use tokio::select;
use tokio::time::{sleep, timeout};

use super::framing::{FramingChecker, FramingHandle};
use super::response::Body;
use crate::net::Stream;
use crate::net::http_io::HttpIo;
use crate::reject::{ConnectionStage, DropReason, RejectReason};

/// Deadlines of the HTTP phase.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Whole head, and the wait for it.
    pub head: Duration,
    /// A client that takes nothing of its answer.
    pub write_timeout: Duration,
}

/// A stream after a switch of protocols.
#[derive(Debug)]
pub struct UpgradedClient<S> {
    /// The stream.
    pub stream: S,
    /// What the client sent behind its handshake.
    pub early: Bytes,
}

/// Serves requests until the connection ends or one is answered with 101; then the stream comes
/// back in `Some`. `leave` becomes ready when no further request is wanted; a client that has just
/// come, and has asked nothing yet, still gets an answer to its first. Each call of `answer`
/// gets the request and, where its framing is ambiguous, the refusal that this calls for.
pub async fn serve<S, A, F>(
    stream: S,
    limits: HeadLimits,
    leave: impl Future<Output = ()>,
    answer: A,
) -> Result<Option<UpgradedClient<S>>, DropReason>
where
    S: Stream + Send + 'static,
    A: Fn(Request<Incoming>, Result<(), RejectReason>) -> F + Unpin,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let watch = FramingChecker::shared();
    let io = FramingHandle::new(HttpIo::new(stream, limits.write_timeout), watch.clone());
    let served = AtomicBool::new(false);
    let switched = AtomicBool::new(false);
    let service = service_fn(|request: Request<Incoming>| {
        // Behind a chunked body the watch has lost its place, and RFC 9112 9.3 wants no persistent
        // connection with a client of HTTP/1.0.
        let is_last = request.headers().contains_key(TRANSFER_ENCODING)
            || request.version() < Version::HTTP_11;
        let answering = answer(request, watch.next_head());
        let (served, switched) = (&served, &switched);
        Box::pin(async move {
            // Not before: who leaves with its request sees to it that hyper never comes here.
            served.store(true, Ordering::Relaxed);
            let mut response = answering.await;
            let is_switch = response.status() == StatusCode::SWITCHING_PROTOCOLS;
            switched.store(is_switch, Ordering::Relaxed);
            let close = HeaderValue::from_static("close");
            if is_last && response.headers().get(CONNECTION) != Some(&close) {
                response.headers_mut().append(CONNECTION, close);
            }
            Ok::<_, std::convert::Infallible>(response)
        }) as Pin<Box<dyn Future<Output = _> + Send>>
    });
    let mut connection = builder(limits.head).serve_connection(io, service);
    let (mut leave, mut asking) = (pin!(leave), pin!(sleep(ASKING)));
    let (mut leaving, mut waited, mut last) = (false, false, false);
    let end = loop {
        let serving = poll_fn(|cx| {
            let polled = connection.poll_without_shutdown(cx);
            let is_last = leaving && (waited || served.load(Ordering::Relaxed));
            if polled.is_ready() || last || !is_last {
                return polled;
            }
            last = true;
            Pin::new(&mut connection).graceful_shutdown();
            connection.poll_without_shutdown(cx)
        });
        select! {
            end = serving => break end,
            () = &mut leave, if !leaving => leaving = true,
            () = &mut asking, if leaving && !waited => waited = true,
        }
    };
    let parts = connection.into_parts();
    let served = served.load(Ordering::Relaxed);
    let mut io = parts.io.into_inner();
    match end {
        Ok(()) if switched.load(Ordering::Relaxed) => Ok(Some(hand_over(io, parts.read_buf))),
        Ok(()) => {
            part(&mut io).await;
            if !served && !leaving {
                Err(DropReason::Gone(ConnectionStage::Head))
            } else {
                Ok(None)
            }
        }
        Err(error) => {
            part(&mut io).await;
            let dropped = cause(&error);
            // Between two requests a client may fall silent or go as it likes.
            let is_leave = matches!(dropped, DropReason::HeadTimeout | DropReason::Gone(_));
            if served && is_leave { Ok(None) } else { Err(dropped) }
        }
    }
}

/// hyper ignores its head timeout without a timer, so both are set in this one place.
fn builder(head: Duration) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .half_close(false);
    builder
}

fn hand_over<S: Stream>(io: HttpIo<S>, read: Bytes) -> UpgradedClient<S> {
    let (stream, rest) = io.into_parts();
    let early = match (read.is_empty(), rest.is_empty()) {
        (_, true) if read.is_empty() => Bytes::new(),
        // A copy: hyper's own bytes would hold on to its whole read buffer.
        (_, true) => Bytes::copy_from_slice(&read),
        (true, false) => Bytes::from(rest),
        (false, false) => Bytes::from([&read[..], &rest[..]].concat()),
    };
    UpgradedClient { stream, early }
}

/// Closes so that the peer can read our last answer: data of its own that we never read would
/// turn our close into a reset, which may overtake the answer (RFC 9112 9.6).
async fn part<S: Stream>(io: &mut HttpIo<S>) {
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
    // Whatever it ends with, the connection is over.
    let _ = timeout(LINGER, lingering).await;
}

fn cause(error: &hyper::Error) -> DropReason {
    if error.is_parse() {
        return DropReason::HeadBad(error.to_string());
    }
    let source = std::error::Error::source(error).and_then(|s| s.downcast_ref::<io::Error>());
    if source.is_some_and(|source| source.kind() == io::ErrorKind::TimedOut) {
        return DropReason::WriteStall;
    }
    if error.is_timeout() {
        DropReason::HeadTimeout
    } else {
        DropReason::Gone(ConnectionStage::Head)
    }
}

/// Request line and header lines together; more is 431 (target alone: 414).
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Header lines; more is 431.
const HEADERS_MAX: usize = 64;
/// How long a connection may take from its beginning to its first request, where no further one is
/// wanted: its client could not know, and an answer tells it to come again.
const ASKING: Duration = Duration::from_secs(2);
/// How long we read on after our last answer.
const LINGER: Duration = Duration::from_secs(2);
