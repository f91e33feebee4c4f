//! The certificates that tidegate gets from a certificate authority itself. Until the first one is issued there is
//! none, or one that no client trusts.

use std::sync::Arc;

use super::ordered_cert::OrderedCert;
use super::pair::{self, FileState};
use super::{CertTable, generated, state};
use crate::config::settings::acme::{AcmeCertificate, AcmeSettings, ChallengeKind};
use crate::config::settings::{CertificateSettings, CertificateSource, RouteSettings};
use crate::config::toml::late_diagnostic::LateDiagnostic;
use crate::config::values::patterns::HostPattern;

impl CertTable {
    /// The certificates that are ordered.
    pub fn ordered(&self) -> &[OrderedCert] {
        &self.ordered.list
    }

    /// Whether there is no certificate at all, because the first one has not been issued.
    pub fn awaits_first(&self) -> bool {
        self.keys.is_empty() && !self.ordered.list.is_empty()
    }

    /// Adds a certificate to be ordered for each host of the routes that no other one covers.
    pub fn order_uncovered(
        &mut self,
        acme: &AcmeSettings,
        routes: &[RouteSettings],
        previous: Option<&Self>,
    ) {
        for (index, route) in routes.iter().enumerate() {
            let name = match &route.host {
                // Authorities issue wildcards only after a challenge by DNS.
                HostPattern::Subdomains(parent) if acme.challenge == ChallengeKind::Dns01 => {
                    format!("*.{parent}")
                }
                HostPattern::Exact(name) if !is_address(name) => name.clone(),
                HostPattern::Exact(_) | HostPattern::Subdomains(_) | HostPattern::Any => continue,
            };
            let wildcard = name.strip_prefix("*.");
            let has_wildcard = wildcard.is_some_and(|parent| self.wildcard.contains_key(parent));
            if has_wildcard || self.covering(&name).is_some() || self.is_ordered(&name) {
                continue;
            }
            let key = format!("route[{index}].host");
            let ordered = AcmeCertificate::new(acme, vec![name], key);
            let source = CertificateSource::Acme(Arc::new(ordered));
            // Only certificates in files of the operator have errors.
            let _ = self.add(CertificateSettings { source, default: false }, previous);
        }
    }

    /// Whether an ordered certificate is for this name. A wildcard is written with its star.
    pub(super) fn is_ordered(&self, name: &str) -> bool {
        let names = &self.ordered.names;
        let parent = name.split_once('.').map(|(_, parent)| parent);
        names.contains(name) || parent.is_some_and(|of| names.contains(&format!("*.{of}")))
    }

    /// Adds a certificate that is ordered: the one in its files, or the previous one.
    pub(super) fn add_ordered(
        &mut self,
        index: usize,
        ordered: &Arc<AcmeCertificate>,
        default: bool,
        previous: Option<&Self>,
    ) {
        let source = CertificateSource::Acme(ordered.clone());
        let key = &ordered.requested_by;
        let warning = |problem: String| LateDiagnostic { key: key.clone(), problem };
        let mut files = FileState::now(&source);
        let issued = match pair::read(&source) {
            Ok(pair) => {
                files = pair.files;
                self.warnings.extend(pair.warnings.into_iter().map(|of| warning(of.problem)));
                Some(Arc::new(pair.key))
            }
            Err(problems) => {
                if files != FileState::default() {
                    let problems = problems.into_iter().map(|of| warning(of.problem));
                    self.warnings.extend(problems);
                }
                let same = |of: &&OrderedCert| of.certificate.folder == ordered.folder;
                let kept = previous.and_then(|table| table.ordered().iter().find(same));
                kept.and_then(|kept| kept.issued.clone())
            }
        };
        self.files.push(files);
        self.ordered.names.extend(ordered.names.iter().cloned());
        self.ordered
            .list
            .push(OrderedCert { certificate: ordered.clone(), issued: issued.clone() });
        let shown = match issued {
            Some(issued) => {
                let state = state(index, key.clone(), &issued);
                self.states.extend(state.map(|mut state| {
                    state.renews_itself = true;
                    state
                }));
                Some(issued)
            }
            None if ordered.self_signed_until_issued => {
                let made = generated::self_signed(&ordered.names);
                made.map_err(|problem| self.warnings.push(warning(problem))).ok().map(Arc::new)
            }
            None => None,
        };
        if let Some(shown) = shown
            && let Err(of) = self.insert(index, shown, default)
        {
            self.warnings.push(warning(of.problem));
        }
    }
}

/// Whether a host is an IP address, for which no certificate is ordered.
fn is_address(host: &str) -> bool {
    host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok()
}
