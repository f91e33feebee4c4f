//! The certificates of a snapshot, loaded from PEM files and selected by server name.

pub(crate) mod chain;
pub(crate) mod coverage;
pub(crate) mod expiry;
pub(crate) mod pair;

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

pub use self::expiry::ExpiryStep;
pub use self::pair::FileState;

use self::pair::{CertPair, CertProblem};
use crate::config::settings::CertificateSettings;
use crate::config::toml::late_diagnostic::LateDiagnostic;
use crate::telemetry::metrics::process_snapshot::CertificateValidity;

/// All certificates of a snapshot, by the names they cover.
#[derive(Debug, Default)]
pub struct CertTable {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// Keyed by what follows `*.`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    default: Option<Arc<CertifiedKey>>,
    /// Every certificate, in the order of the settings.
    keys: Vec<Arc<CertifiedKey>>,
    states: Vec<CertificateValidity>,
    /// The files of each certificate, in the order of the settings.
    files: Vec<FileState>,
    warnings: Vec<LateDiagnostic>,
}

impl CertTable {
    /// Reads every chain and key.
    ///
    /// # Errors
    /// Every problem because of which a certificate cannot be used.
    pub fn load(certificates: &[CertificateSettings]) -> Result<Self, Vec<LateDiagnostic>> {
        let mut table = Self::default();
        let mut errors = Vec::new();
        for (index, certificate) in certificates.iter().enumerate() {
            let diagnostic = |CertProblem { of, problem }| LateDiagnostic {
                key: format!("certificate[{index}].{of}"),
                problem,
            };
            let insert = |pair: CertPair| {
                table.states.extend(state(index, &pair.key));
                table.files.push(pair.files);
                let slow = pair::slow_rsa(&certificate.source, &*pair.key.key);
                table.warnings.extend(pair.warnings.into_iter().chain(slow).map(diagnostic));
                let inserted = table.insert(Arc::new(pair.key), certificate.default);
                inserted.map_err(|problem| vec![problem])
            };
            if let Err(problems) = pair::read(&certificate.source).and_then(insert) {
                errors.extend(problems.into_iter().map(diagnostic));
            }
        }
        if errors.is_empty() { Ok(table) } else { Err(errors) }
    }

    /// Name and validity period of each certificate.
    pub fn validities(&self) -> &[CertificateValidity] {
        &self.states
    }

    /// The state of the certificate files at the time they were read.
    pub fn file_states(&self) -> &[FileState] {
        &self.files
    }

    /// Problems that may make clients reject a certificate; the certificates are used anyway.
    pub fn warnings(&self) -> &[LateDiagnostic] {
        &self.warnings
    }

    /// The certificates that are not valid at `now`, in seconds since 1970, or expire soon.
    pub fn needing_warning(
        &self,
        now: u64,
    ) -> impl Iterator<Item = (&CertificateValidity, ExpiryStep)> {
        self.states
            .iter()
            .filter_map(move |state| ExpiryStep::of(state, now).map(|step| (state, step)))
    }

    /// Whether every certificate has expired at `now`, in seconds since 1970.
    pub fn all_expired(&self, now: u64) -> bool {
        !self.states.is_empty() && self.states.iter().all(|state| now > state.not_after)
    }

    /// Whether a client that connected with `sni` may also send requests for `host` (RFC 9110 15.5.20): both
    /// names select the same certificate, or none covers `host`.
    pub fn may_request(&self, sni: &str, host: &str) -> bool {
        match (self.find(Some(sni)), self.find(Some(host))) {
            (Some(shown), Some(wanted)) => Arc::ptr_eq(&shown, &wanted),
            (_, None) => true,
            (None, Some(_)) => false,
        }
    }

    /// The first DNS name of the certificate that is selected for `host`; empty if it has none.
    pub fn name_shown_for(&self, host: &str) -> Option<String> {
        self.find(Some(host))
            .map(|key| chain::names(&key.cert).into_iter().next().unwrap_or_default())
    }

    fn insert(&mut self, key: Arc<CertifiedKey>, default: bool) -> Result<(), CertProblem> {
        let names = chain::names(&key.cert);
        if names.is_empty() && !default {
            return Err(CertProblem::chain(
                "the certificate covers no DNS name, so it is never selected; use one with a \
                 subjectAltName, or mark it `default = true`",
            ));
        }
        for name in names {
            match name.strip_prefix("*.") {
                Some(parent) => self.wildcard.entry(parent.to_owned()).or_insert(key.clone()),
                None => self.exact.entry(name).or_insert(key.clone()),
            };
        }
        if default {
            self.default = Some(key.clone());
        }
        self.keys.push(key);
        Ok(())
    }

    /// The certificate that covers this name, without the default.
    fn covering(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        // RFC 6125 6.4.3: `*` matches exactly one label, the leftmost.
        let parent = name.split_once('.').map(|(_, parent)| parent);
        self.exact.get(&name).or_else(|| parent.and_then(|parent| self.wildcard.get(parent)))
    }

    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        name.and_then(|name| self.covering(name)).or(self.default.as_ref()).cloned()
    }
}

/// The current state of the files of these certificates.
pub fn current_file_states(certificates: &[CertificateSettings]) -> Vec<FileState> {
    certificates.iter().map(|certificate| FileState::now(&certificate.source)).collect()
}

impl ResolvesServerCert for CertTable {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name())
    }
}

/// Name and validity period of a certificate; `None` if the period cannot be read.
fn state(index: usize, key: &CertifiedKey) -> Option<CertificateValidity> {
    let (not_before, not_after) = chain::validity(&key.cert)?;
    let name = chain::names(&key.cert).into_iter().next().unwrap_or_default();
    Some(CertificateValidity { index, name, not_before, not_after })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::CertificateSource;

    fn pair(names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    pub(super) fn settings(names: &[&str], default: bool) -> CertificateSettings {
        let (chain, key) = pair(names);
        CertificateSettings { source: CertificateSource::Memory { chain, key }, default }
    }

    #[test]
    fn names_select_their_certificate() {
        let table = CertTable::load(&[
            settings(&["a.example", "*.w.example"], false),
            settings(&["b.example"], false),
        ])
        .unwrap();
        assert!(table.may_request("a.example", "x.w.example"));
        assert!(table.may_request("A.EXAMPLE", "a.example."));
        assert!(!table.may_request("a.example", "b.example"));
        assert!(table.find(Some("w.example")).is_none(), "a wildcard does not cover its parent");
        assert!(table.find(Some("x.y.w.example")).is_none(), "a wildcard matches one label");
        assert!(table.find(None).is_none());
    }

    #[test]
    fn default_certificate_covers_unknown_names() {
        let table = CertTable::load(&[settings(&["a.example"], true)]).unwrap();
        assert!(table.find(None).is_some());
        assert!(table.find(Some("unknown.example")).is_some());
    }

    // Requirements: CK01.
    #[test]
    fn rejects_a_key_of_another_certificate() {
        let source =
            CertificateSource::Memory { chain: pair(&["a.example"]).0, key: pair(&["b"]).1 };
        let errors = CertTable::load(&[CertificateSettings { source, default: false }]);
        let error = &errors.unwrap_err()[0];
        assert_eq!(error.key, "certificate[0].key");
        assert!(error.problem.contains("not the key of"), "{error:?}");
    }

    // Requirements: CK08.
    #[test]
    fn certificate_without_names_serves_only_as_default() {
        assert!(CertTable::load(&[settings(&[], true)]).is_ok());
        let errors = CertTable::load(&[settings(&[], false)]).unwrap_err();
        assert!(errors[0].problem.contains("covers no DNS name"), "{errors:?}");
    }
}
