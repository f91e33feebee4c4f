//! The certificates that tidegate gets from a certificate authority itself. Until the first one is issued there is
//! none, or one that no client trusts.

use std::sync::Arc;

use super::ordered_cert::OrderedCert;
use super::pair::{self, FileState};
use super::{CertTable, state};
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
        self.keys.is_empty() && self.ordered.kept.is_empty() && !self.ordered.list.is_empty()
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
        let (certificate, issued_too) = (ordered.clone(), issued.clone());
        let listed = OrderedCert { index, certificate, issued: issued_too, kept_until: None };
        self.ordered.list.push(listed);
        let Some(issued) = issued else { return };
        let state = state(index, key.clone(), &issued);
        self.states.extend(state.map(|mut state| {
            state.renews_itself = true;
            state
        }));
        if let Err(of) = self.insert(index, issued, default) {
            self.warnings.push(warning(of.problem));
        }
    }
}

/// Whether a host is an IP address, for which no certificate is ordered.
fn is_address(host: &str) -> bool {
    host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::config::settings::Settings;
    use crate::sys::clock::wall;

    struct StateDirectory(PathBuf);

    impl StateDirectory {
        fn new(name: &str) -> Self {
            let name = format!("tidegate-ordered-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }

        /// Settings with these hosts of routes, and keys of `[acme]`.
        fn settings(&self, hosts: &[&str], keys: &str) -> Settings {
            let mut text = format!(
                "[[listener]]\naddress = \"127.0.0.1:0\"\n[acme]\naccept_terms = true\n\
                 state_directory = \"{}\"\n{keys}\n",
                self.0.display()
            );
            for (n, host) in hosts.iter().enumerate() {
                text.push_str(&format!(
                    "[[route]]\nhost = \"{host}\"\npath = \"/{n}\"\norigins = [\"missing\"]\n\
                     backends = [\"127.0.0.1:9\"]\n"
                ));
            }
            Settings::parse(&text, "proxy.toml").unwrap()
        }

        /// Puts a certificate in its files.
        fn issue(&self, name: &str) {
            let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
            let folder = self.0.join("acme/certificates").join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("chain.pem"), made.cert.pem()).unwrap();
            fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        }
    }

    impl Drop for StateDirectory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn load(settings: &Settings, previous: Option<&CertTable>) -> CertTable {
        let mut table = CertTable::load(&settings.certificates, previous).unwrap();
        let acme = settings.acme.as_ref().unwrap();
        table.order_uncovered(acme, &settings.routes, previous);
        table.keep_until_issued(acme, previous, wall() as u64);
        table
    }

    fn ordered(table: &CertTable) -> Vec<String> {
        table.ordered().iter().map(|of| of.certificate.names.join(" ")).collect()
    }

    #[test]
    fn hosts_that_nothing_covers_are_ordered() {
        let folder = StateDirectory::new("hosts");
        let hosts =
            ["a.example", "b.example", "*.c.example", "192.0.2.1", "[::1]", "*", "b.example"];
        let listed = "[[certificate]]\nacme = true\nnames = [\"a.example\"]";
        let table = load(&folder.settings(&hosts, listed), None);
        assert_eq!(ordered(&table), ["a.example", "b.example"]);
        assert_eq!(table.ordered()[1].certificate.requested_by, "route[1].host");
        let dns = "challenge = \"dns-01\"\ndns_hook = \"hook\"";
        let hosts = ["*.c.example", "x.c.example", "c.example"];
        let table = load(&folder.settings(&hosts, dns), None);
        // The wildcard covers one of the names, and not its parent.
        assert_eq!(ordered(&table), ["*.c.example", "c.example"]);
        let uncovered = table.uncovered(&folder.settings(&hosts, dns).routes);
        assert!(uncovered.faults.is_empty() && uncovered.warnings.is_empty(), "{uncovered:?}");
    }

    #[test]
    fn until_issued_there_is_none_or_a_self_made_one() {
        let folder = StateDirectory::new("until");
        let table = load(&folder.settings(&["a.example"], ""), None);
        assert!(table.awaits_first() && table.covering("a.example").is_none());
        let keys = "until_issued = \"self-signed\"";
        let table = load(&folder.settings(&["a.example"], keys), None);
        assert!(!table.awaits_first() && table.covering("a.example").is_some());
        // It is none that has been issued.
        assert!(table.ordered()[0].issued.is_none() && table.validities().is_empty());
    }

    #[test]
    fn certificate_in_use_outlives_its_files() {
        let folder = StateDirectory::new("kept");
        let settings = folder.settings(&["a.example", "b.example"], "");
        folder.issue("a.example");
        let first = load(&settings, None);
        let shown = first.covering("a.example").unwrap().clone();
        assert!(first.covering("b.example").is_none() && !first.awaits_first());
        assert!(first.validities()[0].renews_itself);
        let files = folder.0.join("acme/certificates/a.example");
        let is_kept = |table: &CertTable| {
            Arc::ptr_eq(table.covering("a.example").unwrap(), &shown)
                && table.ordered()[0].issued.is_some()
        };
        // The first part of an installation: another key.
        let chain = fs::read(files.join("chain.pem")).unwrap();
        folder.issue("a.example");
        fs::write(files.join("chain.pem"), chain).unwrap();
        let second = load(&settings, Some(&first));
        assert!(is_kept(&second) && second.file_states() != first.file_states());
        assert_eq!(second.warnings()[0].key, "route[0].host");
        fs::remove_dir_all(&files).unwrap();
        let third = load(&settings, Some(&second));
        assert!(is_kept(&third) && third.warnings().is_empty());
        folder.issue("a.example");
        assert_ne!(third.current_file_states(), third.file_states());
        assert!(!is_kept(&load(&settings, Some(&third))));
    }
}
