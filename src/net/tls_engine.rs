//! TLS without I/O: one side of a connection over rustls' `unbuffered` API, which owns no buffers.
//!
//! This module fulfils the duties of that API: pending records are always encoded, also after an error,
//! consumed bytes are discarded, and rustls is never given less than the unprocessed input it still
//! refers to. rustls 0.24 has a different API for this; only this module has to change then.

use std::fmt;
use std::sync::Arc;

use rustls::client::{ClientConfig, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::server::{ServerConfig, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, WriteTraffic};
use rustls::{CommonState, Error as TlsError, ProtocolVersion};

use self::encode::{RECORD_OVERHEAD_BYTES, append, encode, unexpected_state};
use self::server_name::{RequestedName, SniRecorder, with_name};
use self::side::RustlsConnection;
use super::scratch::WriteBuffer;
use super::tls_records::{CompleteRecords, DecryptBudget};

/// TLS as a function of bytes. The caller keeps the input that [`decrypt`](Self::decrypt) did not
/// consume.
pub trait Engine: Unpin {
    /// Consumes complete records from the front of `ciphertext`, as many as `budget` and `plain`
    /// allow. Plaintext is written to `plain`, which must be longer than a record. Records of the TLS
    /// layer itself are appended to `replies` and must be sent even if the outcome is an error. The
    /// next call must start with the input that was not consumed, unaltered.
    fn decrypt(
        &mut self,
        ciphertext: &mut [u8],
        plain: &mut [u8],
        replies: &mut WriteBuffer,
        budget: &mut DecryptBudget,
    ) -> DecryptOutcome;

    /// Appends `data` to `out` as records. `rest` is the input that the last `decrypt` left.
    ///
    /// # Errors
    /// Nothing can be sent: the handshake is not complete, the connection has failed or was closed,
    /// or the keys are exhausted. Records that were appended must be sent anyway.
    fn encrypt(
        &mut self,
        rest: &mut [u8],
        data: &[u8],
        out: &mut WriteBuffer,
    ) -> Result<(), TlsError>;

    /// Appends `close_notify` to `out` (RFC 8446 6.1); does nothing after an alert or a second time.
    ///
    /// # Errors
    /// As [`encrypt`](Self::encrypt).
    fn close(&mut self, rest: &mut [u8], out: &mut WriteBuffer) -> Result<(), TlsError>;

    /// Whether the handshake is incomplete, so that data cannot pass in both directions.
    fn is_handshaking(&self) -> bool;

    /// Maximum length of an incomplete handshake message, in records; less than a read buffer.
    fn handshake_bytes_max(&self) -> usize;

    /// Whether the replies to the last handshake message may be delayed until there is data to send
    /// with them: true for the tickets of a server and the Finished of a client in TLS 1.3 (RFC 8446 4.6.1
    /// and 4.4.4), false for the Finished of TLS 1.2.
    fn may_delay_tickets(&self) -> bool;
}

/// The result of [`Engine::decrypt`].
#[derive(Debug, Default)]
pub struct DecryptOutcome {
    /// Bytes consumed from the front of `ciphertext`.
    pub consumed: usize,
    /// Bytes written to `plain`; they are valid even if there is an error.
    pub plain: usize,
    /// Complete records that were not decrypted are left.
    pub more: bool,
    /// Records after the handshake that carried no data.
    pub without_data: usize,
    /// Whether the peer has sent `close_notify`.
    pub closed: bool,
    /// A protocol error or fatal alert of the peer; nothing more can be decrypted.
    pub error: Option<TlsError>,
}

/// The configuration that all [`ServerEngine`]s of a listener share.
#[derive(Clone, Debug)]
pub struct EngineConfig(Arc<ServerConfig>);

impl EngineConfig {
    /// Wraps a configuration of rustls.
    pub fn new(mut config: ServerConfig) -> Self {
        config.cert_resolver = Arc::new(SniRecorder::new(config.cert_resolver));
        Self(Arc::new(config))
    }

    /// The configuration for rustls' own connections.
    pub fn rustls(&self) -> Arc<ServerConfig> {
        self.0.clone()
    }
}

/// The server side of a TLS connection.
pub type ServerEngine = TlsEngine<UnbufferedServerConnection>;

/// The client side of a TLS connection. Its first records are the replies to an empty input.
pub type ClientEngine = TlsEngine<UnbufferedClientConnection>;

/// One side of a TLS connection.
///
/// | state | event | next |
/// | --- | --- | --- |
/// | handshaking | handshake complete | open |
/// | handshaking | protocol error or alert | failed |
/// | open | `close_notify` received | peer closed: still encrypts |
/// | open | `close` called | closed: still decrypts |
/// | peer closed | `close` called | closed in both directions |
/// | closed | `close_notify` received | closed in both directions |
/// | open, peer closed, closed | protocol error or alert | failed: input is discarded, nothing is encrypted |
pub struct TlsEngine<C> {
    connection: C,
    /// The server name that a client requested; boxed twice so that an open tunnel, which has none, stays
    /// small.
    server_name: Option<Box<RequestedName>>,
    /// Bytes at the front of the unconsumed input, in complete records, that rustls has processed. It
    /// keeps offsets into an incomplete handshake message there. 32 bits, so that it takes no space.
    processed: u32,
    failed: bool,
    peer_closed: bool,
    close_notify_sent: bool,
}

impl ServerEngine {
    /// A connection before its first byte.
    ///
    /// # Errors
    /// rustls rejects the configuration.
    pub fn new(config: &EngineConfig) -> Result<Self, TlsError> {
        Ok(Self::with(UnbufferedServerConnection::new(config.0.clone())?))
    }

    /// Takes the server name that the client requested (RFC 6066 3), as written; `None` afterwards.
    pub fn take_server_name(&mut self) -> Option<Box<str>> {
        self.server_name.take().map(|requested| requested.0)
    }
}

impl ClientEngine {
    /// A connection before its first byte. `name` is the requested server name, and an IP address for none.
    ///
    /// # Errors
    /// rustls rejects the configuration.
    pub fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, TlsError> {
        Ok(Self::with(UnbufferedClientConnection::new(config, name)?))
    }
}

impl<C: RustlsConnection> TlsEngine<C> {
    fn with(connection: C) -> Self {
        Self {
            connection,
            server_name: None,
            processed: 0,
            failed: false,
            peer_closed: false,
            close_notify_sent: false,
        }
    }

    /// rustls' view of the connection: negotiated version, cipher suite and so on.
    pub fn common_state(&self) -> &CommonState {
        self.connection.common_state()
    }

    /// Decrypts the next records of `unread`, as many as the budget allows if none carries data.
    /// Returns whether there may be more to do within the budget.
    fn decrypt_some(
        &mut self,
        unread: &mut [u8],
        plain: &mut [u8],
        replies: &mut WriteBuffer,
        budget: &mut DecryptBudget,
        outcome: &mut DecryptOutcome,
    ) -> Result<bool, TlsError> {
        let space = plain.len().saturating_sub(outcome.plain);
        let processed = self.processed as usize;
        let new = unread.get(processed..).unwrap_or_default();
        let next = CompleteRecords::of(new, budget.records(), space);
        let mut end = unread.len();
        if next.count > 0 && next.more {
            end = processed + next.len;
        } else if next.more && outcome.plain > 0 {
            outcome.more = true;
            return Ok(false);
        }
        // Otherwise also the incomplete record at the end, or one that is too long: rustls checks
        // their headers.
        let was_handshaking = self.is_handshaking();
        let (before, mut with_data) = (outcome.consumed, 0);
        while let Some(records) = unread.get_mut(outcome.consumed - before..end) {
            if !self.step(records, plain, replies, outcome, &mut with_data)? {
                break;
            }
        }
        let processed = (processed + next.len).saturating_sub(outcome.consumed - before);
        self.processed = u32::try_from(processed).map_err(|_| unexpected_state())?;
        let without_data = next.count.saturating_sub(with_data);
        budget.charge_records(with_data, without_data);
        if !was_handshaking {
            outcome.without_data += without_data;
        }
        outcome.more = next.more;
        Ok(next.count > 0 && next.more && !budget.is_spent() && !self.peer_closed)
    }

    /// One step of [`decrypt_some`](Self::decrypt_some). Returns whether there may be another.
    fn step(
        &mut self,
        ciphertext: &mut [u8],
        plain: &mut [u8],
        replies: &mut WriteBuffer,
        outcome: &mut DecryptOutcome,
        with_data: &mut usize,
    ) -> Result<bool, TlsError> {
        let status = self.connection.process(ciphertext);
        // Input that caused an error is consumed as well.
        outcome.consumed += status.discard;
        match status.state? {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    *with_data += 1;
                    outcome.consumed += record.discard;
                    let end = outcome.plain + record.payload.len();
                    let target = plain.get_mut(outcome.plain..end).ok_or_else(unexpected_state)?;
                    target.copy_from_slice(record.payload);
                    outcome.plain = end;
                }
                Ok(true)
            }
            ConnectionState::EncodeTlsData(data) => encode(data, replies).map(|()| true),
            ConnectionState::TransmitTlsData(sent) => {
                sent.done();
                Ok(true)
            }
            ConnectionState::PeerClosed => {
                self.peer_closed = true;
                Ok(true)
            }
            ConnectionState::BlockedHandshake
            | ConnectionState::WriteTraffic(_)
            | ConnectionState::Closed => Ok(false),
            // Early data may be replayed (RFC 8446 8); it is never offered, so it cannot be accepted.
            ConnectionState::ReadEarlyData(_) | _ => Err(unexpected_state()),
        }
    }

    /// Encodes pending records, then calls `write` to append data to `out`.
    fn write(
        &mut self,
        rest: &mut [u8],
        out: &mut WriteBuffer,
        write: impl FnOnce(&mut WriteTraffic<'_, C::Data>, &mut WriteBuffer) -> Result<(), TlsError>,
    ) -> Result<(), TlsError> {
        if self.failed || self.close_notify_sent {
            return Err(CANNOT_SEND);
        }
        // No less, because of an incomplete handshake message, and no more: rustls would decrypt it.
        let processed = rest.get_mut(..self.processed as usize).unwrap_or_default();
        loop {
            match self.connection.process(processed).state? {
                ConnectionState::WriteTraffic(mut traffic) => return write(&mut traffic, out),
                ConnectionState::EncodeTlsData(data) => encode(data, out)?,
                ConnectionState::TransmitTlsData(sent) => sent.done(),
                ConnectionState::PeerClosed => self.peer_closed = true,
                ConnectionState::BlockedHandshake | ConnectionState::Closed => {
                    return Err(CANNOT_SEND);
                }
                // `decrypt` has taken what was processed until none of these was left.
                ConnectionState::ReadTraffic(_) | ConnectionState::ReadEarlyData(_) | _ => {
                    return Err(unexpected_state());
                }
            }
        }
    }

    /// Marks the connection as failed and encodes the alert for the peer.
    fn fail(&mut self, out: &mut WriteBuffer) {
        self.failed = true;
        // Only while records are pending; otherwise rustls would continue to read.
        while self.common_state().wants_write() {
            let status = self.connection.process(&mut []);
            let Ok(ConnectionState::EncodeTlsData(data)) = status.state else { return };
            if encode(data, out).is_err() {
                return;
            }
        }
    }
}

impl<C: RustlsConnection> Engine for TlsEngine<C> {
    fn decrypt(
        &mut self,
        ciphertext: &mut [u8],
        plain: &mut [u8],
        replies: &mut WriteBuffer,
        budget: &mut DecryptBudget,
    ) -> DecryptOutcome {
        let mut outcome = DecryptOutcome::default();
        if self.failed {
            return DecryptOutcome {
                consumed: ciphertext.len(),
                error: Some(CANNOT_SEND),
                ..outcome
            };
        }
        let was_handshaking = self.is_handshaking();
        RequestedName::take();
        while let Some(unread) = ciphertext.get_mut(outcome.consumed..) {
            match self.decrypt_some(unread, plain, replies, budget, &mut outcome) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.fail(replies);
                    outcome.error = Some(with_name(error));
                    break;
                }
            }
        }
        if was_handshaking && let Some(name) = RequestedName::take() {
            self.server_name = Some(Box::new(name));
        }
        outcome.closed = self.peer_closed;
        if self.peer_closed || self.failed {
            // RFC 8446 6.1: data after close_notify is ignored.
            outcome.consumed = ciphertext.len();
            outcome.more = false;
            self.processed = 0;
        }
        outcome
    }

    fn encrypt(
        &mut self,
        rest: &mut [u8],
        data: &[u8],
        out: &mut WriteBuffer,
    ) -> Result<(), TlsError> {
        // An estimate; rustls reports the required size if it is too small.
        let min_len = data.len() + (data.len() / RECORD_BYTES + 1) * RECORD_OVERHEAD_BYTES;
        let encrypted = self.write(rest, out, |traffic, out| {
            append(out, min_len, |spare| traffic.encrypt(data, spare))
        });
        if encrypted.is_err() && !self.failed && !self.close_notify_sent {
            self.fail(out);
        }
        encrypted
    }

    fn close(&mut self, rest: &mut [u8], out: &mut WriteBuffer) -> Result<(), TlsError> {
        if self.failed || self.close_notify_sent {
            return Ok(());
        }
        let closed = self.write(rest, out, |traffic, out| {
            append(out, RECORD_OVERHEAD_BYTES, |spare| traffic.queue_close_notify(spare))
        });
        self.close_notify_sent = true;
        closed
    }

    fn is_handshaking(&self) -> bool {
        self.common_state().is_handshaking()
    }

    fn handshake_bytes_max(&self) -> usize {
        C::HANDSHAKE_BYTES_MAX
    }

    fn may_delay_tickets(&self) -> bool {
        self.common_state().protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }
}

impl<C> fmt::Debug for TlsEngine<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsEngine").field("failed", &self.failed).finish_non_exhaustive()
    }
}

/// Maximum plaintext of a record (RFC 8446 5.1).
const RECORD_BYTES: usize = 16 * 1024;

/// The handshake is not complete, or the connection has failed or was closed.
const CANNOT_SEND: TlsError = TlsError::HandshakeNotComplete;

mod encode;
pub mod server_name;
mod side;

#[cfg(test)]
mod tests;
