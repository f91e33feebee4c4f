//! TLS connections to servers.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use rustls::client::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::http_io::HttpIo;
use super::socket::Socket;
use super::tls_engine::ClientEngine;
use super::unbuffered_tls::UnbufferedTls;
use crate::net::Transport;

/// How connections to one server are encrypted, and the sessions that can be resumed with it.
#[derive(Clone, Debug)]
pub struct OutboundTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// A stream over TLS to a server.
pub type TlsClientStream = UnbufferedTls<ClientEngine, Socket>;

impl OutboundTls {
    /// `name` is the server name that is requested, or an IP address, for which none is requested (RFC 6066 3).
    pub fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> Self {
        Self { config, name }
    }

    /// Performs the handshake. The caller is responsible for the deadline.
    ///
    /// # Errors
    /// As [`UnbufferedTls::accept`].
    pub async fn connect(&self, socket: Socket) -> io::Result<Socket> {
        let engine = ClientEngine::new(self.config.clone(), self.name.clone())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let stream = UnbufferedTls::connect(socket, engine).await?;
        Ok(Socket::Tls(Box::new(TlsSocket(TokioIo::new(HttpIo::without_timeout(stream))))))
    }
}

/// A TLS connection during the HTTP phase.
#[derive(Debug)]
pub struct TlsSocket(TokioIo<HttpIo<Box<TlsClientStream>>>);

impl TlsSocket {
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
        bufs: &[io::IoSlice<'_>],
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
