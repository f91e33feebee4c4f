//! A backend may answer before it has read the whole request, and close: a 413 or a 401 to an
//! upload. Its close resets the connection, our next write fails, and hyper would give up with the
//! answer still unread.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};

/// A connection on which a write to a peer that is gone goes nowhere instead of failing, so that
/// what the peer said before is read. Reads tell the truth: behind those words comes the end, or
/// the error.
#[derive(Debug)]
pub struct IgnoreResetOnWrite<Io> {
    io: Io,
    /// The peer takes nothing any more.
    gone: bool,
}

impl<Io> IgnoreResetOnWrite<Io> {
    /// A connection to a peer that is there.
    pub fn new(io: Io) -> Self {
        Self { io, gone: false }
    }

    /// The connection itself.
    pub fn into_inner(self) -> Io {
        self.io
    }

    /// Takes a write to a peer that is gone for done: `taken` says how much of it.
    fn judge<T>(&mut self, written: Poll<io::Result<T>>, taken: T) -> Poll<io::Result<T>> {
        let is_gone = |error: &io::Error| {
            matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
        };
        if matches!(&written, Poll::Ready(Err(error)) if is_gone(error)) {
            self.gone = true;
            return Poll::Ready(Ok(taken));
        }
        written
    }
}

impl<Io: Read + Unpin> Read for IgnoreResetOnWrite<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<Io: Write + Unpin> Write for IgnoreResetOnWrite<Io> {
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
        if self.gone {
            return Poll::Ready(Ok(len));
        }
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.judge(written, len)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.judge(flushed, ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.io).poll_shutdown(cx);
        self.judge(closed, ())
    }
}
