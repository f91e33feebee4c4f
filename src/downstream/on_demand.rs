//! hyper's side of a connection, which exists only while there is something for it to do: its buffers take 16 KiB, and
//! most connections wait.
//!
//! | state | event | next |
//! | --- | --- | --- |
//! | waiting | bytes or the end of the stream were received | active |
//! | waiting | graceful shutdown | finished |
//! | active | a moment passes, everything is answered, and at most a part of a head was received | waiting |

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http1::{Builder, Connection};
use hyper::service::HttpService;

use super::output::{OutputBody, OutputStream};
use super::request_timer::{ConnectionPhase, RequestTimer, WaitEvent};
use super::response::BoxError;
use crate::http::head_limits::HeadLimits;
use crate::net::Stream;
use crate::net::http_io::HttpIo;

/// The HTTP connection of one client.
pub struct OnDemandConnection<S: Stream, H: HttpService<Incoming>> {
    limits: HeadLimits,
    /// `None` only while it changes.
    state: Option<HyperState<HyperIo<S>, H>>,
    is_closing: bool,
}

type HyperIo<S> = OutputStream<HttpIo<S>>;

enum HyperState<T, H: HttpService<Incoming>> {
    Waiting(T, H),
    Active(Box<Connection<T, H>>),
}

impl<S, H> OnDemandConnection<S, H>
where
    S: Stream,
    H: HttpService<Incoming, ResBody = OutputBody> + Unpin,
    H::Future: Unpin,
    H::Error: Into<BoxError>,
{
    /// A connection on which nothing has been read.
    pub fn new(limits: HeadLimits, io: HyperIo<S>, service: H) -> Self {
        Self { limits, state: Some(HyperState::Waiting(io, service)), is_closing: false }
    }

    /// Reads, calls the service and writes; ready when the connection ends, without having closed the stream.
    ///
    /// # Errors
    /// As [`Connection::poll_without_shutdown`].
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        if let Some(HyperState::Waiting(io, _)) = &mut self.state {
            if self.is_closing {
                return Poll::Ready(Ok(()));
            }
            ready!(io.get_mut().poll_fill(cx));
            if let Some(HyperState::Waiting(io, service)) = self.state.take() {
                let connection = Box::new(builder(self.limits).serve_connection(io, service));
                self.state = Some(HyperState::Active(connection));
            }
        }
        match &mut self.state {
            Some(HyperState::Active(connection)) => connection.poll_without_shutdown(cx),
            Some(HyperState::Waiting(..)) | None => Poll::Pending,
        }
    }

    /// Ready if what is awaited has not come in time. Frees the buffers before, if `may_rest`: everything must have been
    /// answered and written, and what hyper has read and not processed must be the beginning of a head.
    pub(super) fn poll_expired(
        &mut self,
        mut timer: Pin<&mut RequestTimer>,
        phase: ConnectionPhase,
        requests: u32,
        may_rest: impl Fn() -> bool,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            match ready!(timer.as_mut().poll_event(phase, requests, self.is_active(), cx)) {
                WaitEvent::Expired => return Poll::Ready(()),
                WaitEvent::Rest if may_rest() => self.rest(),
                WaitEvent::Rest => {}
            }
        }
    }

    /// Whether it has buffers.
    pub fn is_active(&self) -> bool {
        matches!(self.state, Some(HyperState::Active(_)))
    }

    /// Frees the buffers until more is received; what hyper has not processed is read again.
    fn rest(&mut self) {
        self.state = self.state.take().map(|state| match state {
            HyperState::Active(connection) if !self.is_closing => {
                let mut parts = connection.into_parts();
                parts.io.get_mut().put_back(&parts.read_buf);
                HyperState::Waiting(parts.io, parts.service)
            }
            unchanged @ (HyperState::Waiting(..) | HyperState::Active(_)) => unchanged,
        });
    }

    /// Ends the connection after the current request.
    pub fn graceful_shutdown(&mut self) {
        self.is_closing = true;
        if let Some(HyperState::Active(connection)) = &mut self.state {
            Pin::new(&mut **connection).graceful_shutdown();
        }
    }

    /// The stream, and the bytes that hyper has read and not processed.
    pub fn into_parts(self) -> Option<(HttpIo<S>, Bytes)> {
        self.state.map(|state| match state {
            HyperState::Waiting(io, _) => (io.into_inner(), Bytes::new()),
            HyperState::Active(connection) => {
                let parts = connection.into_parts();
                (parts.io.into_inner(), parts.read_buf)
            }
        })
    }
}

/// Configures hyper. Field names have the spelling of the backend, or that of the RFCs if the proxy adds them:
/// some clients compare them exactly.
fn builder(limits: HeadLimits) -> Builder {
    let mut builder = Builder::new();
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
