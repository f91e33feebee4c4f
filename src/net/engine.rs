//! TLS without IO: a server's connection over rustls' `unbuffered` API, which owns no buffers.
//!
//! Everything that API asks of its caller is done here: what it wants sent is fetched, also after
//! an error; what it has read is told; and it is never shown less than the rest it still counts
//! on. With rustls 0.24, which has another API for this, only this file changes.

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

/// TLS as a function of bytes. The caller keeps what [`open`](Self::open) did not use.
pub trait Engine: Unpin {
    /// Takes whole records off the front of `wire`. Plaintext goes to `plain`, which is at least
    /// as long; answers are appended to `answers` and must be sent even where this fails. What
    /// is not used must come back unaltered in front of what arrives next.
    fn open(
        &mut self,
        wire: &mut [u8],
        plain: &mut [u8],
        answers: &mut WriteBuffer,
    ) -> DecryptOutcome;

    /// Appends `data` to `out` as records. `rest` is what the last `open` left.
    ///
    /// # Errors
    /// Nothing can be sent: before the handshake is done, after a failure or a farewell, or with
    /// keys that are used up. What was appended must be sent even so.
    fn seal(&mut self, rest: &mut [u8], data: &[u8], out: &mut WriteBuffer)
    -> Result<(), TlsError>;

    /// Appends `close_notify` to `out`, unless an alert has been the last word already.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    fn close(&mut self, rest: &mut [u8], out: &mut WriteBuffer) -> Result<(), TlsError>;

    /// Whether data cannot pass yet in both directions.
    fn is_handshaking(&self) -> bool;

    /// Whether what is answered to the end of the handshake may wait for data to go with: tickets
    /// of TLS 1.3 (RFC 8446 4.6.1), but not the Finished of TLS 1.2.
    fn tickets_may_wait(&self) -> bool;
}

/// What [`Engine::open`] did.
#[derive(Debug, Default)]
pub struct DecryptOutcome {
    /// Bytes taken off the front of `wire`.
    pub used: usize,
    /// Bytes written to `plain`; they count even beside a fault.
    pub plain: usize,
    /// The peer has sent `close_notify`.
    pub closed: bool,
    /// What the peer did wrong, or that it sent a fatal alert; nothing more can be opened.
    pub fault: Option<TlsError>,
}

/// What a [`ServerEngine`] is made from.
#[derive(Clone, Debug)]
pub struct EngineConfig(Arc<ServerConfig>);

impl EngineConfig {
    /// Takes rustls' configuration.
    pub fn new(mut config: ServerConfig) -> Self {
        config.cert_resolver = Arc::new(SniRecorder(config.cert_resolver));
        Self(Arc::new(config))
    }

    /// The same for rustls' own connections.
    pub fn rustls(&self) -> Arc<ServerConfig> {
        self.0.clone()
    }
}

/// The server's side of one connection.
pub struct ServerEngine {
    connection: UnbufferedServerConnection,
    /// The name that the client asked for; boxed twice, as it is gone when the tunnel comes.
    name: Option<Box<RequestedName>>,
    /// Nothing can be opened or sealed any more.
    failed: bool,
    closed: bool,
    farewell_said: bool,
}

/// A server name as it was written.
struct RequestedName(Box<str>);

impl ServerEngine {
    /// A connection of which nothing has been read.
    ///
    /// # Errors
    /// The configuration is not one that rustls can work with.
    pub fn new(config: &EngineConfig) -> Result<Self, TlsError> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(config.0.clone())?,
            name: None,
            failed: false,
            closed: false,
            farewell_said: false,
        })
    }

    /// What was common_state.
    pub fn common_state(&self) -> &rustls::CommonState {
        &self.connection
    }

    /// The name that the client asked for (RFC 6066 3), as it was written; only once.
    pub fn take_server_name(&mut self) -> Option<Box<str>> {
        self.name.take().map(|asked| asked.0)
    }

    /// One step of [`open`](Engine::open). True if there may be another.
    fn step(
        &mut self,
        wire: &mut [u8],
        plain: &mut [u8],
        answers: &mut WriteBuffer,
        opened: &mut DecryptOutcome,
    ) -> Result<bool, TlsError> {
        let status = self.connection.process_tls_records(wire);
        // What led to an error is of no use either.
        opened.used += status.discard;
        match status.state? {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    opened.used += record.discard;
                    let end = opened.plain + record.payload.len();
                    let room = plain.get_mut(opened.plain..end).ok_or_else(unforeseen)?;
                    room.copy_from_slice(record.payload);
                    opened.plain = end;
                }
                Ok(true)
            }
            ConnectionState::EncodeTlsData(data) => encode(data, answers).map(|()| true),
            ConnectionState::TransmitTlsData(sent) => {
                sent.done();
                Ok(true)
            }
            ConnectionState::PeerClosed => {
                self.closed = true;
                Ok(true)
            }
            ConnectionState::BlockedHandshake
            | ConnectionState::WriteTraffic(_)
            | ConnectionState::Closed => Ok(false),
            // RFC 8446 8: may be replayed. It is never offered, so none is accepted.
            ConnectionState::ReadEarlyData(_) | _ => Err(unforeseen()),
        }
    }

    /// Lets `write` append to `out` once data may be sent.
    fn write(
        &mut self,
        rest: &mut [u8],
        out: &mut WriteBuffer,
        write: impl FnOnce(&mut EncodeState<'_>, &mut WriteBuffer) -> Result<(), TlsError>,
    ) -> Result<(), TlsError> {
        if self.failed || self.farewell_said {
            return Err(NO_MORE);
        }
        loop {
            // Never with less than the rest: rustls keeps offsets into the part of a handshake
            // message that lies there.
            match self.connection.process_tls_records(rest).state? {
                ConnectionState::WriteTraffic(mut traffic) => return write(&mut traffic, out),
                ConnectionState::EncodeTlsData(data) => encode(data, out)?,
                ConnectionState::TransmitTlsData(sent) => sent.done(),
                ConnectionState::PeerClosed => self.closed = true,
                ConnectionState::BlockedHandshake | ConnectionState::Closed => return Err(NO_MORE),
                // `open` goes on until there are none of these.
                ConnectionState::ReadTraffic(_) | ConnectionState::ReadEarlyData(_) | _ => {
                    return Err(unforeseen());
                }
            }
        }
    }

    /// Fetches what rustls has to say about a failure.
    fn fail(&mut self, out: &mut WriteBuffer) {
        self.failed = true;
        // Only while there is something, as it would go on to read otherwise.
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
    fn open(
        &mut self,
        wire: &mut [u8],
        plain: &mut [u8],
        answers: &mut WriteBuffer,
    ) -> DecryptOutcome {
        let mut opened = DecryptOutcome::default();
        if self.failed {
            return DecryptOutcome { used: wire.len(), fault: Some(NO_MORE), ..opened };
        }
        let was_handshaking = self.is_handshaking();
        NAME.take();
        while let Some(unread) = wire.get_mut(opened.used..) {
            match self.step(unread, plain, answers, &mut opened) {
                Ok(true) => {}
                Ok(false) => break,
                Err(fault) => {
                    self.fail(answers);
                    opened.fault = Some(fault);
                    break;
                }
            }
        }
        if was_handshaking && let Some(name) = NAME.take() {
            self.name = Some(Box::new(RequestedName(name)));
        }
        opened.closed = self.closed;
        if self.closed || self.failed {
            // RFC 8446 6.1: what comes after close_notify is ignored.
            opened.used = wire.len();
        }
        opened
    }

    fn seal(
        &mut self,
        rest: &mut [u8],
        data: &[u8],
        out: &mut WriteBuffer,
    ) -> Result<(), TlsError> {
        // A guess; rustls says if it was not enough.
        let least = data.len() + (data.len() / RECORD_BYTES + 1) * SEALING_BYTES;
        let sealed = self.write(rest, out, |traffic, out| {
            append(out, least, |room| traffic.encrypt(data, room))
        });
        if sealed.is_err() && !self.failed && !self.farewell_said {
            self.fail(out);
        }
        sealed
    }

    fn close(&mut self, rest: &mut [u8], out: &mut WriteBuffer) -> Result<(), TlsError> {
        if self.failed || self.farewell_said {
            return Ok(());
        }
        let closed = self.write(rest, out, |traffic, out| {
            append(out, SEALING_BYTES, |room| traffic.queue_close_notify(room))
        });
        self.farewell_said = true;
        closed
    }

    fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    fn tickets_may_wait(&self) -> bool {
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
    append(out, SEALING_BYTES, |room| match data.encode(room) {
        Ok(len) => Ok(len),
        Err(EncodeError::InsufficientSize(size)) => Err(EncryptError::InsufficientSize(size)),
        Err(EncodeError::AlreadyEncoded) => Ok(0),
    })
}

/// Appends what `write` writes, with `least` bytes of room at first and with what it asks for
/// then.
fn append(
    out: &mut WriteBuffer,
    least: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), TlsError> {
    let mut least = least;
    for _ in 0..2 {
        match write(out.room(least)) {
            Ok(len) => {
                out.advance(len);
                return Ok(());
            }
            Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => {
                least = required_size;
            }
            Err(EncryptError::EncryptExhausted) => return Err(TlsError::EncryptError),
        }
    }
    Err(unforeseen())
}

/// What the API of rustls allows, and what cannot come up the way it is used here.
fn unforeseen() -> TlsError {
    TlsError::General("an unforeseen state of the TLS connection".to_owned())
}

/// Notes the name that a client asks for: rustls' unbuffered connections do not tell it. A resolver
/// is called on the thread that reads the hello, while it does.
#[derive(Debug)]
struct SniRecorder(Arc<dyn ResolvesServerCert>);

impl ResolvesServerCert for SniRecorder {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        NAME.set(hello.server_name().map(Into::into));
        self.0.resolve(hello)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.0.only_raw_public_keys()
    }
}

// Of the hello that this thread is reading.
thread_local! {
    static NAME: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// RFC 8446 5.1
const RECORD_BYTES: usize = 16 * 1024;

/// At most, around each record: header, explicit nonce (TLS 1.2), inner type, tag.
const SEALING_BYTES: usize = 48;

/// Before the handshake is done, or after the last word.
const NO_MORE: TlsError = TlsError::HandshakeNotComplete;

#[cfg(test)]
mod tests;
