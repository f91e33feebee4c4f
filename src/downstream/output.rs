//! Control over what hyper writes to a client.
//!
//! When a response body fails, hyper ends the connection and drops what it has buffered until then: the
//! head, and up to 32 KiB of the body. [`OutputBody`] therefore holds a failure back until everything
//! before it has been written. [`OutputStream`] sees when that is: hyper flushes the stream only when its
//! own buffer is empty.
//!
//! hyper's server sends no interim responses (1xx) except a 100 of its own, as soon as the body of a request
//! with `Expect` is read. [`OutputStream`] leaves that one out, and writes those that were queued. They
//! always fit in between: a request is handled only after everything before it has been written, and while
//! it is handled hyper writes nothing else.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::Version;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::rt::{Read, ReadBufCursor, Write};

use super::response::{Body, BoxError};
use crate::http::head_limits::HeadLimits;

/// What the [`OutputStream`] of a connection and the [`OutputBody`] of its current response share.
#[derive(Clone, Debug, Default)]
pub struct ResponseOutput(Arc<OutputState>);

#[derive(Debug, Default)]
struct OutputState {
    /// A failed body or a request waits until everything before it has been written.
    flush_awaited: AtomicBool,
    /// Number of requests received; it wraps.
    requests: AtomicU32,
    /// A request has no complete response yet.
    is_responding: AtomicBool,
    /// The end of a response may not have been written yet.
    is_unflushed: AtomicBool,
    /// The next write of hyper may be its own 100.
    hides_continue: AtomicBool,
    /// The client waits for a 100.
    has_expectation: AtomicBool,
    /// There are bytes in `interim`.
    has_interim: AtomicBool,
    /// Interim responses that precede whatever hyper writes next.
    interim: Mutex<Vec<u8>>,
    /// A body has failed whose end is the end of the connection.
    must_reset: AtomicBool,
    /// The body of the last request has not been read to its end.
    is_body_unread: AtomicBool,
    /// The client does not accept what was written.
    is_stalled: AtomicBool,
}

impl ResponseOutput {
    /// Records that a request was received, to which a response follows.
    pub fn receive_request(&self) {
        self.0.is_responding.store(true, Ordering::Relaxed);
        self.0.is_body_unread.store(false, Ordering::Relaxed);
        self.0.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of requests received.
    pub fn requests(&self) -> u32 {
        self.0.requests.load(Ordering::Relaxed)
    }

    /// Whether each request has its whole response written.
    pub fn is_idle(&self) -> bool {
        !self.0.is_responding.load(Ordering::Relaxed)
            && !self.0.is_unflushed.load(Ordering::Relaxed)
    }

    /// Whether the client does not accept what was written.
    pub fn is_stalled(&self) -> bool {
        self.0.is_stalled.load(Ordering::Relaxed)
    }

    /// Records whether a part of the last request's body has not been read.
    pub fn set_body_unread(&self, is_unread: bool) {
        self.0.is_body_unread.store(is_unread, Ordering::Relaxed);
    }

    /// Whether the body of the last request has been read to its end.
    pub fn is_body_read(&self) -> bool {
        !self.0.is_body_unread.load(Ordering::Relaxed)
    }

    /// Waits until everything before the next request has been written. `expects_continue` is whether its
    /// client waits for a 100.
    pub async fn start_request(&self, expects_continue: bool) {
        let state = &*self.0;
        poll_fn(|_| {
            let is_unflushed = state.is_unflushed.load(Ordering::Relaxed);
            // hyper flushes after this poll, and the flush wakes the task.
            state.flush_awaited.store(is_unflushed, Ordering::Relaxed);
            if is_unflushed { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        state.hides_continue.store(expects_continue, Ordering::Relaxed);
        state.has_expectation.store(expects_continue, Ordering::Relaxed);
    }

    /// Whether the client still waits for a 100.
    pub fn has_expectation(&self) -> bool {
        self.0.has_expectation.load(Ordering::Relaxed)
    }

    /// Records that a 100 was queued.
    pub fn close_expectation(&self) {
        self.0.has_expectation.store(false, Ordering::Relaxed);
    }

    /// Queues an interim response for the request in progress. It is left out if too much has been queued
    /// since the last write, unless the client waits for it.
    pub fn queue_interim(&self, head: &[u8], is_awaited: bool) {
        let mut queue = self.0.interim.lock().unwrap_or_else(PoisonError::into_inner);
        if is_awaited || queue.len() + head.len() <= INTERIM_BYTES_MAX {
            queue.extend_from_slice(head);
            self.0.has_interim.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the last response is incomplete, and would look complete if the connection ended without a
    /// reset.
    pub fn must_reset(&self) -> bool {
        self.0.must_reset.load(Ordering::Relaxed)
    }
}

/// The body of one response. After a failure it is pending until the stream has been flushed.
#[derive(Debug)]
pub struct OutputBody {
    body: Body,
    output: ResponseOutput,
    /// The end of the connection is the end of this body (RFC 9112 6.3, rule 8).
    is_until_close: bool,
    failure: Option<BoxError>,
}

impl OutputBody {
    /// Wraps the body of a response to a request of this version, written to the stream of `output`.
    pub fn new(body: Body, output: ResponseOutput, version: Version) -> Self {
        // hyper sends a body of unknown length in chunks, but not to HTTP/1.0.
        let is_until_close = version < Version::HTTP_11 && body.size_hint().exact().is_none();
        Self { body, output, is_until_close, failure: None }
    }
}

impl HttpBody for OutputBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let state = &this.output.0;
        if this.failure.is_none() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Err(failure)) => {
                    this.failure = Some(failure);
                    state.must_reset.store(this.is_until_close, Ordering::Relaxed);
                    // hyper flushes after this poll, and the flush wakes the task.
                    state.flush_awaited.store(true, Ordering::Relaxed);
                }
                frame => return Poll::Ready(frame),
            }
        }
        if state.flush_awaited.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        Poll::Ready(this.failure.take().map(Err))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// hyper drops a body when it has buffered its end.
impl Drop for OutputBody {
    fn drop(&mut self) {
        self.output.0.is_unflushed.store(true, Ordering::Relaxed);
        self.output.0.is_responding.store(false, Ordering::Relaxed);
    }
}

/// The stream to a client, under hyper.
#[derive(Debug)]
pub struct OutputStream<T> {
    io: T,
    output: ResponseOutput,
}

impl<T> OutputStream<T> {
    /// Wraps a stream on which nothing has been written yet.
    pub fn new(io: T, output: ResponseOutput) -> Self {
        Self { io, output }
    }

    /// The wrapped stream.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.io
    }

    /// Returns the wrapped stream.
    pub fn into_inner(self) -> T {
        self.io
    }
}

impl<T: Write + Unpin> OutputStream<T> {
    /// Writes the queued interim responses.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &*self.output.0;
        if !state.has_interim.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        let mut queue = state.interim.lock().unwrap_or_else(PoisonError::into_inner);
        while !queue.is_empty() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &queue))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => drop(queue.drain(..written)),
            }
        }
        state.has_interim.store(false, Ordering::Relaxed);
        *queue = Vec::new();
        Poll::Ready(Ok(()))
    }

    /// Whether `bufs` begin with hyper's own 100.
    fn is_own_continue(&self, bufs: &[IoSlice<'_>]) -> bool {
        let hides = &self.output.0.hides_continue;
        hides.load(Ordering::Relaxed) && {
            // It comes first or not at all.
            hides.store(false, Ordering::Relaxed);
            bufs.first().is_some_and(|buf| buf.starts_with(OWN_CONTINUE))
        }
    }
}

impl<T: Read + Unpin> Read for OutputStream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: Write + Unpin> Write for OutputStream<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interim(cx))?;
        if self.is_own_continue(bufs) {
            return Poll::Ready(Ok(OWN_CONTINUE.len()));
        }
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.output.0.is_stalled.store(written.is_pending(), Ordering::Relaxed);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_interim(cx))?;
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        let state = &*self.output.0;
        state.is_stalled.store(flushed.is_pending(), Ordering::Relaxed);
        ready!(flushed)?;
        state.is_unflushed.store(false, Ordering::Relaxed);
        if state.flush_awaited.load(Ordering::Relaxed) {
            state.flush_awaited.store(false, Ordering::Relaxed);
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// What hyper's server writes when the body of a request with `Expect` is read.
const OWN_CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Maximum size of queued interim responses: one head of the largest size.
const INTERIM_BYTES_MAX: usize = HeadLimits::BYTES_MAX;

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use http_body_util::StreamBody;
    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::TokioTimer;

    use super::*;
    use crate::downstream::response::boxed;
    use crate::net::http_io::HttpIo;
    use crate::net::scripted::script;

    // Requirements: BM26.
    #[tokio::test]
    async fn failure_waits_until_all_before_it_is_written() {
        let (stream, script) = script();
        script.push(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        // The peer accepts a few bytes at first.
        script.set_send_allowance(10);
        let output = ResponseOutput::default();
        let io = OutputStream::new(HttpIo::new(stream, Duration::from_secs(9)), output.clone());
        let service = service_fn(|request: Request<Incoming>| {
            let frames = [Ok(Frame::data(Bytes::from_static(b"part"))), Err("broken")];
            let body = boxed(StreamBody::new(futures_util::stream::iter(frames)));
            let output = output.clone();
            async move {
                let body = OutputBody::new(body, output, request.version());
                Ok::<_, Infallible>(Response::new(body))
            }
        });
        let connection =
            http1::Builder::new().timer(TokioTimer::new()).serve_connection(io, service);
        let mut connection = std::pin::pin!(connection.without_shutdown());
        for _ in 0..3 {
            let served = futures_util::poll!(connection.as_mut());
            assert!(served.is_pending(), "the failure overtook the response");
        }
        script.set_send_allowance(1000);
        let Err(error) = connection.await else { panic!("a clean end") };
        assert!(error.is_user());
        let state = script.state();
        assert!(state.sent.ends_with(b"\r\n\r\n4\r\npart\r\n"), "{}", state.sent.escape_ascii());
    }

    #[tokio::test]
    async fn only_a_body_without_framing_needs_a_reset() {
        for (version, must_reset) in [(Version::HTTP_10, true), (Version::HTTP_11, false)] {
            let output = ResponseOutput::default();
            let frames = [Err::<Frame<Bytes>, _>("broken")];
            let body = boxed(StreamBody::new(futures_util::stream::iter(frames)));
            let mut body = OutputBody::new(body, output.clone(), version);
            let mut frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
            assert!(futures_util::poll!(&mut frame).is_pending());
            assert_eq!(output.must_reset(), must_reset);
        }
    }
}
