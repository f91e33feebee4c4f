//! The responses of the commands about certificates.

use serde::{Deserialize, Serialize};

/// The certificates of all listeners.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CertificateList {
    /// Unix time in seconds when the list was made.
    pub now: f64,
    /// In the order of the configuration; those of routes without a `[[certificate]]` last.
    pub certificates: Vec<CertificateRow>,
}

/// One certificate. Times are Unix times in seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CertificateRow {
    /// Its names; those that are ordered if there is none yet.
    pub names: Vec<String>,
    /// Where it comes from: `acme`, the path of its chain, or `memory`.
    pub source: String,
    /// Last second of its validity; `None` if there is none yet.
    pub not_after: Option<u64>,
    /// For one that is ordered: when it is ordered next.
    pub next_order: Option<u64>,
    /// For one that is ordered: whether that is in progress.
    pub ordering: bool,
    /// Failed orders since the last success.
    pub failures: u32,
    /// Why the last one failed, and when.
    pub last_error: Option<CertificateError>,
}

/// A failed order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateError {
    /// Unix time in seconds.
    pub at: u64,
    /// What failed, with the words of the authority.
    pub text: String,
}

/// An order that was asked for, and begins at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRequested {
    /// Names of the certificate.
    pub names: Vec<String>,
}
