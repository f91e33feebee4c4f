//! TLS without I/O: the server side of a connection over rustls' `unbuffered` API, which owns no
//! buffers.
//!
//! This file fulfils the duties of that API: pending records are always encoded, also after an error,
//! consumed bytes are discarded, and rustls is never given less than the unprocessed input it still
//! refers to. rustls 0.24 has a different API for this; only this file has to change then.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use rustls::server::{
    ClientHello, ResolvesServerCert, ServerConfig, ServerConnectionData, UnbufferedServerConnection,
};
use rustls::sign::CertifiedKey;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, WriteTraffic,
};
use rustls::{Error as TlsError, ProtocolVersion};

use super::scratch::WriteBuffer;

/// TLS as a function of bytes. The caller keeps the input that [`decrypt`](Self::decrypt) did not
/// consume.
pub trait Engine: Unpin {
    /// Consumes complete records from the front of `ciphertext`. Plaintext is written to `plain`, which
    /// must be at least as long. Records of the TLS layer itself are appended to `replies` and must
    /// be sent even if the outcome is an error. The next call must start with the input that was not
    /// consumed, unaltered.
    fn decrypt(
        &mut self,
        ciphertext: &mut [u8],
        plain: &mut [u8],
        replies: &mut WriteBuffer,
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

    /// Whether the replies to the last handshake message may be delayed until there is data to send
    /// with them: true for the tickets of TLS 1.3 (RFC 8446 4.6.1), false for the Finished of TLS 1.2.
    fn may_delay_tickets(&self) -> bool;
}

/// The result of [`Engine::decrypt`].
#[derive(Debug, Default)]
pub struct DecryptOutcome {
    /// Bytes consumed from the front of `ciphertext`.
    pub consumed: usize,
    /// Bytes written to `plain`; they are valid even if there is an error.
    pub plain: usize,
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
        config.cert_resolver = Arc::new(SniRecorder(config.cert_resolver));
        Self(Arc::new(config))
    }

    /// The configuration for rustls' own connections.
    pub fn rustls(&self) -> Arc<ServerConfig> {
        self.0.clone()
    }
}

/// The server side of one TLS connection.
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
pub struct ServerEngine {
    connection: UnbufferedServerConnection,
    /// The requested server name; boxed twice so that an open tunnel, which has none, stays small.
    server_name: Option<Box<RequestedName>>,
    failed: bool,
    peer_closed: bool,
    close_notify_sent: bool,
}

/// A server name as the client wrote it.
struct RequestedName(Box<str>);

impl ServerEngine {
    /// A connection before its first byte.
    ///
    /// # Errors
    /// rustls rejects the configuration.
    pub fn new(config: &EngineConfig) -> Result<Self, TlsError> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(config.0.clone())?,
            server_name: None,
            failed: false,
            peer_closed: false,
            close_notify_sent: false,
        })
    }

    /// rustls' view of the connection: negotiated version, cipher suite and so on.
    pub fn common_state(&self) -> &rustls::CommonState {
        &self.connection
    }

    /// Takes the server name that the client requested (RFC 6066 3), as written; `None` afterwards.
    pub fn take_server_name(&mut self) -> Option<Box<str>> {
        self.server_name.take().map(|requested| requested.0)
    }

    /// One step of [`decrypt`](Engine::decrypt). Returns whether there may be another.
    fn step(
        &mut self,
        ciphertext: &mut [u8],
        plain: &mut [u8],
        replies: &mut WriteBuffer,
        outcome: &mut DecryptOutcome,
    ) -> Result<bool, TlsError> {
        let status = self.connection.process_tls_records(ciphertext);
        // Input that caused an error is consumed as well.
        outcome.consumed += status.discard;
        match status.state? {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
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
        write: impl FnOnce(&mut EncodeState<'_>, &mut WriteBuffer) -> Result<(), TlsError>,
    ) -> Result<(), TlsError> {
        if self.failed || self.close_notify_sent {
            return Err(CANNOT_SEND);
        }
        loop {
            // Must include the unprocessed input: rustls keeps offsets into an incomplete handshake
            // message there.
            match self.connection.process_tls_records(rest).state? {
                ConnectionState::WriteTraffic(mut traffic) => return write(&mut traffic, out),
                ConnectionState::EncodeTlsData(data) => encode(data, out)?,
                ConnectionState::TransmitTlsData(sent) => sent.done(),
                ConnectionState::PeerClosed => self.peer_closed = true,
                ConnectionState::BlockedHandshake | ConnectionState::Closed => {
                    return Err(CANNOT_SEND);
                }
                // `decrypt` processes input until none of these is left.
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
        while self.connection.wants_write() {
            let status = self.connection.process_tls_records(&mut []);
            let Ok(ConnectionState::EncodeTlsData(data)) = status.state else { return };
            if encode(data, out).is_err() {
                return;
            }
        }
    }
}

impl Engine for ServerEngine {
    fn decrypt(
        &mut self,
        ciphertext: &mut [u8],
        plain: &mut [u8],
        replies: &mut WriteBuffer,
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
        SERVER_NAME.take();
        while let Some(unread) = ciphertext.get_mut(outcome.consumed..) {
            match self.step(unread, plain, replies, &mut outcome) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.fail(replies);
                    outcome.error = Some(error);
                    break;
                }
            }
        }
        if was_handshaking && let Some(name) = SERVER_NAME.take() {
            self.server_name = Some(Box::new(RequestedName(name)));
        }
        outcome.closed = self.peer_closed;
        if self.peer_closed || self.failed {
            // RFC 8446 6.1: data after close_notify is ignored.
            outcome.consumed = ciphertext.len();
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
        self.connection.is_handshaking()
    }

    fn may_delay_tickets(&self) -> bool {
        self.connection.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }
}

impl fmt::Debug for ServerEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerEngine").field("failed", &self.failed).finish_non_exhaustive()
    }
}

type EncodeState<'c> = WriteTraffic<'c, ServerConnectionData>;

fn encode(
    mut data: EncodeTlsData<'_, ServerConnectionData>,
    out: &mut WriteBuffer,
) -> Result<(), TlsError> {
    append(out, RECORD_OVERHEAD_BYTES, |spare| match data.encode(spare) {
        Ok(len) => Ok(len),
        Err(EncodeError::InsufficientSize(size)) => Err(EncryptError::InsufficientSize(size)),
        Err(EncodeError::AlreadyEncoded) => Ok(0),
    })
}

/// Appends the output of `write`, first with `min_len` bytes of space, then with the size it requires.
fn append(
    out: &mut WriteBuffer,
    min_len: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), TlsError> {
    let mut min_len = min_len;
    for _ in 0..2 {
        match write(out.spare(min_len)) {
            Ok(len) => {
                out.advance(len);
                return Ok(());
            }
            Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => {
                min_len = required_size;
            }
            Err(EncryptError::EncryptExhausted) => return Err(TlsError::EncryptError),
        }
    }
    Err(unexpected_state())
}

/// For states that the API of rustls allows, but that cannot occur as it is used here.
fn unexpected_state() -> TlsError {
    TlsError::General("unexpected state of the TLS connection".to_owned())
}

/// Records the server name that a client requests, because rustls' unbuffered connections do not
/// expose it. rustls calls a resolver on the thread that processes the ClientHello.
#[derive(Debug)]
struct SniRecorder(Arc<dyn ResolvesServerCert>);

impl ResolvesServerCert for SniRecorder {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        SERVER_NAME.set(hello.server_name().map(Into::into));
        self.0.resolve(hello)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.0.only_raw_public_keys()
    }
}

// The name in the ClientHello that this thread is processing.
thread_local! {
    static SERVER_NAME: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// Maximum plaintext of a record (RFC 8446 5.1).
const RECORD_BYTES: usize = 16 * 1024;

/// Upper bound for the overhead of a record: header, explicit nonce (TLS 1.2), inner type, tag.
const RECORD_OVERHEAD_BYTES: usize = 48;

/// The handshake is not complete, or the connection has failed or was closed.
const CANNOT_SEND: TlsError = TlsError::HandshakeNotComplete;

#[cfg(test)]
mod tests;
