//! Certificates that tidegate makes itself, which no client trusts.

use std::sync::Arc;

use rcgen::{CertificateParams, CustomExtension, Error as GenerateError, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::sign::CertifiedKey;

/// A certificate for these names, used until the first one is issued.
///
/// # Errors
/// A name cannot be in a certificate, or there is no randomness.
pub fn self_signed(names: &[String]) -> Result<CertifiedKey, String> {
    make(CertificateParams::new(names)).map_err(|error| error.to_string())
}

/// The certificate that proves control of a name (RFC 8737 3). `digest` is that of the key authorization.
///
/// # Errors
/// The name cannot be in a certificate, or there is no randomness.
pub fn validation(name: &str, digest: &[u8]) -> Result<CertifiedKey, String> {
    let params = CertificateParams::new([name.to_owned()]).map(|mut params| {
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        params
    });
    make(params).map_err(|error| error.to_string())
}

fn make(params: Result<CertificateParams, GenerateError>) -> Result<CertifiedKey, GenerateError> {
    let key = KeyPair::generate()?;
    let certificate = params?.self_signed(&key)?;
    let der = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let key = aws_lc_rs::sign::any_supported_type(&der);
    let key = key.map_err(|_| GenerateError::UnsupportedSignatureAlgorithm)?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], Arc::clone(&key)))
}
