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
}

/// A certificate that is ordered.
#[derive(Clone, Debug)]
pub struct OrderedCert {
    /// What is ordered.
    pub certificate: Arc<AcmeCertificate>,
    /// The one that is in use; `None` if none has been issued.
    pub issued: Option<Arc<CertifiedKey>>,
}
