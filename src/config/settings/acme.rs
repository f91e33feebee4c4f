//! Certificates that tidegate gets from a certificate authority by itself (ACME, RFC 8555).

use std::path::PathBuf;

/// `[acme]`: the authority, the account, and how names are proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeSettings {
    /// Where the authority can reach the operator.
    pub email: Option<String>,
    /// URL of the directory (RFC 8555 7.1.1); always `https`.
    pub directory: String,
    /// A PEM file with the issuers that the directory's own certificate must be signed by; `None` for those
    /// of the system.
    pub ca: Option<PathBuf>,
    /// The profile that is requested; `None` for the authority's default.
    pub profile: Option<String>,
    /// The account at the authority that the ACME account is bound to.
    pub external_account: Option<ExternalAccount>,
    /// The folder with the account, the certificates and their state.
    pub state_directory: PathBuf,
    /// What clients get for a name whose first certificate has not been issued.
    pub until_issued: UntilIssued,
    /// How control of a name is proved.
    pub challenge: ChallengeKind,
    /// The program that sets and removes DNS records; present for [`ChallengeKind::Dns01`].
    pub dns_hook: Option<PathBuf>,
}

impl AcmeSettings {
    /// The folder with a folder for each certificate.
    pub fn folder(&self) -> PathBuf {
        self.state_directory.join("acme/certificates")
    }
}

/// An external account binding (RFC 8555 7.3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAccount {
    /// The identifier that the authority gave.
    pub key_id: String,
    /// The file with the MAC key in base64url, as the authority gave it.
    pub key_file: PathBuf,
}

/// What clients get for a name whose first certificate has not been issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UntilIssued {
    /// The TLS handshake fails.
    Wait,
    /// A certificate that no client trusts.
    SelfSigned,
}

impl UntilIssued {
    /// Every choice, as written in the configuration.
    pub const NAMES: [(&'static str, Self); 2] =
        [("wait", Self::Wait), ("self-signed", Self::SelfSigned)];
}

/// How control of a name is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengeKind {
    /// By a TLS handshake on port 443 (RFC 8737).
    TlsAlpn01,
    /// By a response on port 80 (RFC 8555 8.3).
    Http01,
    /// By a TXT record (RFC 8555 8.4).
    Dns01,
}

impl ChallengeKind {
    /// Every choice, as written in the configuration and in the protocol.
    pub const NAMES: [(&'static str, Self); 3] =
        [("tls-alpn-01", Self::TlsAlpn01), ("http-01", Self::Http01), ("dns-01", Self::Dns01)];

    /// The name in the protocol.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Http01 => "http-01",
            Self::Dns01 => "dns-01",
        }
    }
}

/// A certificate that is ordered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AcmeCertificate {
    /// Its names in lower case, at least one; a wildcard starts with `*.`.
    pub names: Vec<String>,
    /// The folder with its chain, key and state.
    pub folder: PathBuf,
    /// The key of the configuration that asks for it: `certificate[0].names`, or `route[0].host`.
    pub requested_by: String,
    /// Whether a certificate that no client trusts is used until the first one is issued.
    pub self_signed_until_issued: bool,
}

impl AcmeCertificate {
    /// The certificate for these names, of which the first one names its folder.
    pub fn new(settings: &AcmeSettings, names: Vec<String>, requested_by: String) -> Self {
        let name = names.first().map_or("", String::as_str);
        // A host name has no underscore, so a wildcard has a folder of its own.
        let name = name.strip_prefix("*.").map_or(name.to_owned(), |parent| format!("_.{parent}"));
        Self {
            folder: settings.folder().join(name),
            names,
            requested_by,
            self_signed_until_issued: settings.until_issued == UntilIssued::SelfSigned,
        }
    }

    /// The first name, by which operators refer to it.
    pub fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// The file with the chain.
    pub fn chain(&self) -> PathBuf {
        self.folder.join("chain.pem")
    }

    /// The file with the private key.
    pub fn key(&self) -> PathBuf {
        self.folder.join("key.pem")
    }
}
