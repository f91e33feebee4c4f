//! The certificates of a snapshot, loaded from PEM files and selected by server name.

pub(crate) mod chain;
pub(crate) mod coverage;
pub(crate) mod expiry;
pub mod extensions;
pub(crate) mod generated;
pub mod issued;
pub(crate) mod kept;
pub(crate) mod ordered;
pub mod ordered_cert;
pub(crate) mod pair;
pub(crate) mod shown;

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

pub use self::expiry::ExpiryStep;
pub use self::pair::FileState;

use self::ordered_cert::OrderedCerts;
use self::pair::{CertPair, CertProblem};
use crate::config::settings::{CertificateSettings, CertificateSource};
use crate::config::toml::late_diagnostic::LateDiagnostic;
use crate::telemetry::metrics::process_snapshot::CertificateValidity;

/// All certificates of a snapshot, by the names they cover.
#[derive(Debug, Default)]
pub struct CertTable {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// Keyed by what follows `*.`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    default: Option<Arc<CertifiedKey>>,
    /// The settings of every certificate: those of the file, then those that are ordered for routes.
    sources: Vec<CertificateSettings>,
    /// Every certificate that there is, with the position of its settings.
    keys: Vec<(usize, Arc<CertifiedKey>)>,
    /// Those that tidegate gets itself.
    ordered: OrderedCerts,
    states: Vec<CertificateValidity>,
    /// The files of each certificate, in the order of the settings.
    files: Vec<FileState>,
    warnings: Vec<LateDiagnostic>,
}

impl CertTable {
    /// Reads every chain and key. An ordered certificate whose files cannot be used is taken from the `previous`
    /// table, or left out: only files of the operator are errors.
    ///
    /// # Errors
    /// Every problem because of which a certificate cannot be used.
    pub fn load(
        certificates: &[CertificateSettings],
        previous: Option<&Self>,
    ) -> Result<Self, Vec<LateDiagnostic>> {
        let mut table = Self::default();
        let mut errors = Vec::new();
        for certificate in certificates {
            if let Err(problems) = table.add(certificate.clone(), previous) {
                errors.extend(problems);
            }
        }
        if errors.is_empty() { Ok(table) } else { Err(errors) }
    }

    /// Reads every chain and key again. A certificate that cannot be used is taken from the `previous` table, which
    /// has the same settings, so that it does not keep the others from being renewed. Also returns the problems.
    pub fn renew(
        certificates: &[CertificateSettings],
        previous: &Self,
    ) -> (Self, Vec<LateDiagnostic>) {
        let mut table = Self::default();
        let mut errors = Vec::new();
        for (index, certificate) in certificates.iter().enumerate() {
            if let Err(problems) = table.add(certificate.clone(), Some(previous)) {
                errors.extend(problems);
                table.keep(index, certificate.default, previous);
            }
        }
        (table, errors)
    }

    /// Takes a certificate that cannot be read again from the previous table. The state of its files is the previous
    /// one as well: they are read again as long as they differ from it.
    fn keep(&mut self, index: usize, default: bool, previous: &Self) {
        self.files.push(previous.files.get(index).copied().unwrap_or_default());
        self.states.extend(previous.states.iter().filter(|state| state.index == index).cloned());
        let of = format!("certificate[{index}].");
        let warnings = previous.warnings.iter().filter(|warning| warning.key.starts_with(&of));
        self.warnings.extend(warnings.cloned());
        if let Some((_, key)) = previous.keys.iter().find(|(position, _)| *position == index) {
            // It was accepted before.
            let _ = self.insert(index, key.clone(), default);
        }
    }

    /// Reads one more certificate.
    fn add(
        &mut self,
        certificate: CertificateSettings,
        previous: Option<&Self>,
    ) -> Result<(), Vec<LateDiagnostic>> {
        let index = self.sources.len();
        self.sources.push(certificate.clone());
        let CertificateSettings { source, default } = certificate;
        if let CertificateSource::Acme(ordered) = &source {
            self.add_ordered(index, ordered, default, previous);
            return Ok(());
        }
        let diagnostic = |CertProblem { of, problem }| LateDiagnostic {
            key: format!("certificate[{index}].{of}"),
            problem,
        };
        let insert = |pair: CertPair| {
            let certified = Arc::new(pair.key);
            self.insert(index, certified.clone(), default).map_err(|problem| vec![problem])?;
            let key = format!("certificate[{index}].chain");
            self.states.extend(state(index, key, &certified));
            self.files.push(pair.files);
            let slow = pair::slow_rsa(&source, &*certified.key);
            self.warnings.extend(pair.warnings.into_iter().chain(slow).map(diagnostic));
            Ok(())
        };
        let added = pair::read(&source).and_then(insert);
        added.map_err(|problems| problems.into_iter().map(diagnostic).collect())
    }

    /// Name and validity period of each certificate.
    pub fn validities(&self) -> &[CertificateValidity] {
        &self.states
    }

    /// The state of the certificate files at the time they were read.
    pub fn file_states(&self) -> &[FileState] {
        &self.files
    }

    /// Where every certificate comes from, and the certificate if there is one.
    pub fn listed(&self) -> impl Iterator<Item = (&CertificateSource, Option<&CertifiedKey>)> {
        // In the order of their positions.
        let mut keys = self.keys.iter().peekable();
        self.sources.iter().enumerate().map(move |(index, certificate)| {
            let key = keys.next_if(|(position, _)| *position == index);
            (&certificate.source, key.map(|(_, key)| &**key))
        })
    }

    /// The present state of the certificate files.
    pub fn current_file_states(&self) -> Vec<FileState> {
        self.sources.iter().map(|certificate| FileState::now(&certificate.source)).collect()
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
        if sni == host {
            return true;
        }
        match (self.find(Some(sni)), self.find(Some(host))) {
            (Some(shown), Some(wanted)) => Arc::ptr_eq(&shown, &wanted),
            (_, None) => true,
            (None, Some(_)) => false,
        }
    }

    fn insert(
        &mut self,
        index: usize,
        key: Arc<CertifiedKey>,
        default: bool,
    ) -> Result<(), CertProblem> {
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
        self.keys.push((index, key));
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

impl ResolvesServerCert for CertTable {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name())
    }
}

/// Name and validity period of a certificate; `None` if the period cannot be read.
fn state(index: usize, config_key: String, key: &CertifiedKey) -> Option<CertificateValidity> {
    let (not_before, not_after) = chain::validity(&key.cert)?;
    let mut names = chain::names(&key.cert).into_iter();
    Some(CertificateValidity {
        index,
        config_key,
        name: names.next().unwrap_or_default(),
        more_names: names.collect(),
        not_before,
        not_after,
        renews_itself: false,
    })
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
        let table = CertTable::load(
            &[settings(&["a.example", "*.w.example"], false), settings(&["b.example"], false)],
            None,
        )
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
        let table = CertTable::load(&[settings(&["a.example"], true)], None).unwrap();
        assert!(table.find(None).is_some());
        assert!(table.find(Some("unknown.example")).is_some());
    }

    // Requirements: CK01.
    #[test]
    fn rejects_a_key_of_another_certificate() {
        let source =
            CertificateSource::Memory { chain: pair(&["a.example"]).0, key: pair(&["b"]).1 };
        let errors = CertTable::load(&[CertificateSettings { source, default: false }], None);
        let error = &errors.unwrap_err()[0];
        assert_eq!(error.key, "certificate[0].key");
        assert!(error.problem.contains("not the key of"), "{error:?}");
    }

    // Requirements: CK08.
    #[test]
    fn certificate_without_names_serves_only_as_default() {
        assert!(CertTable::load(&[settings(&[], true)], None).is_ok());
        let errors = CertTable::load(&[settings(&[], false)], None).unwrap_err();
        assert!(errors[0].problem.contains("covers no DNS name"), "{errors:?}");
    }
}
