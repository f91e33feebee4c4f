//! A client stream that starts with given bytes.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A connection that sends these bytes before its first write, in one segment.
pub struct Prefixed {
    stream: TcpStream,
    prefix: Vec<u8>,
}

impl Prefixed {
    /// Wraps a connected stream.
    pub fn new(stream: TcpStream, prefix: &[u8]) -> Self {
        Self { stream, prefix: prefix.to_vec() }
    }
}

impl AsyncRead for Prefixed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let prefix = std::mem::take(&mut self.prefix);
        let whole = [&prefix, bytes].concat();
        match Pin::new(&mut self.stream).poll_write(cx, &whole) {
            Poll::Ready(Ok(written)) if written >= prefix.len() => {
                Poll::Ready(Ok(written - prefix.len()))
            }
            Poll::Ready(Ok(written)) => panic!("only {written} bytes of a header were written"),
            Poll::Pending => {
                self.prefix = prefix;
                Poll::Pending
            }
            failed => failed,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
