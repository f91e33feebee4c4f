//! The client side of TLS 1.3 with rustls' unbuffered connection: reads are decrypted in place, and
//! batches are encrypted in one call.

use std::collections::VecDeque;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
    UnbufferedClientConnection,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError};
use rustls::{
    ClientConfig, DigitallySignedStruct, HandshakeKind, NamedGroup, RootCertStore, SignatureScheme,
};

use crate::buffer::WriteBuffer;
use crate::cli::Group;
use crate::error::Error;

/// Overhead of a record in bytes, and the largest plaintext (RFC 8446 5.1, 5.2).
const RECORD_EXTRA: usize = 5 + 1 + 16;
const RECORD_BYTES_MAX: usize = 16 << 10;
const SESSIONS_MAX: usize = 1024;

/// One cipher suite and one group, so that every peer does the same work. If `verify` is false, the
/// signatures of the server are not checked.
pub fn config(
    ca: &Path,
    group: Group,
    verify: bool,
    tickets: Option<Arc<TicketStore>>,
) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    let place = || ca.display();
    let file = File::open(ca).map_err(|error| Error::from(error).context(place()))?;
    for certificate in rustls_pemfile::certs(&mut BufReader::new(file)) {
        roots.add(certificate.map_err(|error| Error::from(error).context(place()))?)?;
    }
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    provider.kx_groups = vec![match group {
        Group::X25519 => aws_lc_rs::kx_group::X25519,
        Group::X25519MlKem768 => aws_lc_rs::kx_group::X25519MLKEM768,
    }];
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    let builder = if verify {
        builder.with_root_certificates(roots)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified))
    };
    let mut config = builder.with_no_client_auth();
    // For `RecordWriter`; costs nothing.
    config.enable_secret_extraction = true;
    config.resumption = match tickets {
        Some(tickets) => Resumption::store(tickets),
        None => Resumption::disabled(),
    };
    Ok(Arc::new(config))
}

/// Accepts every server: checking its two signatures is a third of the client's work.
#[derive(Debug)]
struct Unverified;

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// Session tickets of the one server, each used once.
#[derive(Debug, Default)]
pub struct TicketStore {
    tickets: Mutex<VecDeque<Tls13ClientSessionValue>>,
    saving: AtomicBool,
}

impl TicketStore {
    /// While saving, tickets are collected but not used.
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

impl ClientSessionStore for TicketStore {
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

/// The result of [`Tls::process`].
pub struct Progress {
    pub used: usize,
    /// Whether the handshake is complete.
    pub open: bool,
    /// Whether the peer sent close_notify.
    pub closed: bool,
}

pub struct Tls(UnbufferedClientConnection);

impl Tls {
    pub fn new(config: &Arc<ClientConfig>, name: &ServerName<'static>) -> Result<Self, Error> {
        Ok(Self(UnbufferedClientConnection::new(config.clone(), name.clone())?))
    }

    pub fn kind(&self) -> Option<HandshakeKind> {
        self.0.handshake_kind()
    }

    /// The negotiated key exchange group.
    pub fn group(&self) -> Option<NamedGroup> {
        self.0.negotiated_key_exchange_group().map(|group| group.name())
    }

    /// The connection itself, after the handshake.
    pub fn into_inner(self) -> UnbufferedClientConnection {
        self.0
    }

    /// Processes received records in `wire`. Passes plaintext to `on_plaintext`, writes TLS
    /// messages to `out`.
    pub fn process(
        &mut self,
        wire: &mut [u8],
        out: &mut WriteBuffer,
        mut on_plaintext: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<Progress, Error> {
        let mut progress = Progress { used: 0, open: false, closed: false };
        loop {
            let status = self.0.process_tls_records(&mut wire[progress.used..]);
            let mut used = status.discard;
            let more = match status.state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        used += record.discard;
                        on_plaintext(record.payload)?;
                    }
                    true
                }
                ConnectionState::EncodeTlsData(data) => encode(data, out).map(|()| true)?,
                ConnectionState::TransmitTlsData(sent) => {
                    sent.done();
                    true
                }
                ConnectionState::PeerClosed => {
                    progress.closed = true;
                    true
                }
                ConnectionState::Closed => {
                    progress.closed = true;
                    false
                }
                ConnectionState::BlockedHandshake => false,
                ConnectionState::WriteTraffic(_) => {
                    progress.open = true;
                    false
                }
                ConnectionState::ReadEarlyData(_) | _ => return Err(unexpected_state()),
            };
            progress.used += used;
            if !more {
                return Ok(progress);
            }
        }
    }

    /// Encrypts `plain` and appends the records to `out`.
    pub fn encrypt(&mut self, plain: &[u8], out: &mut WriteBuffer) -> Result<(), Error> {
        let records = plain.len().div_ceil(RECORD_BYTES_MAX).max(1);
        let mut bytes = plain.len() + records * RECORD_EXTRA;
        loop {
            match self.0.process_tls_records(&mut []).state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    match traffic.encrypt(plain, out.reserve(bytes)) {
                        Ok(count) => {
                            out.commit(count);
                            return Ok(());
                        }
                        Err(EncryptError::InsufficientSize(needed)) => {
                            bytes = needed.required_size;
                        }
                        Err(error) => return Err(Error::new(format!("TLS: {error}"))),
                    }
                }
                ConnectionState::EncodeTlsData(data) => encode(data, out)?,
                ConnectionState::TransmitTlsData(sent) => sent.done(),
                ConnectionState::PeerClosed => {}
                ConnectionState::Closed | ConnectionState::BlockedHandshake => {
                    return Err(Error::new("TLS accepts no more data"));
                }
                ConnectionState::ReadTraffic(_) | ConnectionState::ReadEarlyData(_) | _ => {
                    return Err(unexpected_state());
                }
            }
        }
    }

    /// Appends the close_notify alert to `out`.
    pub fn close_notify(&mut self, out: &mut WriteBuffer) {
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) =
            self.0.process_tls_records(&mut []).state
            && let Ok(count) = traffic.queue_close_notify(out.reserve(RECORD_EXTRA + 2))
        {
            out.commit(count);
        }
    }
}

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, out: &mut WriteBuffer) -> Result<(), Error> {
    let needed = match data.encode(&mut []) {
        Ok(_) => return Ok(()),
        Err(EncodeError::InsufficientSize(needed)) => needed.required_size,
        Err(EncodeError::AlreadyEncoded) => return Err(unexpected_state()),
    };
    match data.encode(out.reserve(needed)) {
        Ok(count) => {
            out.commit(count);
            Ok(())
        }
        Err(error) => Err(Error::new(format!("TLS: {error}"))),
    }
}

fn unexpected_state() -> Error {
    Error::new("TLS: unexpected state")
}
