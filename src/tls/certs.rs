//! PEM files become certificates that rustls can show, found by server name.

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
use crate::telemetry::metrics::process_snapshot::CertificateState;

/// All certificates of a generation, by the names they cover.
#[derive(Debug, Default)]
pub struct CertTable {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// Keyed by what follows `*.`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    default: Option<Arc<CertifiedKey>>,
    states: Vec<CertificateState>,
    /// The files of each, in the order of the settings.
    seen: Vec<FileState>,
    warnings: Vec<LateDiagnostic>,
}

impl CertTable {
    /// Reads every chain and key; all faults at once.
    pub fn load(certificates: &[CertificateSettings]) -> Result<Self, Vec<LateDiagnostic>> {
        let mut table = Self::default();
        let mut faults = Vec::new();
        for (index, certificate) in certificates.iter().enumerate() {
            let later = |CertProblem { of, problem }| LateDiagnostic {
                key: format!("certificate[{index}].{of}"),
                problem,
            };
            let insert = |pair: CertPair| {
                table.states.extend(state(index, &pair.key));
                table.seen.push(pair.seen);
                table.warnings.extend(pair.weaknesses.into_iter().map(later));
                table.insert(Arc::new(pair.key), certificate.default)
            };
            if let Err(flaw) = pair::read(&certificate.source).and_then(insert) {
                faults.push(later(flaw));
            }
        }
        if faults.is_empty() { Ok(table) } else { Err(faults) }
    }

    /// How long each certificate lasts.
    pub fn states(&self) -> &[CertificateState] {
        &self.states
    }

    /// The files that it was read from, as they were then.
    pub fn seen(&self) -> &[FileState] {
        &self.seen
    }

    /// What clients may stumble over; all of it is served as it is.
    pub fn warnings(&self) -> &[LateDiagnostic] {
        &self.warnings
    }

    /// Which certificates are not valid, or not for long any more, at this moment, in seconds
    /// since 1970.
    pub fn steps(&self, now: u64) -> impl Iterator<Item = (&CertificateState, ExpiryStep)> {
        self.states
            .iter()
            .filter_map(move |state| ExpiryStep::of(state, now).map(|step| (state, step)))
    }

    /// Whether no certificate is left that a client would take.
    pub fn all_over(&self, now: u64) -> bool {
        !self.states.is_empty() && self.states.iter().all(|state| now > state.not_after)
    }

    /// Whether a client that was shown the certificate for `sni` would also accept it for `host`
    /// (RFC 9110 15.5.20): both lead to the same certificate.
    pub fn share(&self, sni: &str, host: &str) -> bool {
        match (self.find(Some(sni)), self.find(Some(host))) {
            (Some(shown), Some(wanted)) => Arc::ptr_eq(&shown, &wanted),
            (_, None) => true,
            (None, Some(_)) => false,
        }
    }

    /// The first name of the certificate that a client who asks for this one is shown.
    pub fn shown(&self, host: &str) -> Option<String> {
        self.find(Some(host))
            .map(|key| chain::names(&key.cert).into_iter().next().unwrap_or_default())
    }

    fn insert(&mut self, key: Arc<CertifiedKey>, default: bool) -> Result<(), CertProblem> {
        let names = chain::names(&key.cert);
        if names.is_empty() && !default {
            return Err(CertProblem::chain(
                "the certificate covers no DNS name, so no client would be shown it; use one with \
                 a subjectAltName, or mark it `default = true`",
            ));
        }
        for name in names {
            match name.strip_prefix("*.") {
                Some(parent) => self.wildcard.entry(parent.to_owned()).or_insert(key.clone()),
                None => self.exact.entry(name).or_insert(key.clone()),
            };
        }
        if default {
            self.default = Some(key);
        }
        Ok(())
    }

    /// The certificate that covers this name.
    fn named(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        // RFC 6125 6.4.3: `*` stands for one label, the leftmost.
        let parent = name.split_once('.').map(|(_, parent)| parent);
        self.exact.get(&name).or_else(|| parent.and_then(|parent| self.wildcard.get(parent)))
    }

    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        name.and_then(|name| self.named(name)).or(self.default.as_ref()).cloned()
    }
}

/// The files of these certificates, as they are now.
pub fn look(certificates: &[CertificateSettings]) -> Vec<FileState> {
    certificates.iter().map(|certificate| FileState::now(&certificate.source)).collect()
}

impl ResolvesServerCert for CertTable {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name())
    }
}

/// How long a certificate lasts, if it says so.
fn state(index: usize, key: &CertifiedKey) -> Option<CertificateState> {
    let (not_before, not_after) = chain::validity(&key.cert)?;
    let name = chain::names(&key.cert).into_iter().next().unwrap_or_default();
    Some(CertificateState { index, name, not_before, not_after })
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
    fn names_lead_to_their_certificate() {
        let table = CertTable::load(&[
            settings(&["a.example", "*.w.example"], false),
            settings(&["b.example"], false),
        ])
        .unwrap();
        assert!(table.share("a.example", "x.w.example"));
        assert!(table.share("A.EXAMPLE", "a.example."));
        assert!(!table.share("a.example", "b.example"));
        assert!(table.find(Some("w.example")).is_none(), "a wildcard does not hold its apex");
        assert!(table.find(Some("x.y.w.example")).is_none(), "a wildcard is one label");
        assert!(table.find(None).is_none());
    }

    #[test]
    fn only_a_marked_certificate_answers_for_unknown_names() {
        let table = CertTable::load(&[settings(&["a.example"], true)]).unwrap();
        assert!(table.find(None).is_some());
        assert!(table.find(Some("unknown.example")).is_some());
    }

    // Requirements: CK01.
    #[test]
    fn rejects_a_key_of_another_certificate() {
        let source =
            CertificateSource::Memory { chain: pair(&["a.example"]).0, key: pair(&["b"]).1 };
        let faults = CertTable::load(&[CertificateSettings { source, default: false }]);
        let fault = &faults.unwrap_err()[0];
        assert_eq!(fault.key, "certificate[0].key");
        assert!(fault.problem.contains("not the key of"), "{fault:?}");
    }

    // Requirements: CK08.
    #[test]
    fn certificate_without_names_serves_only_as_default() {
        assert!(CertTable::load(&[settings(&[], true)]).is_ok());
        let faults = CertTable::load(&[settings(&[], false)]).unwrap_err();
        assert!(faults[0].problem.contains("covers no DNS name"), "{faults:?}");
    }
}
