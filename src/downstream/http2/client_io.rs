//! The connection to a client as the h2 library reads and writes it. Limits how much is read at a time, counts
//! the frames that a client sends, and lets the last bytes reach the client before the connection is closed.

use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::Write as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::frame_limits::{FrameFlood, FrameLimits};
use super::frame_scanner::{FrameScanner, kind};
use crate::net::Stream;
use crate::net::http_io::HttpIo;
use crate::net::http2::waiting::ConnectionWaiting;

/// What a connection and its [`ClientIo`] share.
#[derive(Clone, Debug)]
pub(super) struct ReadControl(Arc<Mutex<ReadState>>);

/// The state of a connection after a poll.
#[derive(Clone, Copy, Debug)]
pub(super) struct IoStatus {
    /// The kind of frames of which the client sent too many. Nothing is read any more then.
    pub(super) flood: Option<FrameFlood>,
    /// A head has begun and is not complete.
    pub(super) is_in_head: bool,
    /// The library keeps fields of that head.
    pub(super) is_in_split_head: bool,
    /// Number of streams that the client has opened, including one whose head is not complete; it wraps.
    pub(super) opened: u32,
    /// Everything was passed to the kernel, or at least to TLS. After a poll of the connection, this includes
    /// everything that flow control permits to be sent.
    pub(super) is_flushed: bool,
}

#[derive(Debug)]
struct ReadState {
    scanner: FrameScanner,
    limits: FrameLimits,
    flood: Option<FrameFlood>,
    /// Number of streams that the client has opened; it wraps.
    opened: u32,
    /// Something was written and not flushed since.
    is_unflushed: bool,
    /// Bytes and heads that may be read until the connection is polled again.
    bytes_left: usize,
    heads_left: usize,
}

impl ReadControl {
    /// For a new connection.
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(ReadState {
            scanner: FrameScanner::new(),
            limits: FrameLimits::new(Instant::now()),
            flood: None,
            opened: 0,
            is_unflushed: false,
            bytes_left: POLL_BYTES_MAX,
            heads_left: POLL_HEADS_MAX,
        })))
    }

    /// Begins a poll of the connection.
    pub(super) fn start_poll(&self) {
        let mut state = self.lock();
        (state.bytes_left, state.heads_left) = (POLL_BYTES_MAX, POLL_HEADS_MAX);
    }

    /// What was read and written so far.
    pub(super) fn status(&self) -> IoStatus {
        let state = self.lock();
        let is_in_head = state.scanner.is_in_head();
        IoStatus {
            flood: state.flood,
            is_in_head,
            is_in_split_head: state.scanner.is_in_split_head(),
            opened: state.opened,
            is_flushed: !state.is_unflushed,
        }
    }

    /// Takes note that a head is that of a request.
    pub(super) fn accept_head(&self) {
        self.lock().limits.accept_head();
    }

    fn lock(&self) -> MutexGuard<'_, ReadState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadState {
    /// Counts the frames in `bytes`, and returns how many of the bytes may be read now.
    fn admit(&mut self, bytes: &[u8]) -> usize {
        let now = Instant::now();
        let mut rest = bytes;
        while let Some(frame) = self.scanner.next_header(&mut rest) {
            if let Err(flood) = self.limits.count(frame, now) {
                self.flood = Some(flood);
                return 0;
            }
            self.opened = self.opened.wrapping_add(u32::from(frame.opens_stream));
            if frame.kind == kind::HEADERS {
                self.heads_left = self.heads_left.saturating_sub(1);
                if self.heads_left == 0 {
                    break;
                }
            }
        }
        let admitted = bytes.len() - rest.len();
        self.bytes_left = self.bytes_left.saturating_sub(admitted);
        admitted
    }
}

/// The connection under h2.
#[derive(Debug)]
pub(super) struct ClientIo<S> {
    io: HttpIo<S>,
    control: ReadControl,
    waiting: Arc<ConnectionWaiting>,
    /// Received, and not to be read before the next poll of the connection.
    deferred: Vec<u8>,
    /// Set while the connection is not read, because too many bytes wait.
    resume: Option<Pin<Box<Sleep>>>,
    linger: Option<Linger>,
}

/// The end of a connection whose last bytes are sent.
#[derive(Debug)]
struct Linger {
    until: Pin<Box<Sleep>>,
    bytes_left: usize,
}

impl<S: Stream> ClientIo<S> {
    /// Wraps a connection on which nothing was read.
    pub(super) fn new(
        io: HttpIo<S>,
        control: ReadControl,
        waiting: Arc<ConnectionWaiting>,
    ) -> Self {
        Self { io, control, waiting, deferred: Vec::new(), resume: None, linger: None }
    }

    /// Pending while too many bytes of this connection wait for backends.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.waiting.is_over_limit() {
            let resume = self.resume.get_or_insert_with(|| Box::pin(sleep(RESUME_AFTER)));
            ready!(resume.as_mut().poll(cx));
            self.resume = None;
        }
        Poll::Ready(())
    }

    /// Reads and discards what the client sends, until it closes its side or some time has passed. Closing while
    /// unread data is buffered would cause a reset, which may discard the last frames.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let linger = self.linger.get_or_insert_with(|| Linger {
            until: Box::pin(sleep(LINGER)),
            bytes_left: LINGER_BYTES_MAX,
        });
        while linger.bytes_left > 0 && linger.until.as_mut().poll(cx).is_pending() {
            let mut received = 0;
            let reading =
                self.io.poll_read_with(cx, LINGER_BYTES_MAX, |bytes| received = bytes.len());
            if ready!(reading).is_err() || received == 0 {
                break;
            }
            linger.bytes_left = linger.bytes_left.saturating_sub(received);
        }
        Poll::Ready(())
    }
}

impl<S: Stream> AsyncRead for ClientIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.poll_waiting(cx));
        let control = this.control.clone();
        let mut state = control.lock();
        if state.flood.is_some() {
            // The connection looks at it after each poll.
            return Poll::Pending;
        }
        if state.bytes_left == 0 || state.heads_left == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let space = buf.remaining();
        let mut deferred = mem::take(&mut this.deferred);
        let mut put = |bytes: &[u8]| {
            let admitted = state.admit(bytes);
            buf.put_slice(&bytes[..admitted]);
            admitted
        };
        if deferred.is_empty() {
            ready!(this.io.poll_read_with(cx, space, |bytes| {
                let admitted = put(bytes);
                deferred.extend_from_slice(&bytes[admitted..]);
            }))?;
        } else {
            let admitted = put(&deferred[..deferred.len().min(space)]);
            deferred.drain(..admitted);
        }
        this.deferred = deferred;
        // Otherwise h2 would take it for the end of the stream.
        if state.flood.is_some() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

impl<S: Stream> AsyncWrite for ClientIo<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
        let mut state = self.control.lock();
        state.limits.add_written(written);
        state.is_unflushed = true;
        drop(state);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.control.lock().is_unflushed = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
        }
        self.poll_linger(cx).map(Ok)
    }
}

/// Bytes that are read in one poll of a connection, so that other tasks of its worker run in between.
const POLL_BYTES_MAX: usize = 256 * 1024;
/// Heads that are read in one poll: a small frame may contain a large head (RFC 7541), and each is rejected or
/// forwarded before more are read.
const POLL_HEADS_MAX: usize = 8;
/// When a connection that is not read looks again at the number of waiting bytes.
const RESUME_AFTER: Duration = Duration::from_millis(50);
/// Maximum time and bytes to read and discard after the last frame.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 256 * 1024;
