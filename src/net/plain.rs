//! A stream without TLS; each read and each write is one system call.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncWrite, ReadBuf};

use super::scratch::{RecvScratch, SendScratch};
use crate::net::{PARTS_MAX, Recv, Stream, Transport, io_slices};

/// A [`Stream`] directly over a transport. FIN counts as [`Recv::Closed`], since without TLS there is
/// no other signal for the end.
#[derive(Debug)]
pub struct PlainStream<Io> {
    pub(super) io: Io,
    unsent: UnsentBytes,
}

impl<Io: Transport> PlainStream<Io> {
    /// Wraps a transport. Bytes that the caller has already read from it are not returned again.
    pub fn new(io: Io) -> Self {
        Self { io, unsent: UnsentBytes::default() }
    }

    /// Writes `parts` with one system call and keeps what the kernel does not accept.
    pub(super) fn write_or_keep(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[&[u8]],
    ) -> io::Result<()> {
        let written = if self.unsent.is_empty() {
            match write_parts(&mut self.io, cx, parts)? {
                Poll::Ready(written) => written,
                Poll::Pending => 0,
            }
        } else {
            0 // The contract of `send` excludes this call, but bytes must never be reordered.
        };
        self.unsent.append(parts, written);
        Ok(())
    }
}

impl<Io: Transport> Stream for PlainStream<Io> {
    fn poll_recv<'s>(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &'s mut RecvScratch,
    ) -> Poll<io::Result<Recv<'s>>> {
        let mut buf = ReadBuf::new(&mut scratch.plain);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
        let len = buf.filled().len();
        Poll::Ready(Ok(if len == 0 { Recv::Closed } else { Recv::Data(&mut scratch.plain[..len]) }))
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, self.unsent.bytes()))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.consume(written);
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn send(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[&[u8]],
        _scratch: &mut SendScratch,
    ) -> io::Result<()> {
        self.write_or_keep(cx, parts)
    }

    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        _scratch: &mut SendScratch,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_ready(cx))?;
        poll_fin(&mut self.io, cx)
    }

    fn abort(&mut self) {
        self.io.reset_on_drop();
    }

    fn backlog(&self) -> usize {
        self.unsent.bytes().len()
    }
}

/// Sends FIN. A peer that has already disconnected is not an error.
///
/// # Errors
/// The FIN could not be sent.
pub(super) fn poll_fin<Io: AsyncWrite + Unpin>(
    io: &mut Io,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    match ready!(Pin::new(io).poll_shutdown(cx)) {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
        result => Poll::Ready(result),
    }
}

/// Bytes that the kernel did not accept: allocated to exact size, freed when empty. Boxed so that an
/// idle stream, which has none, stays small.
#[derive(Debug, Default)]
struct UnsentBytes(Option<Box<UnsentBuffer>>);

#[derive(Debug, Default)]
struct UnsentBuffer {
    bytes: Box<[u8]>,
    /// Number of leading bytes that have been sent since.
    written: usize,
}

impl UnsentBytes {
    fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn bytes(&self) -> &[u8] {
        self.0.as_ref().and_then(|kept| kept.bytes.get(kept.written..)).unwrap_or_default()
    }

    fn consume(&mut self, written: usize) {
        if let Some(kept) = &mut self.0 {
            kept.written += written;
            if kept.written >= kept.bytes.len() {
                self.0 = None;
            }
        }
    }

    /// Appends `parts` without the first `skip` bytes.
    fn append(&mut self, parts: &[&[u8]], skip: usize) {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        if skip >= total {
            return;
        }
        let UnsentBuffer { bytes, written } =
            self.0.take().map_or_else(UnsentBuffer::default, |kept| *kept);
        let mut kept = bytes.into_vec();
        kept.reserve_exact(total - skip);
        let mut skip = skip;
        for part in parts {
            let skipped = skip.min(part.len());
            kept.extend_from_slice(&part[skipped..]);
            skip -= skipped;
        }
        self.0 = Some(Box::new(UnsentBuffer { bytes: kept.into_boxed_slice(), written }));
    }
}

/// Writes the first [`PARTS_MAX`] parts with one system call. A single part uses plain `write`: a
/// short count tells tokio that the socket is full, which saves the next system call.
fn write_parts<Io: AsyncWrite + Unpin>(
    io: &mut Io,
    cx: &mut Context<'_>,
    parts: &[&[u8]],
) -> io::Result<Poll<usize>> {
    let mut slices = [IoSlice::new(&[]); PARTS_MAX];
    let poll = match io_slices(parts, &mut slices) {
        [] => return Ok(Poll::Ready(0)),
        [only] => Pin::new(io).poll_write(cx, only),
        several => Pin::new(io).poll_write_vectored(cx, several),
    };
    match poll {
        Poll::Ready(Ok(0)) => Err(io::ErrorKind::WriteZero.into()),
        Poll::Ready(written) => written.map(Poll::Ready),
        Poll::Pending => Ok(Poll::Pending),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::net::testing::{Received, close, ready, recv, send};

    #[tokio::test]
    async fn unsent_bytes_are_kept_and_freed() {
        let (near, mut far) = duplex(10);
        let mut stream = PlainStream::new(near);
        send(&mut stream, &[b"01234", b"", b"56789", b"abcde", b"fghij"]).await.unwrap();
        assert_eq!(stream.backlog(), 10);
        let mut got = [0; 20];
        let (written, read) = tokio::join!(ready(&mut stream), far.read_exact(&mut got));
        written.unwrap();
        read.unwrap();
        assert_eq!(&got, b"0123456789abcdefghij");
        assert!(stream.backlog() == 0 && stream.unsent.0.is_none());
    }

    #[tokio::test]
    async fn more_parts_than_one_write_arrive_in_order() {
        let (near, mut far) = duplex(64);
        let mut stream = PlainStream::new(near);
        let parts = [b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9", b"a"];
        send(&mut stream, &parts.map(|part| &part[..])).await.unwrap();
        ready(&mut stream).await.unwrap();
        let mut got = [0; 11];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"0123456789a");
    }

    #[tokio::test]
    async fn close_delivers_the_backlog_first() {
        let (near, mut far) = duplex(4);
        let mut stream = PlainStream::new(near);
        send(&mut stream, &[b"goodbye!"]).await.unwrap();
        let mut got = Vec::new();
        let (closed, read) = tokio::join!(close(&mut stream), far.read_to_end(&mut got));
        closed.unwrap();
        read.unwrap();
        assert_eq!(got, b"goodbye!");
        // The other direction stays open.
        far.write_all(b"late").await.unwrap();
        assert_eq!(recv(&mut stream).await.unwrap(), Received::Data(b"late".to_vec()));
        drop(far);
        assert_eq!(recv(&mut stream).await.unwrap(), Received::Closed);
        assert_eq!(recv(&mut stream).await.unwrap(), Received::Closed);
    }

    async fn tcp_pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (far, near) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.unwrap().0, far.unwrap())
    }

    #[tokio::test]
    async fn abort_resets_a_tcp_connection() {
        let (near, mut far) = tcp_pair().await;
        let mut stream = PlainStream::new(near);
        stream.abort();
        drop(stream);
        let error = far.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn slow_tcp_reader_receives_everything() {
        let (near, mut far) = tcp_pair().await;
        let mut stream = PlainStream::new(near);
        let block: Vec<u8> = (0..=255).cycle().take(64 * 1024).collect();
        let mut sent = 0;
        while stream.backlog() == 0 {
            ready(&mut stream).await.unwrap();
            send(&mut stream, &[&block[..7], &block[7..]]).await.unwrap();
            sent += block.len();
        }
        let mut got = vec![0; sent];
        let (written, read) = tokio::join!(ready(&mut stream), far.read_exact(&mut got));
        written.unwrap();
        read.unwrap();
        assert!(got.chunks(block.len()).all(|chunk| chunk == block));
    }
}
