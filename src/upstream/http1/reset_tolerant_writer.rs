//! Keeps a backend's early response readable after the backend has reset the connection.
//!
//! A backend may respond before it has read the whole request (413 or 401 to an upload) and close the
//! connection. The close causes a reset, the next write fails, and hyper would return that error
//! without reading the response.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};

use crate::sys::worker_step::{charge_part, poll_step};

/// A connection on which writes to a peer that has closed are discarded instead of failing, so that
/// a response that the peer sent before is still read. Reads are unchanged: after the buffered data
/// they report the end of the stream or the error. A reset is an error there even if a write was the first
/// to report it, after which the socket would report the end of the stream.
#[derive(Debug)]
pub struct ResetTolerantWriter<Io> {
    io: Io,
    /// A write has failed because the peer closed the connection.
    peer_closed: bool,
    /// It was a reset, and not an end of the stream followed by a reset.
    was_reset: bool,
}

impl<Io> ResetTolerantWriter<Io> {
    /// Wraps a connection that is open in both directions.
    pub fn new(io: Io) -> Self {
        Self { io, peer_closed: false, was_reset: false }
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
        match &written {
            Poll::Ready(Err(error)) if error.kind() == ErrorKind::ConnectionReset => {
                self.was_reset = true;
            }
            // Linux reports this after the end of the stream was received.
            Poll::Ready(Err(error)) if error.kind() == ErrorKind::BrokenPipe => {}
            Poll::Ready(_) | Poll::Pending => return written,
        }
        self.peer_closed = true;
        Poll::Ready(Ok(discarded))
    }
}

impl<Io: Read + Unpin> Read for ResetTolerantWriter<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(poll_step(cx));
        if !self.was_reset {
            let space = buf.remaining();
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
            // How much was read cannot be seen through a cursor.
            charge_part(space.min(READ_BYTES));
            return Poll::Ready(Ok(()));
        }
        let mut chunk = [0; 4096];
        let len = buf.remaining().min(chunk.len());
        let mut chunk = ReadBuf::new(&mut chunk[..len]);
        ready!(Pin::new(&mut self.io).poll_read(cx, chunk.unfilled()))?;
        if chunk.filled().is_empty() && len > 0 {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        }
        buf.put_slice(chunk.filled());
        Poll::Ready(Ok(()))
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

/// What a read is taken for at most.
const READ_BYTES: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use hyper_util::rt::TokioIo;
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::net::socket::Socket;
    use crate::upstream::scripted::connected;

    async fn read(io: &mut ResetTolerantWriter<TokioIo<Socket>>) -> io::Result<Vec<u8>> {
        let mut bytes = [0; 16];
        let mut buf = ReadBuf::new(&mut bytes);
        poll_fn(|cx| Pin::new(&mut *io).poll_read(cx, buf.unfilled())).await?;
        Ok(buf.filled().to_vec())
    }

    // Requirements: BM26.
    #[tokio::test]
    async fn reset_seen_by_a_write_is_no_clean_end() {
        for write_first in [true, false] {
            let ((socket, _), mut peer) = connected().await;
            let mut io = ResetTolerantWriter::new(TokioIo::new(socket));
            peer.write_all(b"part").await.unwrap();
            peer.set_zero_linger().unwrap();
            drop(peer);
            if write_first {
                assert_eq!(poll_fn(|cx| Pin::new(&mut io).poll_write(cx, b"x")).await.unwrap(), 1);
            }
            assert_eq!(read(&mut io).await.unwrap(), b"part");
            assert_eq!(read(&mut io).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
    }

    #[tokio::test]
    async fn end_of_stream_before_a_reset_stays_clean() {
        let ((socket, _), mut peer) = connected().await;
        let mut io = ResetTolerantWriter::new(TokioIo::new(socket));
        peer.write_all(b"all").await.unwrap();
        peer.shutdown().await.unwrap();
        drop(peer);
        // The first write is answered with a reset, which the second one reports.
        for _ in 0..2 {
            assert_eq!(poll_fn(|cx| Pin::new(&mut io).poll_write(cx, b"x")).await.unwrap(), 1);
        }
        assert_eq!(read(&mut io).await.unwrap(), b"all");
        assert_eq!(read(&mut io).await.unwrap(), b"");
    }
}
