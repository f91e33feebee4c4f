//! The bare rustls relay: the buffered API as it is meant to be used, fed by large reads.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::net::Shutdown;
use std::path::Path;
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::crypto::aws_lc_rs;
use rustls::server::NoServerSessionStorage;
use rustls::{ServerConfig, ServerConnection};

use crate::plain::{Waiting, read};
use crate::relay::{Ends, Motion, READ_BYTES, Route};

/// TLS 1.3 only, stateless tickets, one a connection.
pub fn config(chain: &Path, key: &Path) -> io::Result<Arc<ServerConfig>> {
    let chain: Vec<_> = rustls_pemfile::certs(&mut pem(chain)?).collect::<Result<_, _>>()?;
    let key = rustls_pemfile::private_key(&mut pem(key)?)?
        .ok_or_else(|| io::Error::other("there is no key in the file"))?;
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

/// Ends TLS and relays what it carries.
pub struct Crypto {
    config: Arc<ServerConfig>,
    scratch: Box<[u8]>,
    plain: Box<[u8]>,
}

/// The connection, what the backend has not taken yet, and who has said all.
pub struct CryptoFlow {
    tls: Box<ServerConnection>,
    up: Waiting,
    up_ended: bool,
    down_ended: bool,
}

impl Crypto {
    pub fn new(config: Arc<ServerConfig>) -> Self {
        // A read of records never holds more plaintext than itself, but for the part of a record
        // that came before it.
        let plain = vec![0; READ_BYTES + 17 * 1024].into();
        Self { config, scratch: vec![0; READ_BYTES].into(), plain }
    }

    fn pump_up(&mut self, ends: &mut Ends, flow: &mut CryptoFlow) -> io::Result<()> {
        while flow.up.flush(&mut ends.backend)? && ends.client_unread.some && !flow.up_ended {
            let sockets = (&mut ends.client, &mut ends.client_unread);
            let Some(got) = read(sockets.0, sockets.1, &mut self.scratch)? else { break };
            let mut length = 0;
            let mut left = &self.scratch[..got];
            while !left.is_empty() {
                flow.tls.read_tls(&mut left)?;
                let state = flow.tls.process_new_packets().map_err(io::Error::other)?;
                flow.up_ended = state.peer_has_closed();
                let fresh = state.plaintext_bytes_to_read();
                if fresh > 0 {
                    flow.tls.reader().read_exact(&mut self.plain[length..length + fresh])?;
                    length += fresh;
                }
                if flow.up_ended {
                    break;
                }
            }
            if length > 0 {
                flow.up.send(&mut ends.backend, &self.plain[..length])?;
            }
            if got == 0 || flow.up_ended {
                flow.up_ended = true;
                ends.backend.shutdown(Shutdown::Write)?;
            }
        }
        flush(&mut flow.tls, &mut ends.client)?;
        Ok(())
    }

    fn pump_down(&mut self, ends: &mut Ends, flow: &mut CryptoFlow) -> io::Result<()> {
        while flush(&mut flow.tls, &mut ends.client)?
            && ends.backend_unread.some
            && !flow.down_ended
            && !flow.tls.is_handshaking()
        {
            let sockets = (&mut ends.backend, &mut ends.backend_unread);
            let Some(got) = read(sockets.0, sockets.1, &mut self.scratch)? else { break };
            if got == 0 {
                flow.down_ended = true;
                flow.tls.send_close_notify();
                if flush(&mut flow.tls, &mut ends.client)? {
                    ends.client.shutdown(Shutdown::Write)?;
                }
                break;
            }
            flow.tls.writer().write_all(&self.scratch[..got])?;
        }
        Ok(())
    }
}

impl Route for Crypto {
    type Flow = CryptoFlow;

    fn flow(&mut self) -> io::Result<CryptoFlow> {
        let mut tls = ServerConnection::new(self.config.clone()).map_err(io::Error::other)?;
        // Flushed before more is read, so it never holds more than one read.
        tls.set_buffer_limit(None);
        Ok(CryptoFlow {
            tls: Box::new(tls),
            up: Waiting::default(),
            up_ended: false,
            down_ended: false,
        })
    }

    fn pump(&mut self, ends: &mut Ends, flow: &mut CryptoFlow) -> io::Result<Motion> {
        self.pump_up(ends, flow)?;
        self.pump_down(ends, flow)?;
        // A client that leaves before it is known has nobody waiting for it.
        let left = flow.up_ended && flow.tls.is_handshaking();
        let over = left || flow.down_ended && !flow.tls.wants_write();
        Ok(if over { Motion::Over } else { Motion::Goes })
    }
}

/// Whether all records are with the socket now.
fn flush(tls: &mut ServerConnection, client: &mut TcpStream) -> io::Result<bool> {
    while tls.wants_write() {
        match tls.write_tls(client) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            written => written?,
        };
    }
    Ok(true)
}
