//! Checks that a certificate covers every host of the routes.

use std::collections::HashSet;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use webpki::EndEntityCert;

use crate::config::settings::{CertificateSource, RouteSettings};
use crate::config::toml::late_diagnostic::LateDiagnostic;
use crate::config::values::patterns::HostPattern;
use crate::tls::certs::{CertTable, chain};

/// Which hosts of the routes have no certificate, and which certificates have no host.
#[derive(Debug, Default)]
pub struct Uncovered {
    /// Hosts that no TLS client can reach.
    pub faults: Vec<LateDiagnostic>,
    /// Hosts for which clients get a certificate that they reject, hosts that are covered in part, and
    /// certificates that cover none of the hosts.
    pub warnings: Vec<LateDiagnostic>,
}

/// How much of a host pattern the certificates cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coverage {
    All,
    /// Some subdomains.
    Part,
    None,
}

impl CertTable {
    /// The key of the configuration that names a certificate.
    fn config_key(&self, index: usize) -> String {
        match self.sources.get(index).map(|certificate| &certificate.source) {
            Some(CertificateSource::Acme(ordered)) => ordered.requested_by.clone(),
            Some(_) | None => format!("certificate[{index}].chain"),
        }
    }

    /// One diagnostic for each host that no certificate covers, at the first route with that host, and one
    /// for each certificate that covers no host.
    pub fn uncovered(&self, routes: &[RouteSettings]) -> Uncovered {
        let mut seen = HashSet::new();
        let mut found = Uncovered::default();
        for (index, route) in routes.iter().enumerate() {
            let coverage = self.coverage(&route.host);
            if !seen.insert(&route.host) || coverage == Coverage::All {
                continue;
            }
            let problem = self.uncovered_problem(&route.host, coverage);
            let diagnostic = LateDiagnostic { key: format!("route[{index}].host"), problem };
            if coverage == Coverage::None && self.default.is_none() {
                found.faults.push(diagnostic);
            } else {
                found.warnings.push(diagnostic);
            }
        }
        found.warnings.extend(self.unused(routes));
        found
    }

    /// What clients that connect to this host get a certificate for.
    fn coverage(&self, host: &HostPattern) -> Coverage {
        let all_if = |covered| if covered { Coverage::All } else { Coverage::None };
        match host {
            HostPattern::Any => Coverage::All,
            HostPattern::Subdomains(parent)
                if self.wildcard.contains_key(parent)
                    || self.is_ordered(&format!("*.{parent}")) =>
            {
                Coverage::All
            }
            HostPattern::Subdomains(parent) => {
                let is_below = |name: &String| is_below(name, parent);
                let mut names = self.exact.keys().chain(self.wildcard.keys());
                if names.any(is_below) { Coverage::Part } else { Coverage::None }
            }
            HostPattern::Exact(name) => {
                let bare = name.trim_start_matches('[').trim_end_matches(']');
                match ServerName::try_from(bare) {
                    // Clients send no server name for an IP address (RFC 6066 3).
                    Ok(address @ ServerName::IpAddress(_)) => all_if(self.default_covers(&address)),
                    Ok(_) | Err(_) => {
                        all_if(self.covering(name).is_some() || self.is_ordered(name))
                    }
                }
            }
        }
    }

    fn default_covers(&self, address: &ServerName<'_>) -> bool {
        let leaf = self.default.as_ref().and_then(|key| key.cert.first());
        let leaf = leaf.and_then(|leaf| EndEntityCert::try_from(leaf).ok());
        leaf.is_some_and(|leaf| leaf.verify_is_valid_for_subject_name(address).is_ok())
    }

    fn uncovered_problem(&self, host: &HostPattern, coverage: Coverage) -> String {
        let scope = if coverage == Coverage::Part { " completely" } else { "" };
        let effect = match self.default {
            Some(_) => {
                "TLS clients get the default certificate and reject it; add a certificate for it"
            }
            None => {
                "the TLS handshake fails; add a certificate for it, or mark one `default = true` if \
                 clients accept one of another name"
            }
        };
        let names = self.keys.iter().flat_map(|(_, key)| chain::names(&key.cert));
        let names = match list(names) {
            names if names.is_empty() => String::new(),
            names => format!(" (the certificates are for {names})"),
        };
        format!("no certificate covers {host}{scope}{names}: {effect}")
    }

    /// A warning for each certificate that covers none of the hosts and is not the default.
    fn unused(&self, routes: &[RouteSettings]) -> Vec<LateDiagnostic> {
        let mut found = Vec::new();
        for (index, key) in &self.keys {
            let names = chain::names(&key.cert);
            let is_default = self.default.as_ref().is_some_and(|of| Arc::ptr_eq(of, key));
            let covers = |name: &String| routes.iter().any(|route| shares(name, &route.host));
            if is_default || names.iter().any(covers) {
                continue;
            }
            let problem = format!(
                "this certificate covers none of the routes' hosts; its names are {}",
                list(names.into_iter())
            );
            found.push(LateDiagnostic { key: self.config_key(*index), problem });
        }
        found
    }
}

/// Whether a host of the pattern is covered by this name of a certificate.
fn shares(name: &str, host: &HostPattern) -> bool {
    let (parent, is_wildcard) = match name.strip_prefix("*.") {
        Some(parent) => (parent, true),
        None => (name, false),
    };
    match host {
        HostPattern::Any => true,
        HostPattern::Subdomains(of) => is_below(parent, of) || (is_wildcard && parent == of),
        HostPattern::Exact(host) if is_wildcard => {
            host.split_once('.').is_some_and(|(_, of)| of == parent)
        }
        HostPattern::Exact(host) => host == name,
    }
}

fn is_below(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent).is_some_and(|before| before.ends_with('.'))
}

/// The first names of a list; empty if there are none.
fn list(mut names: impl Iterator<Item = String>) -> String {
    let shown: Vec<String> = names.by_ref().take(NAMES_MAX).collect();
    match names.count() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Names of certificates in one message.
const NAMES_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Settings;
    use crate::tls::certs::tests::settings;

    fn routes(hosts: &[&str]) -> Vec<RouteSettings> {
        let mut text =
            "[[listener]]\naddress = \"127.0.0.1:0\"\n[[certificate]]\nchain = \"c\"\nkey = \"k\"\n"
                .to_owned();
        for (n, host) in hosts.iter().enumerate() {
            text.push_str(&format!(
                "[[route]]\nhost = \"{host}\"\npath = \"/{n}\"\norigins = [\"missing\"]\n\
                 backends = [\"127.0.0.1:9\"]\n"
            ));
        }
        Settings::parse(&text, "proxy.toml").unwrap().routes
    }

    // Requirements: CK08.
    #[test]
    fn warns_about_hosts_without_a_certificate() {
        let certificates = [
            settings(&["a.example", "*.w.example", "10.0.0.2"], false),
            settings(&["127.0.0.1", "::1"], true),
        ];
        let table = CertTable::load(&certificates, None).unwrap();
        let found = table.uncovered(&routes(&[
            "a.example",
            "x.w.example",
            "*.w.example",
            "127.0.0.1",
            "[::1]",
            "*",
        ]));
        assert!(found.faults.is_empty() && found.warnings.is_empty(), "{found:?}");
        let found = table.uncovered(&routes(&[
            "a.example",
            // Gets the default certificate, which does not cover it.
            "b.example",
            // A wildcard matches one label.
            "x.y.w.example",
            "*.a.example",
            // Covered by a certificate that is not the default, so it is never selected.
            "10.0.0.2",
            "b.example",
        ]));
        assert!(found.faults.is_empty(), "{found:?}");
        let keys: Vec<&str> = found.warnings.iter().map(|warning| warning.key.as_str()).collect();
        assert_eq!(keys, ["route[1].host", "route[2].host", "route[3].host", "route[4].host"]);
        let [first, _, third, _] = &found.warnings[..] else { panic!("{found:?}") };
        let words = "b.example (the certificates are for a.example, *.w.example): TLS clients get the default";
        assert!(first.problem.contains(words), "{first:?}");
        assert!(third.problem.starts_with("no certificate covers *.a.example (the"), "{third:?}");
    }

    // Requirements: CK08.
    #[test]
    fn hosts_without_any_certificate_are_faults() {
        let certificates = [
            settings(&["a.example", "x.w.example"], false),
            settings(&["1.b", "2.b", "3.b", "4.b", "5.b", "6.b", "7.b"], false),
        ];
        let table = CertTable::load(&certificates, None).unwrap();
        let found = table.uncovered(&routes(&["c.example", "*.w.example", "*.a.example"]));
        let keys = |of: &[LateDiagnostic]| of.iter().map(|of| of.key.clone()).collect::<Vec<_>>();
        assert_eq!(keys(&found.faults), ["route[0].host", "route[2].host"]);
        let problem = &found.faults[0].problem;
        let start = "no certificate covers c.example (the certificates are for a.example, \
                     x.w.example, 1.b, 2.b, 3.b and 4 more): the TLS handshake fails; add a certificate for it, or mark one";
        assert!(problem.starts_with(start), "{problem}");
        // Some subdomains have a certificate. The second certificate has no host.
        assert_eq!(keys(&found.warnings), ["route[1].host", "certificate[1].chain"]);
        let problem = &found.warnings[0].problem;
        assert!(
            problem.starts_with("no certificate covers *.w.example completely (the"),
            "{problem}"
        );
        let problem = &found.warnings[1].problem;
        assert!(problem.ends_with("its names are 1.b, 2.b, 3.b, 4.b, 5.b and 2 more"), "{problem}");
    }

    #[test]
    fn certificates_share_hosts_with_routes() {
        let shares = |name: &str, host: &str| shares(name, &HostPattern::parse(host).unwrap());
        for (name, host) in [
            ("a.example", "a.example"),
            ("a.example", "*"),
            ("*.example", "a.example"),
            ("*.example", "*.example"),
            ("a.example", "*.example"),
            ("*.a.example", "*.example"),
        ] {
            assert!(shares(name, host), "{name} {host}");
        }
        for (name, host) in [
            ("a.example", "b.example"),
            ("*.example", "example"),
            ("*.example", "a.b.example"),
            ("example", "*.example"),
            ("xexample", "*.example"),
            ("*.other", "*.example"),
        ] {
            assert!(!shares(name, host), "{name} {host}");
        }
    }
}
