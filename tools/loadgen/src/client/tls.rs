//! TLS 1.3 on the load's side, by rustls' unbuffered connection: whole reads are decrypted where
//! they are, whole batches are encrypted at once.

use std::collections::VecDeque;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
    UnbufferedClientConnection,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError};
use rustls::{ClientConfig, HandshakeKind, NamedGroup, RootCertStore};

use crate::buffer::Outgoing;
use crate::fail::Fail;

/// What a record has besides its plaintext, and the longest plaintext.
const RECORD_EXTRA: usize = 5 + 1 + 16;
const RECORD_BYTES_MAX: usize = 16 << 10;
const SESSIONS_MAX: usize = 1024;

/// One suite and one group for all, so that every peer does the same work.
pub fn config(ca: &Path, sessions: Option<Arc<Sessions>>) -> Result<Arc<ClientConfig>, Fail> {
    let mut roots = RootCertStore::empty();
    let place = || ca.display();
    let file = File::open(ca).map_err(|error| Fail::from(error).at(place()))?;
    for certificate in rustls_pemfile::certs(&mut BufReader::new(file)) {
        roots.add(certificate.map_err(|error| Fail::from(error).at(place()))?)?;
    }
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = match sessions {
        Some(sessions) => Resumption::store(sessions),
        None => Resumption::disabled(),
    };
    Ok(Arc::new(config))
}

/// Tickets of the one server there is, each used once.
#[derive(Debug, Default)]
pub struct Sessions {
    tickets: Mutex<VecDeque<Tls13ClientSessionValue>>,
    saving: AtomicBool,
}

impl Sessions {
    /// While saving, tickets are collected and none is used.
    pub fn save(&self, saving: bool) {
        self.saving.store(saving, Ordering::Relaxed);
    }

    pub fn count(&self) -> usize {
        self.tickets().len()
    }

    fn tickets(&self) -> MutexGuard<'_, VecDeque<Tls13ClientSessionValue>> {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        let mut tickets = self.tickets();
        if tickets.len() == SESSIONS_MAX {
            tickets.pop_front();
        }
        tickets.push_back(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        if self.saving.load(Ordering::Relaxed) { None } else { self.tickets().pop_back() }
    }
}

/// What became of the bytes handed in.
pub struct Turn {
    pub used: usize,
    /// The handshake is done.
    pub open: bool,
    /// The peer said that no more will come.
    pub closed: bool,
}

pub struct Tls(UnbufferedClientConnection);

impl Tls {
    pub fn new(config: &Arc<ClientConfig>, name: &ServerName<'static>) -> Result<Self, Fail> {
        Ok(Self(UnbufferedClientConnection::new(config.clone(), name.clone())?))
    }

    pub fn kind(&self) -> Option<HandshakeKind> {
        self.0.handshake_kind()
    }

    /// Hands plaintext to `each`; what TLS itself has to say goes to `out`.
    pub fn take(
        &mut self,
        wire: &mut [u8],
        out: &mut Outgoing,
        mut each: impl FnMut(&[u8]) -> Result<(), Fail>,
    ) -> Result<Turn, Fail> {
        let mut turn = Turn { used: 0, open: false, closed: false };
        loop {
            let status = self.0.process_tls_records(&mut wire[turn.used..]);
            let mut used = status.discard;
            let more = match status.state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        used += record.discard;
                        each(record.payload)?;
                    }
                    true
                }
                ConnectionState::EncodeTlsData(data) => encode(data, out).map(|()| true)?,
                ConnectionState::TransmitTlsData(sent) => {
                    sent.done();
                    true
                }
                ConnectionState::PeerClosed => {
                    turn.closed = true;
                    true
                }
                ConnectionState::Closed => {
                    turn.closed = true;
                    false
                }
                ConnectionState::BlockedHandshake => false,
                ConnectionState::WriteTraffic(_) => {
                    turn.open = true;
                    false
                }
                ConnectionState::ReadEarlyData(_) | _ => return Err(unforeseen()),
            };
            turn.used += used;
            if !more {
                return Ok(turn);
            }
        }
    }

    /// Encrypts all of `plain`, behind what `out` already holds.
    pub fn seal(&mut self, plain: &[u8], out: &mut Outgoing) -> Result<(), Fail> {
        let records = plain.len().div_ceil(RECORD_BYTES_MAX).max(1);
        let mut bytes = plain.len() + records * RECORD_EXTRA;
        loop {
            match self.0.process_tls_records(&mut []).state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    match traffic.encrypt(plain, out.room(bytes)) {
                        Ok(count) => {
                            out.filled(count);
                            return Ok(());
                        }
                        Err(EncryptError::InsufficientSize(needed)) => {
                            bytes = needed.required_size;
                        }
                        Err(error) => return Err(Fail::new(format!("TLS: {error}"))),
                    }
                }
                ConnectionState::EncodeTlsData(data) => encode(data, out)?,
                ConnectionState::TransmitTlsData(sent) => sent.done(),
                ConnectionState::PeerClosed => {}
                ConnectionState::Closed | ConnectionState::BlockedHandshake => {
                    return Err(Fail::new("TLS takes no more data"));
                }
                ConnectionState::ReadTraffic(_) | ConnectionState::ReadEarlyData(_) | _ => {
                    return Err(unforeseen());
                }
            }
        }
    }

    /// The alert that ends the stream.
    pub fn goodbye(&mut self, out: &mut Outgoing) {
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) =
            self.0.process_tls_records(&mut []).state
            && let Ok(count) = traffic.queue_close_notify(out.room(RECORD_EXTRA + 2))
        {
            out.filled(count);
        }
    }
}

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, out: &mut Outgoing) -> Result<(), Fail> {
    let needed = match data.encode(&mut []) {
        Ok(_) => return Ok(()),
        Err(EncodeError::InsufficientSize(needed)) => needed.required_size,
        Err(EncodeError::AlreadyEncoded) => return Err(unforeseen()),
    };
    match data.encode(out.room(needed)) {
        Ok(count) => {
            out.filled(count);
            Ok(())
        }
        Err(error) => Err(Fail::new(format!("TLS: {error}"))),
    }
}

fn unforeseen() -> Fail {
    Fail::new("TLS: a state that has no place here")
}
