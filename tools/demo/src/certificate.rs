//! The demo's certificate: generated at start, self-signed, never written to disk.

use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair};

/// A certificate and its private key, both as PEM text.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The self-signed certificate; there is no intermediate.
    pub chain: String,
    /// The private key in PKCS #8.
    pub key: String,
}

impl Certificate {
    /// Generates a certificate for the loopback names, valid for 30 days.
    ///
    /// # Errors
    /// Fails if the system provides no randomness for the key.
    pub fn generate() -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(NAMES.map(str::to_owned))?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "tidegate demo");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        #[expect(clippy::disallowed_methods, reason = "the validity period needs the current time")]
        let now = SystemTime::now();
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = (now + LIFETIME).into();
        let chain = params.self_signed(&key)?.pem();
        Ok(Self { chain, key: key.serialize_pem() })
    }
}

const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Tolerated lag of a browser's clock.
const CLOCK_SKEW: Duration = Duration::from_secs(60 * 60);

/// Longer than a demo runs, and short enough for the limits that browsers set.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

    #[test]
    fn is_valid_for_loopback_names_only() {
        let Certificate { chain, key } = Certificate::generate().expect("randomness");
        let chain = CertificateDer::from_pem_slice(chain.as_bytes()).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        rustls::sign::CertifiedKey::from_der(vec![chain.clone()], key, &provider).expect("a pair");

        let leaf = webpki::EndEntityCert::try_from(&chain).expect("an end entity");
        let anchor = [webpki::anchor_from_trusted_cert(&chain).expect("an anchor")];
        leaf.verify_for_usage(
            provider.signature_verification_algorithms.all,
            &anchor,
            &[],
            UnixTime::now(),
            webpki::KeyUsage::server_auth(),
            None,
            None,
        )
        .expect("valid today, as its own trust anchor");
        for (name, valid) in
            [("localhost", true), ("127.0.0.1", true), ("::1", true), ("example.com", false)]
        {
            let server = ServerName::try_from(name).expect("a name");
            assert_eq!(leaf.verify_is_valid_for_subject_name(&server).is_ok(), valid, "{name}");
        }
    }
}
