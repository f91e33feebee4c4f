//! What a client sends on one stream.
//!
//! Each DATA frame is taken out of the HTTP/2 library at once: in there it takes more memory than its bytes, and
//! too many small frames would end the whole connection. Bytes that are not needed yet are kept here, in one
//! allocation. The client gets credit (RFC 9113 5.2) only for bytes that were passed on, so that it is never
//! more than a window ahead.

use std::io;
use std::mem;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use hyper::HeaderMap;

use super::waiting::StreamWaiting;

/// The receiving side of a stream.
#[derive(Debug)]
pub struct StreamReceiver {
    stream: RecvStream,
    /// Received and not taken; at most one window, and not allocated if empty.
    kept: Vec<u8>,
    /// Number of bytes that were taken last, for which there is no credit yet.
    taken: usize,
    waiting: StreamWaiting,
}

impl StreamReceiver {
    /// Receives from `stream`.
    pub fn new(stream: RecvStream, waiting: StreamWaiting) -> Self {
        Self { stream, kept: Vec::new(), taken: 0, waiting }
    }

    /// Keeps everything that has been received, for a stream whose bytes are not needed yet. Registers the
    /// waker for more.
    pub fn keep_received(&mut self, cx: &mut Context<'_>) {
        // The end and errors are returned again when the stream is read.
        while let Poll::Ready(Some(Ok(data))) = self.stream.poll_data(cx) {
            self.kept.extend_from_slice(&data);
        }
        self.count();
    }

    /// Takes as much as fits into `buf`, and gives credit for what was taken before. Returns the number of
    /// bytes; 0 at the end of the stream.
    ///
    /// # Errors
    /// The stream was reset, or the connection failed.
    pub fn poll_take(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.give_credit();
        let mut len = self.kept.len().min(buf.len());
        buf[..len].copy_from_slice(&self.kept[..len]);
        self.kept.drain(..len);
        if self.kept.is_empty() {
            self.kept = Vec::new();
        }
        // A frame that does not fit is kept.
        while self.kept.is_empty() && len < buf.len() {
            match self.stream.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    let (fits, rest) = data.split_at(data.len().min(buf.len() - len));
                    buf[len..len + fits.len()].copy_from_slice(fits);
                    len += fits.len();
                    self.kept.extend_from_slice(rest);
                }
                // Returned again with the next call.
                Poll::Ready(_) if len > 0 => break,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(failure(error))),
                Poll::Ready(None) => return Poll::Ready(Ok(0)),
                Poll::Pending if len > 0 => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        self.taken = len;
        self.count();
        Poll::Ready(Ok(len))
    }

    /// Takes some bytes, and gives credit for what was taken before. `None` at the end of the stream.
    ///
    /// # Errors
    /// The stream was reset, or the connection failed.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        self.give_credit();
        if !self.kept.is_empty() {
            let kept = mem::take(&mut self.kept);
            self.taken = kept.len();
            self.count();
            return Poll::Ready(Some(Ok(kept.into())));
        }
        loop {
            match ready!(self.stream.poll_data(cx)) {
                // The last frame may be empty.
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    self.taken = data.len();
                    self.count();
                    return Poll::Ready(Some(Ok(data)));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(failure(error)))),
                None => return Poll::Ready(None),
            }
        }
    }

    /// The trailers, after the end of the stream.
    ///
    /// # Errors
    /// The stream was reset, or the connection failed.
    pub fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<HeaderMap>>> {
        self.stream.poll_trailers(cx).map_err(failure)
    }

    /// Whether nothing more will be received, and everything was taken.
    pub fn is_at_end(&self) -> bool {
        self.kept.is_empty() && self.stream.is_end_stream()
    }

    /// Number of bytes that are kept; their memory counts, so it is 0 only if there is none.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        if self.kept.is_empty() { self.kept.capacity() } else { self.kept.len() }
    }

    fn give_credit(&mut self) {
        let taken = mem::take(&mut self.taken);
        if taken > 0 {
            // Cannot fail: so much was received.
            let _ = self.stream.flow_control().release_capacity(taken);
            self.waiting.pass(taken);
            self.count();
        }
    }

    /// Counts all bytes for which there is no credit yet, also those that were taken last and are on their way.
    fn count(&mut self) {
        self.waiting.set(self.kept.len() + self.taken);
    }
}

/// The error of a stream in the form of other streams.
pub fn failure(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into());
    }
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}
