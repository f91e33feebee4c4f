//! Why there is no TLS connection to a backend.

use std::fmt;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerMisbehaved};

/// The cause of a failed TLS handshake with a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendTlsFailure {
    /// The certificate has expired.
    Expired,
    /// The certificate is not valid yet.
    NotYetValid,
    /// The certificate is for other names.
    WrongName,
    /// No trusted issuer has signed the certificate.
    UnknownIssuer,
    /// The certificate cannot be used for another reason.
    CertificateInvalid,
    /// The backend does not speak TLS.
    NotTls,
    /// The handshake did not finish in time.
    Timeout,
    /// The backend closed the connection during the handshake.
    Closed,
    /// The backend requires a client certificate, or does not accept this one.
    ClientCertificate,
    /// The backend does not accept HTTP/1.1 as the protocol above TLS (ALPN).
    Alpn,
    /// There is no version or cipher suite that both sides support.
    Incompatible,
    /// Any other error.
    Other,
}

impl BackendTlsFailure {
    /// Every cause, in the order of its declaration.
    pub const ALL: [Self; 12] = [
        Self::Expired,
        Self::NotYetValid,
        Self::WrongName,
        Self::UnknownIssuer,
        Self::CertificateInvalid,
        Self::NotTls,
        Self::Timeout,
        Self::Closed,
        Self::ClientCertificate,
        Self::Alpn,
        Self::Incompatible,
        Self::Other,
    ];

    /// The cause of an error of rustls.
    #[expect(clippy::wildcard_enum_match_arm, reason = "rustls may add further ones")]
    pub fn of(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::NotTls,
            Error::AlertReceived(alert) => Self::of_alert(*alert),
            Error::NoApplicationProtocol
            | Error::PeerMisbehaved(PeerMisbehaved::SelectedUnofferedApplicationProtocol) => {
                Self::Alpn
            }
            Error::PeerIncompatible(_) => Self::Incompatible,
            _ => Self::Other,
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "rustls may add further ones")]
    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::WrongName
            }
            // A signature is wrong if another issuer has the same name, such as one that was made again.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownIssuer,
            // Its own issuer, as most self-signed certificates, and not a trusted one.
            CertificateError::Other(error)
                if error.0.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity) =>
            {
                Self::UnknownIssuer
            }
            _ => Self::CertificateInvalid,
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "rustls may add further ones")]
    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            // The signature of an issuer that has the name of another.
            | AlertDescription::DecryptError => Self::ClientCertificate,
            AlertDescription::NoApplicationProtocol => Self::Alpn,
            AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity => {
                Self::Incompatible
            }
            _ => Self::Other,
        }
    }

    /// The value in records and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "backend_tls_expired",
            Self::NotYetValid => "backend_tls_not_yet_valid",
            Self::WrongName => "backend_tls_wrong_name",
            Self::UnknownIssuer => "backend_tls_unknown_issuer",
            Self::CertificateInvalid => "backend_tls_certificate_invalid",
            Self::NotTls => "backend_tls_not_tls",
            Self::Timeout => "backend_tls_timeout",
            Self::Closed => "backend_tls_closed",
            Self::ClientCertificate => "backend_tls_client_certificate",
            Self::Alpn => "backend_tls_alpn",
            Self::Incompatible => "backend_tls_incompatible",
            Self::Other => "backend_tls_failed",
        }
    }

    /// The configuration key that decides about it.
    pub fn key(self) -> &'static str {
        match self {
            Self::WrongName => "pool.tls.verify_name",
            Self::UnknownIssuer => "pool.tls.ca",
            Self::ClientCertificate => "pool.tls.certificate",
            Self::Timeout => "timeouts.connect",
            Self::Expired
            | Self::NotYetValid
            | Self::CertificateInvalid
            | Self::NotTls
            | Self::Closed
            | Self::Alpn
            | Self::Incompatible
            | Self::Other => "pool.tls",
        }
    }
}

/// The message for the operator.
impl fmt::Display for BackendTlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "TLS to the backend: its certificate has expired",
            Self::NotYetValid => {
                "TLS to the backend: its certificate is not valid yet; check the clocks of both machines"
            }
            Self::WrongName => {
                "TLS to the backend: its certificate is for other names; pool.tls.verify_name sets the name \
                 to expect"
            }
            Self::UnknownIssuer => {
                "TLS to the backend: no trusted issuer has signed its certificate; pool.tls.ca names the \
                 file with its issuer"
            }
            Self::CertificateInvalid => "TLS to the backend: its certificate is invalid",
            Self::NotTls => "TLS to the backend: it does not speak TLS on this port",
            Self::Timeout => "TLS to the backend: timeout waiting for its handshake",
            Self::Closed => {
                "TLS to the backend: it closed the connection during the handshake; does it speak TLS on \
                 this port?"
            }
            Self::ClientCertificate => {
                "TLS to the backend: it requires a client certificate that it accepts; see \
                 pool.tls.certificate"
            }
            Self::Alpn => "TLS to the backend: it does not accept HTTP/1.1 (ALPN)",
            Self::Incompatible => {
                "TLS to the backend: no common version or cipher suite; tidegate supports TLS 1.2 and 1.3"
            }
            Self::Other => "TLS to the backend: the handshake failed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_its_place() {
        for (index, cause) in BackendTlsFailure::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, index, "{cause:?}");
        }
    }
}
