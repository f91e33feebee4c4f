//! Keeps a backend's early response readable after the backend has reset the connection.
//!
//! A backend may respond before it has read the whole request (413 or 401 to an upload) and close the
//! connection. The close causes a reset, the next write fails, and hyper would return that error
//! without reading the response.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};

/// A connection on which writes to a peer that has closed are discarded instead of failing, so that
/// a response that the peer sent before is still read. Reads are unchanged: after the buffered data
/// they report the end of the stream or the error.
#[derive(Debug)]
pub struct ResetTolerantWriter<Io> {
    io: Io,
    /// A write has failed because the peer closed the connection.
    peer_closed: bool,
}

impl<Io> ResetTolerantWriter<Io> {
    /// Wraps a connection that is open in both directions.
    pub fn new(io: Io) -> Self {
        Self { io, peer_closed: false }
    }

    /// Returns the wrapped connection.
    pub fn into_inner(self) -> Io {
        self.io
    }

    /// Reports a write to a closed peer as successful, with `discarded` as its result.
    fn ignore_reset<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        discarded: T,
    ) -> Poll<io::Result<T>> {
        let is_reset = |error: &io::Error| {
            matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
        };
        if matches!(&written, Poll::Ready(Err(error)) if is_reset(error)) {
            self.peer_closed = true;
            return Poll::Ready(Ok(discarded));
        }
        written
    }
}

impl<Io: Read + Unpin> Read for ResetTolerantWriter<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<Io: Write + Unpin> Write for ResetTolerantWriter<Io> {
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
        let len = bufs.iter().map(|buf| buf.len()).sum();
        if self.peer_closed {
            return Poll::Ready(Ok(len));
        }
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.ignore_reset(written, len)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.ignore_reset(flushed, ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.io).poll_shutdown(cx);
        self.ignore_reset(closed, ())
    }
}
