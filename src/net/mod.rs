//! The byte streams below HTTP and the tunnel.
//!
//! Defines how bytes are received and sent ([`Stream`]) and implements it without
//! TLS, with TLS, and as an adapter for the HTTP phase. An idle stream owns no buffers: received data
//! is lent from scratch buffers of the worker, and only bytes that the kernel did not accept are kept.
//! The streams know nothing about HTTP and WebSocket.

#[cfg(test)]
pub(crate) mod conformance;
pub mod http2;
pub(crate) mod http_io;
pub mod network;
pub(crate) mod opened;
pub(crate) mod plain;
pub mod scratch;
#[cfg(test)]
pub(crate) mod scripted;
pub mod socket;
#[cfg(test)]
pub mod testing;
pub mod tls_client;
pub mod tls_engine;
pub mod tls_records;
#[cfg(test)]
pub(crate) mod tokio_tls;
pub(crate) mod unbuffered_tls;

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::net::scratch::{RecvScratch, SendScratch};

/// `TCP_NOTSENT_LOWAT` of every connection, in bytes: how much unsent data the kernel accepts.
/// Without it, a peer that does not read costs megabytes of kernel memory, and a Ping or Close is
/// queued after that data; with a lower value, one `send` would need several system calls.
pub const UNSENT_BYTES_MAX: u32 = 128 * 1024;

/// A bidirectional byte stream; all that the tunnel knows about a connection.
pub trait Stream: Unpin {
    /// Receives 1 to [`RECV_BYTES_MAX`] bytes, lent from the scratch buffers. The caller must use or
    /// copy all of them before the next call, because the stream keeps no plaintext. Pending
    /// registers the waker. After [`Recv::Closed`] or [`Recv::Truncated`], every call returns the
    /// same.
    ///
    /// # Errors
    /// The connection was reset, or the peer violated TLS; nothing more will be received.
    fn poll_recv<'s>(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &'s mut RecvScratch,
    ) -> Poll<io::Result<Recv<'s>>>;

    /// Writes and flushes the backlog; Ready once it is empty. Pending means that the peer receives
    /// slowly, so the caller should not read from the other side of the tunnel.
    ///
    /// # Errors
    /// The connection failed; nothing more can be sent.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Sends all `parts`, together at most [`SEND_BYTES_MAX`], in as few records and system calls as
    /// possible, and keeps what the kernel does not accept. May be called only after
    /// [`poll_ready`](Self::poll_ready) was Ready. May return without a registered waker; the next
    /// `poll_ready` registers it.
    ///
    /// # Errors
    /// The connection failed; nothing more can be sent.
    fn send(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[&[u8]],
        scratch: &mut SendScratch,
    ) -> io::Result<()>;

    /// Ends the sending direction: `close_notify` once (with TLS), the backlog, then FIN. Call it
    /// again until Ready; the caller is responsible for the deadline.
    ///
    /// # Errors
    /// The connection failed; nothing more can be sent.
    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut SendScratch,
    ) -> Poll<io::Result<()>>;

    /// Makes the drop of the stream reset the connection, if the transport can (`SO_LINGER` 0).
    fn abort(&mut self);

    /// Number of bytes that are kept because the kernel did not accept them yet.
    fn backlog(&self) -> usize;
}

impl<S: Stream> Stream for Box<S> {
    fn poll_recv<'s>(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &'s mut RecvScratch,
    ) -> Poll<io::Result<Recv<'s>>> {
        (**self).poll_recv(cx, scratch)
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_ready(cx)
    }

    fn send(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[&[u8]],
        scratch: &mut SendScratch,
    ) -> io::Result<()> {
        (**self).send(cx, parts, scratch)
    }

    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut SendScratch,
    ) -> Poll<io::Result<()>> {
        (**self).poll_close(cx, scratch)
    }

    fn abort(&mut self) {
        (**self).abort();
    }

    fn backlog(&self) -> usize {
        (**self).backlog()
    }
}

/// What [`Stream::poll_recv`] received.
#[derive(Debug, PartialEq, Eq)]
pub enum Recv<'s> {
    /// At least one byte; the caller may modify the buffer.
    Data(&'s mut [u8]),
    /// The peer ended its direction: `close_notify` with TLS, FIN without.
    Closed,
    /// FIN without `close_notify` (RFC 8446 6.1): the data before may be incomplete.
    Truncated,
}

/// What a stream runs over: tokio's I/O traits, and a way to reset the connection.
pub trait Transport: AsyncRead + AsyncWrite + Unpin {
    /// Makes the drop reset the connection; does nothing if the transport has no reset.
    fn reset_on_drop(&mut self) {}
}

impl Transport for TcpStream {
    fn reset_on_drop(&mut self) {
        // If the option cannot be set, the socket is closed with FIN.
        let _ = self.set_zero_linger();
    }
}

impl Transport for UnixStream {}

/// In-memory pipe, for tests and benchmarks.
impl Transport for tokio::io::DuplexStream {}

/// The first [`PARTS_MAX`] non-empty parts as slices for a vectored write, stored in `slices`.
fn io_slices<'a, 'r>(
    parts: &[&'a [u8]],
    slices: &'r mut [IoSlice<'a>; PARTS_MAX],
) -> &'r mut [IoSlice<'a>] {
    let mut used = 0;
    for (slice, part) in slices.iter_mut().zip(parts.iter().filter(|part| !part.is_empty())) {
        *slice = IoSlice::new(part);
        used += 1;
    }
    &mut slices[..used]
}

/// Maximum result of one [`Stream::poll_recv`]: a 64 KiB message with frame headers and TLS overhead
/// fits into one read.
pub const RECV_BYTES_MAX: usize = 68 * 1024;

/// Maximum size of one [`Stream::send`]: the largest receive, and control frames around it.
pub const SEND_BYTES_MAX: usize = RECV_BYTES_MAX + 512;

/// Maximum number of parts in one system call; the tunnel uses at most four.
const PARTS_MAX: usize = 8;
