//! Encrypts TLS records that rustls itself never sends, with the keys of a rustls client.

use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::{
    ClientConnection, ConnectionTrafficSecrets, ContentType, ProtocolVersion, SupportedCipherSuite,
};

/// Sends arbitrary records on the connection of a TLS 1.3 client.
pub struct Forger {
    encrypter: Box<dyn MessageEncrypter>,
    sequence: u64,
}

impl Forger {
    /// Extracts the client's keys, which its configuration must allow (`enable_secret_extraction`).
    pub fn new(client: ClientConnection) -> Self {
        let Some(SupportedCipherSuite::Tls13(suite)) = client.negotiated_cipher_suite() else {
            panic!("not TLS 1.3");
        };
        let (sequence, secrets) = client.dangerous_extract_secrets().unwrap().tx;
        let (key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv }
            | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
            | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (key, iv),
            _ => panic!("unknown cipher suite"),
        };
        Self { encrypter: suite.aead_alg.encrypter(key, iv), sequence }
    }

    /// Encrypts one record of any content type and returns its encoding.
    pub fn record(&mut self, typ: ContentType, payload: &[u8]) -> Vec<u8> {
        let version = ProtocolVersion::TLSv1_2;
        let message =
            OutboundPlainMessage { typ, version, payload: OutboundChunks::Single(payload) };
        let encrypted = self.encrypter.encrypt(message, self.sequence).unwrap();
        self.sequence += 1;
        encrypted.encode()
    }

    /// Encrypts one record of application data and returns its encoding.
    pub fn data(&mut self, payload: &[u8]) -> Vec<u8> {
        self.record(ContentType::ApplicationData, payload)
    }
}
