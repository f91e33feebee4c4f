//! The demo's certificate: made at start, signed by itself, forgotten at the end.

use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair};

use crate::config::settings::{CertificateSettings, CertificateSource};

/// A certificate for the names under which this machine reaches itself.
///
/// # Errors
/// The system gave no randomness for the key.
pub fn make() -> Result<CertificateSettings, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(NAMES.map(str::to_owned))?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "tidegate demo");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    #[expect(clippy::disallowed_methods, reason = "a certificate says from when until when")]
    let now = SystemTime::now();
    params.not_before = (now - SKEW).into();
    params.not_after = (now + LIFETIME).into();
    let chain = params.self_signed(&key)?.pem();
    let source = CertificateSource::Memory { chain, key: key.serialize_pem() };
    Ok(CertificateSettings { source, default: true })
}

const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// A browser's clock may be a little behind.
const SKEW: Duration = Duration::from_secs(60 * 60);

/// Longer than anybody leaves a demo running, short enough for every browser's rules.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

    #[test]
    fn it_holds_for_every_name_of_this_machine_and_for_no_other() {
        let CertificateSource::Memory { chain, key } = make().expect("randomness").source else {
            panic!("the demo reads no files");
        };
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
        .expect("it vouches for itself, today");
        for (name, fits) in
            [("localhost", true), ("127.0.0.1", true), ("::1", true), ("example.com", false)]
        {
            let server = ServerName::try_from(name).expect("a name");
            assert_eq!(leaf.verify_is_valid_for_subject_name(&server).is_ok(), fits, "{name}");
        }
    }
}
