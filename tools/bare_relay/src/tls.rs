//! The bare TLS relay: rustls' buffered API in its documented use, with large reads.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::net::Shutdown;
use std::path::Path;
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::crypto::aws_lc_rs;
use rustls::server::NoServerSessionStorage;
use rustls::{ServerConfig, ServerConnection};

use crate::relay::{READ_BYTES, Sockets, Status, Transport};
use crate::tcp::{WriteBuffer, read};

/// TLS 1.3 only, with one stateless ticket per connection.
pub fn config(chain: &Path, key: &Path) -> io::Result<Arc<ServerConfig>> {
    let chain: Vec<_> = rustls_pemfile::certs(&mut pem(chain)?).collect::<Result<_, _>>()?;
    let key = rustls_pemfile::private_key(&mut pem(key)?)?
        .ok_or_else(|| io::Error::other("the file contains no private key"))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(io::Error::other)?;
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(io::Error::other)?;
    config.send_tls13_tickets = 1;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

fn pem(path: &Path) -> io::Result<BufReader<File>> {
    Ok(BufReader::new(File::open(path)?))
}

/// Terminates TLS and relays the plaintext.
pub struct Tls {
    config: Arc<ServerConfig>,
    scratch: Box<[u8]>,
    plain: Box<[u8]>,
}

/// The TLS connection, the bytes pending for the backend, and which sides have finished.
pub struct TlsConnection {
    tls: Box<ServerConnection>,
    up: WriteBuffer,
    up_ended: bool,
    down_ended: bool,
}

impl Tls {
    pub fn new(config: Arc<ServerConfig>) -> Self {
        // The plaintext of one read: its own records, and one record that earlier reads began.
        let plain = vec![0; READ_BYTES + 17 * 1024].into();
        Self { config, scratch: vec![0; READ_BYTES].into(), plain }
    }

    fn pump_up(&mut self, sockets: &mut Sockets, connection: &mut TlsConnection) -> io::Result<()> {
        while connection.up.flush(&mut sockets.backend)?
            && sockets.client_ready.readable
            && !connection.up_ended
        {
            let (socket, state) = (&mut sockets.client, &mut sockets.client_ready);
            let Some(count) = read(socket, state, &mut self.scratch)? else { break };
            let mut length = 0;
            let mut left = &self.scratch[..count];
            while !left.is_empty() {
                connection.tls.read_tls(&mut left)?;
                let state = connection.tls.process_new_packets().map_err(io::Error::other)?;
                connection.up_ended = state.peer_has_closed();
                let fresh = state.plaintext_bytes_to_read();
                if fresh > 0 {
                    connection.tls.reader().read_exact(&mut self.plain[length..length + fresh])?;
                    length += fresh;
                }
                if connection.up_ended {
                    break;
                }
            }
            if length > 0 {
                connection.up.send(&mut sockets.backend, &self.plain[..length])?;
            }
            if count == 0 || connection.up_ended {
                connection.up_ended = true;
                sockets.backend.shutdown(Shutdown::Write)?;
            }
        }
        flush(&mut connection.tls, &mut sockets.client)?;
        Ok(())
    }

    fn pump_down(
        &mut self,
        sockets: &mut Sockets,
        connection: &mut TlsConnection,
    ) -> io::Result<()> {
        while flush(&mut connection.tls, &mut sockets.client)?
            && sockets.backend_ready.readable
            && !connection.down_ended
            && !connection.tls.is_handshaking()
        {
            let (socket, state) = (&mut sockets.backend, &mut sockets.backend_ready);
            let Some(count) = read(socket, state, &mut self.scratch)? else { break };
            if count == 0 {
                connection.down_ended = true;
                connection.tls.send_close_notify();
                if flush(&mut connection.tls, &mut sockets.client)? {
                    sockets.client.shutdown(Shutdown::Write)?;
                }
                break;
            }
            connection.tls.writer().write_all(&self.scratch[..count])?;
        }
        Ok(())
    }
}

impl Transport for Tls {
    type Connection = TlsConnection;

    fn connection(&mut self) -> io::Result<TlsConnection> {
        let mut tls = ServerConnection::new(self.config.clone()).map_err(io::Error::other)?;
        // Flushed before the next read, so it holds one read at most.
        tls.set_buffer_limit(None);
        Ok(TlsConnection {
            tls: Box::new(tls),
            up: WriteBuffer::default(),
            up_ended: false,
            down_ended: false,
        })
    }

    fn pump(
        &mut self,
        sockets: &mut Sockets,
        connection: &mut TlsConnection,
    ) -> io::Result<Status> {
        self.pump_up(sockets, connection)?;
        self.pump_down(sockets, connection)?;
        // A client that disconnects during the handshake needs no answer.
        let aborted = connection.up_ended && connection.tls.is_handshaking();
        let closed = aborted || connection.down_ended && !connection.tls.wants_write();
        Ok(if closed { Status::Closed } else { Status::Open })
    }
}

/// Writes pending records. Returns whether all are written.
fn flush(tls: &mut ServerConnection, client: &mut TcpStream) -> io::Result<bool> {
    while tls.wants_write() {
        match tls.write_tls(client) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            written => written?,
        };
    }
    Ok(true)
}
