//! A certificate that tidegate gets from a certificate authority itself.

use std::collections::HashSet;
use std::sync::Arc;

use rustls::sign::CertifiedKey;

use crate::config::settings::acme::AcmeCertificate;

/// The certificates that are ordered, and their names.
#[derive(Debug, Default)]
pub(super) struct OrderedCerts {
    pub(super) list: Vec<OrderedCert>,
    /// The names of all of them, as written: `*.a.example` for a wildcard.
    pub(super) names: HashSet<String>,
    /// Those that their names had before, for certificates that have not been issued.
    pub(super) kept: Vec<Arc<CertifiedKey>>,
    /// Those that no client trusts, for the same.
    pub(super) made: Vec<Arc<CertifiedKey>>,
}

/// A certificate that is ordered.
#[derive(Clone, Debug)]
pub struct OrderedCert {
    /// Position of its settings.
    pub(super) index: usize,
    /// What is ordered.
    pub certificate: Arc<AcmeCertificate>,
    /// The one that is in use; `None` if none has been issued.
    pub issued: Option<Arc<CertifiedKey>>,
    /// If none has been issued, and all names are served with those that they had before: when the first of these
    /// ends, in seconds since 1970.
    pub kept_until: Option<u64>,
}
