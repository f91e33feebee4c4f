//! One HTTP/2 connection: accepts its streams, and decides when it ends.
//!
//! All requests of a connection are handled in its own task: what several of them send is written together, and
//! the connection needs no turns of its own after its first response. Tunnels have tasks of their own.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream as _;
use futures_util::stream::FuturesUnordered;
use h2::Reason;
use h2::server::{Builder, Connection as H2Connection};
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::client_io::{ClientIo, IoStatus, ReadControl};
use super::handler::Http2Handler;
use super::response::FlushSignal;
use super::stream::{self, RejectionPacing, StreamContext};
use crate::downstream::request_timer::{ConnectionPhase, HttpTimeouts, RequestTimer};
use crate::http::head_limits::HeadLimits;
use crate::net::Stream;
use crate::net::http_io::HttpIo;
use crate::net::http2::stream::OpenTunnels;
use crate::net::http2::waiting::{
    ConnectionWaiting, LARGE_STREAM_WINDOW, STREAM_WINDOW, WaitingBytes,
};
use crate::reject::drop_reason::DropReason;
use crate::reject::stage::ConnectionStage;

/// The limits of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Http2Limits {
    /// Timeouts.
    pub timeouts: HttpTimeouts,
    /// How large request heads may be.
    pub request_head: HeadLimits,
}

/// Serves requests until the connection ends.
///
/// When `drain` is ready and no tunnel is open, or no stream has been open for some time, the client is asked to
/// open no more streams (GOAWAY, RFC 9113 6.8), and the connection ends after those that are open.
///
/// # Errors
/// The connection ended before its first request was complete, violated HTTP/2, sent too many
/// frames of one kind, or did not read.
pub async fn serve<S, H>(
    stream: Box<S>,
    limits: Http2Limits,
    waiting: Arc<WaitingBytes>,
    drain: impl Future<Output = ()>,
    handler: H,
) -> Result<(), DropReason>
where
    S: Stream + Send + 'static,
    H: Http2Handler,
{
    let control = ReadControl::new();
    let waiting = Arc::new(ConnectionWaiting::new(waiting));
    let Http2Limits { timeouts, request_head } = limits;
    let io = ClientIo::new(HttpIo::new(*stream, timeouts.write), control.clone(), waiting.clone());
    // Includes the wait for the first request.
    let mut timer = pin!(RequestTimer::new(timeouts));
    // In boxes of their own: what the handshake needs is freed after it.
    let handshake =
        Box::pin(timeout(timeouts.first_header, builder(request_head).handshake::<_, Bytes>(io)));
    let connection = match handshake.await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return Err(drop_reason(&error)),
        Err(_elapsed) => return Err(DropReason::NoRequest),
    };
    let rejections = RejectionPacing::new(handler.is_shared());
    let context = StreamContext {
        handler,
        limits: request_head,
        waiting,
        write_timeout: timeouts.write,
        flushes: FlushSignal::default(),
        rejections,
        tunnels: OpenTunnels::default(),
        own_responses: Arc::default(),
    };
    let mut connection = Box::new(Http2Connection {
        connection,
        control,
        context: Arc::new(context),
        streams: FuturesUnordered::new(),
        accepted: 0,
        refused: 0,
        has_partial_head: false,
        has_large_windows: false,
        reason: None,
        closing: None,
        is_ending: false,
    });
    let mut drain = pin!(drain);
    let mut is_draining = false;
    poll_fn(|cx| {
        is_draining = is_draining || drain.as_mut().poll(cx).is_ready();
        connection.poll(cx, timer.as_mut(), is_draining)
    })
    .await
}

/// A connection after its preface.
struct Http2Connection<S, H> {
    connection: H2Connection<ClientIo<S>, Bytes>,
    control: ReadControl,
    context: Arc<StreamContext<H>>,
    streams: FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Number of requests so far; it wraps.
    accepted: u32,
    /// Number of heads so far that did not become a request; it wraps.
    refused: u32,
    /// The handler knows of a part of a head.
    has_partial_head: bool,
    /// Its streams have large windows, or will have once the client has acknowledged that.
    has_large_windows: bool,
    /// Why this side ends the connection.
    reason: Option<DropReason>,
    /// Set with the GOAWAY. Expires if the connection then stays open without streams.
    closing: Option<Pin<Box<Sleep>>>,
    /// The time of `closing` runs: everything was sent, or the connection is aborted.
    is_ending: bool,
}

impl<S: Stream, H: Http2Handler> Http2Connection<S, H> {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        timer: Pin<&mut RequestTimer>,
        is_draining: bool,
    ) -> Poll<Result<(), DropReason>> {
        self.control.start_poll();
        loop {
            // Streams first: what they send is then written at once.
            while let Poll::Ready(Some(())) = Pin::new(&mut self.streams).poll_next(cx) {}
            match self.poll_accept(cx) {
                Poll::Ready(Some(end)) => return Poll::Ready(end),
                Poll::Ready(None) => {}
                Poll::Pending => break,
            }
        }
        let status = self.control.status();
        if status.is_flushed {
            self.context.flushes.set_flushed();
        }
        self.count_refused(status);
        if std::mem::replace(&mut self.has_partial_head, status.is_in_split_head)
            != status.is_in_split_head
        {
            let bytes =
                u64::from(status.is_in_split_head) * partial_head_bytes(self.context.limits);
            // A GOAWAY would take time, and the library keeps the head until the connection is dropped.
            if let Err(reason) = self.context.handler.set_partial_head(bytes) {
                return Poll::Ready(Err(reason));
            }
        }
        if let (Some(flood), None) = (status.flood, &self.reason) {
            self.abort(Reason::ENHANCE_YOUR_CALM, DropReason::Http2Flood(flood.to_string()), cx);
        }
        let tunnels = Arc::strong_count(&self.context.tunnels) - 1;
        self.adjust_windows(tunnels + self.streams.len(), cx);
        let has_tunnels = tunnels > 0;
        let own_responses = Arc::strong_count(&self.context.own_responses) - 1;
        self.context.handler.set_waiting(own_responses, has_tunnels);
        let has_requests = has_tunnels || self.streams.len() > own_responses;
        let is_idle = !has_requests && self.streams.is_empty() && !self.connection.has_streams();
        if self.accepted > 0 && (is_idle || !has_requests && own_responses > 0) {
            self.context.handler.set_idle();
        }
        if self.closing.is_none() {
            // A connection that is not read cannot complete its head.
            let is_in_head = status.is_in_head && !self.context.waiting.is_over_limit();
            let phase =
                ConnectionPhase::of(is_idle || is_in_head, self.accepted > 0 && !is_in_head);
            let is_expired = timer.poll_expired(phase, self.accepted, cx).is_ready();
            match phase {
                ConnectionPhase::Head if is_expired => {
                    let reason =
                        if is_in_head { DropReason::HeadTimeout } else { DropReason::NoRequest };
                    self.abort(Reason::NO_ERROR, reason, cx);
                }
                ConnectionPhase::Head | ConnectionPhase::Response | ConnectionPhase::Idle => {
                    // Browsers drop all WebSockets of a connection on which they get a GOAWAY.
                    if (is_draining && !has_tunnels) || is_expired {
                        self.close_gracefully(cx);
                    }
                }
            }
        }
        let Some(deadline) = &mut self.closing else { return Poll::Pending };
        // A client that still receives the last response is limited by the write timeout.
        let is_ending = self.reason.is_some() || (is_idle && status.is_flushed);
        let has_begun = is_ending && !std::mem::replace(&mut self.is_ending, is_ending);
        if has_begun {
            deadline.as_mut().reset(Instant::now() + CLOSE_TIME);
        }
        if !is_ending {
            return Poll::Pending;
        }
        deadline.as_mut().poll(cx).map(|()| self.end(None))
    }

    /// Reads and writes, and accepts all streams that were opened. Ready with the result at the end of the
    /// connection, and with `None` if there are new streams.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(), DropReason>>> {
        let mut has_accepted = false;
        loop {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, responder)))) => {
                    has_accepted = true;
                    self.accepted = self.accepted.wrapping_add(1);
                    self.control.accept_head();
                    let serving = stream::serve(self.context.clone(), request, responder);
                    self.streams.push(Box::pin(serving));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(self.end(Some(&error)))),
                Poll::Ready(None) => return Poll::Ready(Some(self.end(None))),
                Poll::Pending if has_accepted => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Gives the streams of a connection larger windows while they are few and one of them needs it.
    fn adjust_windows(&mut self, streams: usize, cx: &mut Context<'_>) {
        let is_large = self.has_large_windows;
        let streams_max = if is_large { LARGE_STREAMS_MAX } else { LARGE_STREAMS_MAX / 2 };
        let should_be = self.context.waiting.has_bulk() && streams <= streams_max;
        if should_be != is_large {
            let window = if should_be { LARGE_STREAM_WINDOW } else { STREAM_WINDOW };
            // Fails if the client has not acknowledged the SETTINGS before; each poll tries again.
            if self.connection.set_initial_window_size(window).is_ok() {
                self.has_large_windows = should_be;
                // Sends the SETTINGS.
                cx.waker().wake_by_ref();
            }
        }
    }

    /// Counts the heads that the h2 library has refused: it has accepted all others that are complete.
    fn count_refused(&mut self, status: IoStatus) {
        let complete = status.opened.wrapping_sub(u32::from(status.is_in_head));
        let refused = complete.wrapping_sub(self.accepted);
        let new = refused.wrapping_sub(self.refused);
        // Fewer than before while trailers are incomplete.
        if new > 0 && new <= u32::MAX / 2 {
            self.refused = refused;
            self.context.handler.count_refused_heads(new);
        }
    }

    /// Asks the client to open no more streams. The connection ends with the last one.
    fn close_gracefully(&mut self, cx: &mut Context<'_>) {
        self.connection.graceful_shutdown();
        self.start_closing(cx);
    }

    /// Ends the connection with all its streams.
    fn abort(&mut self, code: Reason, reason: DropReason, cx: &mut Context<'_>) {
        self.connection.abrupt_shutdown(code);
        self.reason = Some(reason);
        self.start_closing(cx);
    }

    fn start_closing(&mut self, cx: &mut Context<'_>) {
        self.closing = Some(Box::pin(sleep(CLOSE_TIME)));
        // Sends the GOAWAY.
        cx.waker().wake_by_ref();
    }

    /// The result of the connection, which the h2 library has ended with this error.
    fn end(&mut self, error: Option<&h2::Error>) -> Result<(), DropReason> {
        let reason = self.reason.take().or_else(|| error.map(drop_reason));
        // A client may disconnect between requests.
        match reason {
            None if self.accepted == 0 && self.closing.is_none() => Err(DISCONNECTED),
            Some(DropReason::ClientDisconnected(_)) if self.accepted > 0 => Ok(()),
            Some(reason) => Err(reason),
            None => Ok(()),
        }
    }
}

/// Why the h2 library has ended a connection.
fn drop_reason(error: &h2::Error) -> DropReason {
    if let Some(io) = error.get_io() {
        let is_timeout = io.kind() == io::ErrorKind::TimedOut;
        return if is_timeout { DropReason::WriteTimeout } else { DISCONNECTED };
    }
    match error.reason() {
        _ if !error.is_library() => DISCONNECTED,
        Some(Reason::ENHANCE_YOUR_CALM) => DropReason::Http2Flood(error.to_string()),
        Some(_) | None => DropReason::Http2Invalid(error.to_string()),
    }
}

fn builder(limits: HeadLimits) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .data_frame_budget(CONNECTION_WINDOW as usize)
        .max_header_list_size(header_list_size(limits))
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_concurrent_reset_streams(STREAMS_MAX as usize)
        .reset_stream_duration(RESET_MEMORY)
        .max_local_error_reset_streams(Some(STREAM_ERRORS_MAX))
        .enable_connect_protocol();
    builder
}

/// Size from which the library refuses a head with a 431 of its own, which has no record and no error page; beyond
/// four times of it, it ends the connection. RFC 9113 6.5.2 counts 32 bytes more for each field than HTTP/1.1 has, and
/// pseudo-header fields as well. Heads that are somewhat too large, such as those with one more cookie, get a record.
fn header_list_size(limits: HeadLimits) -> u32 {
    let fields = limits.fields + PSEUDO_FIELDS;
    u32::try_from(limits.bytes + limits.bytes / 4 + 32 * fields).unwrap_or(u32::MAX)
}

/// The most that the library keeps of a head of which only some frames were received: its fields, each of which may take
/// one byte to send, and the part of a field that is not complete.
fn partial_head_bytes(limits: HeadLimits) -> u64 {
    PARTIAL_HEAD_COPIES * u64::from(header_list_size(limits))
}

const DISCONNECTED: DropReason = DropReason::ClientDisconnected(ConnectionStage::Head);

/// Maximum number of open streams of a connection. RFC 9113 6.5.2 recommends no less than 100.
const STREAMS_MAX: u32 = 100;
/// More than a request may have, so that there is room for their names.
const PSEUDO_FIELDS: usize = 8;
/// Measured: 4 times for fields without a name of their own, 5 for 1,300 names, and 6.7 with a value of 90 KiB after them.
const PARTIAL_HEAD_COPIES: u64 = 8;
/// Maximum number of streams with large windows.
const LARGE_STREAMS_MAX: usize = 8;
/// More than all streams of a connection may have in flight: 8 windows of 1 MiB, and 92 of 64 KiB. Otherwise streams
/// whose backends do not read would stop the others.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Bytes of a stream that wait for the connection to be writable.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// How long frames of a stream are ignored that the client sent before it knew of its reset.
const RESET_MEMORY: Duration = Duration::from_secs(10);
/// Number of streams that a client may have reset by its errors (CVE-2025-8671) or by opening too many at once.
const STREAM_ERRORS_MAX: usize = 64;
/// Maximum time between the GOAWAY and the end of a connection without streams.
const CLOSE_TIME: Duration = Duration::from_secs(2);
