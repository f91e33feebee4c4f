//! TLS connections to servers.

use std::io;
use std::sync::Arc;

use rustls::client::ClientConfig;
use rustls::pki_types::ServerName;

use super::socket::{Socket, TlsSocket};
use super::tls_engine::ClientEngine;
use super::unbuffered_tls::UnbufferedTls;

/// How connections to one server are encrypted, and the sessions that can be resumed with it.
#[derive(Clone, Debug)]
pub struct OutboundTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl OutboundTls {
    /// `name` is the server name that is requested, or an IP address, for which none is requested (RFC 6066 3).
    pub fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> Self {
        Self { config, name }
    }

    /// Performs the handshake. The caller is responsible for the deadline.
    ///
    /// # Errors
    /// `UnexpectedEof` if the server disconnected; `InvalidData` with a [`rustls::Error`] inside if the handshake
    /// failed.
    pub async fn connect(&self, socket: Socket) -> io::Result<Socket> {
        let engine = ClientEngine::new(self.config.clone(), self.name.clone())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let stream = UnbufferedTls::connect(socket, engine).await?;
        Ok(Socket::Tls(Box::new(TlsSocket::new(stream))))
    }
}
