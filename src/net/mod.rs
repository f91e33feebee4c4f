//! The byte streams under HTTP and under the tunnel.
//!
//! Owns how bytes are lent and taken ([`Stream`](crate::net::Stream)) and what carries them:
//! plain, TLS, and the adapter for the HTTP phase. A stream keeps nothing at rest: what has
//! arrived is lent from a worker's scratch, and only what the kernel did not take is kept for
//! writing. The streams know no HTTP and no WebSocket.

#[cfg(test)]
pub(crate) mod conformance;
pub mod engine;
pub(crate) mod http_io;
pub mod network;
pub(crate) mod plain;
pub mod scratch;
#[cfg(test)]
pub(crate) mod scripted;
pub mod socket;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
pub(crate) mod tokio_tls;
pub(crate) mod unbuffered_tls;

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::net::scratch::{RecvScratch, SendScratch};

/// `TCP_NOTSENT_LOWAT` of every connection, in bytes: what the kernel takes and has not sent yet.
/// Without it a peer that does not read costs megabytes of kernel memory, and our Ping or Close
/// waits behind them; with less, one `send` would need several system calls.
pub const UNSENT_BYTES_MAX: u32 = 128 * 1024;

/// Bytes with an end, both ways; the only thing the tunnel knows of a connection.
pub trait Stream: Unpin {
    /// What has arrived, lent from the scratch: 1 B to [`RECV_BYTES_MAX`]. The caller uses or
    /// copies all of it before it calls again; the stream keeps no plaintext. Pending registers the waker.
    /// After [`Recv::Closed`] or [`Recv::Truncated`] it is always the same again.
    ///
    /// # Errors
    /// The connection was reset, or what came is not lawful TLS; nothing more will be read.
    fn poll_recv<'s>(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &'s mut RecvScratch,
    ) -> Poll<io::Result<Recv<'s>>>;

    /// Ready when nothing waits to be written; what waits is written and flushed first. Pending
    /// is a slow receiver: its other side is not to be read.
    ///
    /// # Errors
    /// The peer takes nothing any more.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Takes `parts` whole, [`SEND_BYTES_MAX`] in all, in as few records as possible and one
    /// system call if it goes; what the kernel does not take is kept. Only after
    /// [`poll_ready`](Self::poll_ready) was Ready, whose word delivery is: this one may return
    /// without a waker registered.
    ///
    /// # Errors
    /// The peer takes nothing any more.
    fn send(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[&[u8]],
        scratch: &mut SendScratch,
    ) -> io::Result<()>;

    /// Says that nothing more will come: `close_notify` once (under TLS), the rest of what waits,
    /// then FIN. Callable again until Ready; the deadline is the caller's.
    ///
    /// # Errors
    /// The peer takes nothing any more.
    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut SendScratch,
    ) -> Poll<io::Result<()>>;

    /// Makes the coming drop a reset, where the transport has one (`SO_LINGER` 0).
    fn abort(&mut self);

    /// Bytes kept for writing.
    fn backlog(&self) -> usize;
}

/// What [`Stream::poll_recv`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Recv<'s> {
    /// Bytes, at least one; the borrower may move them about.
    Data(&'s mut [u8]),
    /// The peer said that nothing more will come.
    Closed,
    /// The connection ended without the peer saying so: FIN without `close_notify`
    /// (RFC 8446 6.1), so what came before may lack its end.
    Truncated,
}

/// What a stream runs over: tokio's two traits, and a way to end without a farewell.
pub trait Transport: AsyncRead + AsyncWrite + Unpin {
    /// Makes the coming drop a reset; nothing where there is no such thing.
    fn reset_on_drop(&mut self) {}
}

impl Transport for TcpStream {
    fn reset_on_drop(&mut self) {
        // A socket that refuses the option is closed in the ordinary way, which is all that is
        // left to do with it.
        let _ = self.set_zero_linger();
    }
}

impl Transport for UnixStream {}

/// In memory: tests, benches.
impl Transport for tokio::io::DuplexStream {}

/// The first of `parts` that have bytes, as the system call takes them; as many as there is room.
fn slices<'a, 'r>(
    parts: &[&'a [u8]],
    room: &'r mut [IoSlice<'a>; PARTS_MAX],
) -> &'r mut [IoSlice<'a>] {
    let mut used = 0;
    for (slice, part) in room.iter_mut().zip(parts.iter().filter(|part| !part.is_empty())) {
        *slice = IoSlice::new(part);
        used += 1;
    }
    &mut room[..used]
}

/// Most that one [`Stream::poll_recv`] lends: a message of 64 KiB, with all that is around it, comes
/// in one read.
pub const RECV_BYTES_MAX: usize = 68 * 1024;

/// Most that one [`Stream::send`] takes: the largest receipt, and frames of our own around it.
pub const SEND_BYTES_MAX: usize = RECV_BYTES_MAX + 512;

/// Most parts that one system call carries; the tunnel has four at most.
const PARTS_MAX: usize = 8;
