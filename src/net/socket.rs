//! A byte-stream connection to a client or to a backend, over any transport.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::Transport;
use super::http_io::HttpIo;
use super::tls_engine::ClientEngine;
use super::unbuffered_tls::UnbufferedTls;

/// What [`Net::connect`](super::network::Net::connect) returns and a listener accepts. Everything
/// above it works with any variant.
#[derive(Debug)]
pub enum Socket {
    /// A TCP connection of the operating system.
    Tcp(TcpStream),
    /// A connection to a Unix socket; in a box, because a second variant of this size would enlarge the task of
    /// each tunnel.
    Unix(Box<UnixStream>),
    /// A TLS connection to a backend.
    Tls(Box<TlsSocket>),
    /// Any other transport: a simulated network, or a protocol on top of another socket.
    Boxed(Box<dyn BoxableTransport>),
}

/// A [`Transport`] that can be a [`Socket::Boxed`].
pub trait BoxableTransport: Transport + std::fmt::Debug + Send {}

impl<T: Transport + std::fmt::Debug + Send> BoxableTransport for T {}

impl Socket {
    /// Copies what has arrived into `buf` without consuming it, again and again as more arrives, until `is_enough` is true for it.
    /// Returns its length, also if no more will come; 0 is the end.
    ///
    /// # Errors
    /// As [`peek`](Self::peek).
    pub async fn peek_until(
        &mut self,
        buf: &mut [u8],
        mut is_enough: impl FnMut(&[u8]) -> bool,
    ) -> io::Result<usize> {
        let Self::Tcp(tcp) = self else { return Err(io::ErrorKind::Unsupported.into()) };
        loop {
            let ready = tcp.ready(Interest::READABLE).await?;
            let peeked = tcp.try_io(Interest::READABLE, || {
                let (len, _) = recv(&*tcp, &mut *buf, RecvFlags::PEEK)?;
                match len == 0 || is_enough(&buf[..len]) || ready.is_read_closed() {
                    true => Ok(len),
                    // The socket is ready again once more has arrived.
                    false => Err(io::ErrorKind::WouldBlock.into()),
                }
            });
            match peeked {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                peeked => return peeked,
            }
        }
    }

    /// Copies what has arrived into `buf` without consuming it; 0 is the end.
    ///
    /// # Errors
    /// The connection failed, or the transport cannot look ahead ([`io::ErrorKind::Unsupported`]).
    pub async fn peek(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => tcp.peek(buf).await,
            Self::Unix(_) | Self::Tls(_) | Self::Boxed(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl From<TcpStream> for Socket {
    fn from(tcp: TcpStream) -> Self {
        Self::Tcp(tcp)
    }
}

impl Transport for Socket {
    fn reset_on_drop(&mut self) {
        match self {
            Self::Tcp(tcp) => tcp.reset_on_drop(),
            Self::Unix(unix) => unix.reset_on_drop(),
            Self::Tls(tls) => tls.reset_on_drop(),
            Self::Boxed(io) => io.reset_on_drop(),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Unix(unix) => Pin::new(unix).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
            Self::Boxed(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Unix(unix) => Pin::new(unix).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
            Self::Boxed(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Unix(unix) => Pin::new(unix).poll_write_vectored(cx, bufs),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
            Self::Boxed(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(tcp) => tcp.is_write_vectored(),
            Self::Unix(unix) => unix.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
            Self::Boxed(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Unix(unix) => Pin::new(unix).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
            Self::Boxed(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Unix(unix) => Pin::new(unix).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
            Self::Boxed(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}

/// A stream over TLS to a server.
pub type TlsClientStream = UnbufferedTls<ClientEngine, Socket>;

/// A TLS connection during the HTTP phase.
#[derive(Debug)]
pub struct TlsSocket(TokioIo<HttpIo<Box<TlsClientStream>>>);

impl TlsSocket {
    /// Wraps a stream after its handshake.
    pub fn new(stream: Box<TlsClientStream>) -> Self {
        Self(TokioIo::new(HttpIo::without_timeout(stream)))
    }

    /// The stream for the tunnel, and bytes that were received and not read.
    pub fn into_parts(self) -> (Box<TlsClientStream>, Vec<u8>) {
        self.0.into_inner().into_parts()
    }
}

impl Transport for TlsSocket {
    fn reset_on_drop(&mut self) {
        self.0.inner_mut().abort();
    }
}

impl AsyncRead for TlsSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
