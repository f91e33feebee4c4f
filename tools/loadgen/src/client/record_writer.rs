//! TLS 1.3 records of any content, also those that rustls never sends: empty ones, and key updates
//! without data between them.

use rustls::client::ClientConnectionData;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::crypto::cipher::{MessageEncrypter, OutboundPlainMessage};
use rustls::kernel::KernelConnection;
use rustls::{ConnectionTrafficSecrets, ContentType, ProtocolVersion};

use super::tls::Tls;
use crate::error::Error;

/// Handshake messages (RFC 8446 4.6.3), without and with a request for an update in the other direction.
const KEY_UPDATE: &[u8] = &[24, 0, 0, 1, 0];
const KEY_UPDATE_REQUEST: &[u8] = &[24, 0, 0, 1, 1];

/// The sending side of a connection after its handshake.
pub struct RecordWriter {
    connection: KernelConnection<ClientConnectionData>,
    encrypter: Box<dyn MessageEncrypter>,
    sequence: u64,
}

impl RecordWriter {
    pub fn new(tls: Tls) -> Result<Self, Error> {
        let (secrets, connection) = tls.into_inner().dangerous_into_kernel_connection()?;
        let (sequence, secrets) = secrets.tx;
        Ok(Self { connection, encrypter: encrypter(secrets)?, sequence })
    }

    /// Appends what must precede all other records. aws-lc requires that the numbers of a key's records
    /// start with 0, and those of the handshake's key do not.
    pub fn start(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.update(KEY_UPDATE, out)
    }

    /// Appends one record with application data, which may be empty.
    pub fn data(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        self.record(ContentType::ApplicationData, plain, out)
    }

    /// Appends a key update that asks for another one.
    pub fn key_update(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.update(KEY_UPDATE_REQUEST, out)
    }

    fn update(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        self.record(ContentType::Handshake, message, out)?;
        let (sequence, secrets) = self.connection.update_tx_secret()?;
        self.sequence = sequence;
        self.encrypter = encrypter(secrets)?;
        Ok(())
    }

    fn record(&mut self, typ: ContentType, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let message =
            OutboundPlainMessage { typ, version: ProtocolVersion::TLSv1_3, payload: plain.into() };
        let sealed = self.encrypter.encrypt(message, self.sequence)?;
        self.sequence += 1;
        out.extend_from_slice(&sealed.encode());
        Ok(())
    }
}

fn encrypter(secrets: ConnectionTrafficSecrets) -> Result<Box<dyn MessageEncrypter>, Error> {
    match (secrets, TLS13_AES_128_GCM_SHA256.tls13()) {
        (ConnectionTrafficSecrets::Aes128Gcm { key, iv }, Some(suite)) => {
            Ok(suite.aead_alg.encrypter(key, iv))
        }
        _ => Err(Error::new("TLS: not the cipher suite that was offered")),
    }
}
