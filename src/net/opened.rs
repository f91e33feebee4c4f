//! The stream of a tunnel to its backend.

use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::plain::PlainStream;
use super::scratch::{RecvScratch, SendScratch};
use super::socket::{Socket, TlsClientStream};
use super::{Recv, Stream};

/// A [`Stream`] over a connection that the proxy has opened.
#[derive(Debug)]
pub(crate) enum OpenedStream {
    /// Without TLS, over any transport.
    Plain(PlainStream<Socket>),
    /// With TLS; in a box, so that tunnels without it stay small.
    Tls(Box<TlsClientStream>),
}

impl OpenedStream {
    /// The stream over a connection after its HTTP phase, and all bytes received so far, of which the HTTP phase
    /// has read `read`.
    pub(crate) fn new(socket: Socket, read: Bytes) -> (Self, Bytes) {
        let Socket::Tls(tls) = socket else {
            return (Self::Plain(PlainStream::new(socket)), read);
        };
        let (stream, unread) = tls.into_parts();
        let received = if unread.is_empty() { read } else { [&read[..], &unread].concat().into() };
        (Self::Tls(stream), received)
    }
}

impl Stream for OpenedStream {
    #[inline]
    fn poll_recv<'s>(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &'s mut RecvScratch,
    ) -> Poll<io::Result<Recv<'s>>> {
        match self {
            Self::Plain(stream) => stream.poll_recv(cx, scratch),
            Self::Tls(stream) => stream.poll_recv(cx, scratch),
        }
    }

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => stream.poll_ready(cx),
            Self::Tls(stream) => stream.poll_ready(cx),
        }
    }

    #[inline]
    fn send(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[&[u8]],
        scratch: &mut SendScratch,
    ) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.send(cx, parts, scratch),
            Self::Tls(stream) => stream.send(cx, parts, scratch),
        }
    }

    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut SendScratch,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => stream.poll_close(cx, scratch),
            Self::Tls(stream) => stream.poll_close(cx, scratch),
        }
    }

    fn abort(&mut self) {
        match self {
            Self::Plain(stream) => stream.abort(),
            Self::Tls(stream) => stream.abort(),
        }
    }

    fn backlog(&self) -> usize {
        match self {
            Self::Plain(stream) => stream.backlog(),
            Self::Tls(stream) => stream.backlog(),
        }
    }
}
