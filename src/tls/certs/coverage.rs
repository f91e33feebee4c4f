//! Checks that a certificate covers every host of the routes.

use std::collections::HashSet;

use rustls::pki_types::ServerName;
use webpki::EndEntityCert;

use crate::config::settings::RouteSettings;
use crate::config::toml::late_diagnostic::LateDiagnostic;
use crate::config::values::patterns::HostPattern;
use crate::tls::certs::CertTable;

impl CertTable {
    /// One warning for each host that no certificate covers, at the first route with that host.
    pub fn uncovered(&self, routes: &[RouteSettings]) -> Vec<LateDiagnostic> {
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        for (index, route) in routes.iter().enumerate() {
            if seen.insert(&route.host) && !self.covers(&route.host) {
                let problem = self.uncovered_problem(&route.host);
                found.push(LateDiagnostic { key: format!("route[{index}].host"), problem });
            }
        }
        found
    }

    /// Whether clients that connect to this host get a certificate for it.
    fn covers(&self, host: &HostPattern) -> bool {
        match host {
            HostPattern::Any => true,
            HostPattern::Subdomains(parent) => self.wildcard.contains_key(parent),
            HostPattern::Exact(name) => {
                let bare = name.trim_start_matches('[').trim_end_matches(']');
                match ServerName::try_from(bare) {
                    // Clients send no server name for an IP address (RFC 6066 3).
                    Ok(address @ ServerName::IpAddress(_)) => self.default_covers(&address),
                    Ok(_) | Err(_) => self.covering(name).is_some(),
                }
            }
        }
    }

    fn default_covers(&self, address: &ServerName<'_>) -> bool {
        let leaf = self.default.as_ref().and_then(|key| key.cert.first());
        let leaf = leaf.and_then(|leaf| EndEntityCert::try_from(leaf).ok());
        leaf.is_some_and(|leaf| leaf.verify_is_valid_for_subject_name(address).is_ok())
    }

    fn uncovered_problem(&self, host: &HostPattern) -> String {
        let (host, scope) = match host {
            HostPattern::Exact(name) => (name.clone(), ""),
            HostPattern::Subdomains(parent) => (format!("*.{parent}"), " completely"),
            HostPattern::Any => ("*".into(), ""),
        };
        let effect = match self.default {
            Some(_) => "TLS clients get the default certificate and reject it",
            None => "the TLS handshake fails",
        };
        format!("no certificate covers {host}{scope}: {effect}; add a certificate for it")
    }
}

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
        let table = CertTable::load(&certificates).unwrap();
        let found = table.uncovered(&routes(&[
            "a.example",
            "x.w.example",
            "*.w.example",
            "127.0.0.1",
            "[::1]",
            "*",
        ]));
        assert_eq!(found, []);
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
        let keys: Vec<&str> = found.iter().map(|diagnostic| diagnostic.key.as_str()).collect();
        assert_eq!(keys, ["route[1].host", "route[2].host", "route[3].host", "route[4].host"]);
        let [first, _, third, _] = &found[..] else { panic!("{found:?}") };
        assert!(first.problem.contains("b.example: TLS clients get the default certificate"));
        assert!(third.problem.contains("*.a.example completely"));
        let table = CertTable::load(&certificates[..1]).unwrap();
        let found = table.uncovered(&routes(&["b.example"]));
        assert!(found[0].problem.contains("the TLS handshake fails"), "{found:?}");
    }
}
