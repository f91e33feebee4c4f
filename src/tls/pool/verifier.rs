//! How the certificates of backends are verified.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error as TlsError, SignatureScheme};

use crate::tls::certs::chain;

/// Verifies the certificate of a backend, and that the backend has its key.
#[derive(Debug)]
pub(super) struct BackendVerifier {
    pub(super) provider: Arc<CryptoProvider>,
    /// `None` accepts any certificate.
    pub(super) trust: Option<Trust>,
}

/// Which certificates are accepted.
///
/// A certificate that is itself a trusted one needs no issuer. webpki rejects it if it is marked as that of an
/// issuer, as most self-signed certificates are (`openssl req -x509`).
#[derive(Debug)]
pub(super) struct Trust {
    pub(super) verifier: Arc<WebPkiServerVerifier>,
    /// The certificates of `ca`.
    pub(super) listed: Arc<[CertificateDer<'static>]>,
    /// The expected name; `None` for the requested one.
    pub(super) name: Option<ServerName<'static>>,
}

impl ServerCertVerifier for BackendVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        requested: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let Some(trust) = &self.trust else { return Ok(ServerCertVerified::assertion()) };
        let name = trust.name.as_ref().unwrap_or(requested);
        if trust.listed.iter().any(|listed| listed == end_entity) {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
            return check_validity(end_entity, now).map(|()| ServerCertVerified::assertion());
        }
        trust.verifier.verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn check_validity(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), TlsError> {
    let (from, until) = chain::validity(std::slice::from_ref(certificate))
        .ok_or(TlsError::InvalidCertificate(CertificateError::BadEncoding))?;
    let date = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    if now.as_secs() < from {
        let not_before = date(from);
        return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
    }
    if now.as_secs() > until {
        let not_after = date(until);
        return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
    }
    Ok(())
}
