//! Warnings about `[acme]` that is valid, and with which no certificate can be issued.

use super::settings::Settings;
use super::settings::acme::{AcmeCertificate, AcmeSettings, ChallengeKind};
use super::toml::late_diagnostic::LateDiagnostic;

impl Settings {
    /// One warning if the authority connects to a port that no listener has, and one for each of the `ordered`
    /// certificates with a name that public authorities do not know.
    pub fn acme_warnings<'c>(
        &self,
        ordered: impl Iterator<Item = &'c AcmeCertificate>,
    ) -> Vec<LateDiagnostic> {
        let Some(acme) = &self.acme else { return Vec::new() };
        let ordered: Vec<&AcmeCertificate> = ordered.collect();
        let unreachable = self.unreachable_port(acme).filter(|_| !ordered.is_empty());
        let local = ordered.into_iter().filter_map(|certificate| local_name(acme, certificate));
        unreachable.into_iter().chain(local).collect()
    }

    /// The port that the challenge needs (RFC 8737 3, RFC 8555 8.3). An authority on this machine may use another.
    fn unreachable_port(&self, acme: &AcmeSettings) -> Option<LateDiagnostic> {
        let (port, tls) = match acme.challenge {
            ChallengeKind::TlsAlpn01 => (443, true),
            ChallengeKind::Http01 => (80, false),
            ChallengeKind::Dns01 => return None,
        };
        let mut listeners = self.listeners.iter().filter(|listener| listener.tls == tls);
        if is_local(directory_host(acme))
            || listeners.any(|listener| listener.address.port() == port)
        {
            return None;
        }
        let (kind, what) = (acme.challenge.as_str(), if tls { "with TLS" } else { "without TLS" });
        let problem = format!(
            "for the challenge {kind} the authority connects to port {port}, where no [[listener]] {what} is: add \
             one, let a router forward the port, or write challenge = \"dns-01\" with a dns_hook"
        );
        // A key that is not in the file has no place there.
        let key = match self.source_map.line("acme.challenge") {
            Some(_) => "acme.challenge",
            None => "acme.accept_terms",
        };
        Some(LateDiagnostic { key: key.to_owned(), problem })
    }
}

fn local_name(acme: &AcmeSettings, certificate: &AcmeCertificate) -> Option<LateDiagnostic> {
    let host = directory_host(acme);
    if !PUBLIC_AUTHORITIES.iter().any(|public| is_at_or_below(host, public)) {
        return None;
    }
    let name = certificate.names.iter().find(|name| is_local(name))?;
    let problem = format!(
        "{host} issues no certificate for {name}, which is not a public name: use files, as in [[certificate]] with \
         chain and key, or the directory of an authority of your own"
    );
    Some(LateDiagnostic { key: certificate.requested_by.clone(), problem })
}

/// The host of the directory's URL.
fn directory_host(acme: &AcmeSettings) -> &str {
    let authority = acme.directory.split("://").nth(1).unwrap_or_default();
    let authority = authority.split('/').next().unwrap_or_default();
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        Some(_) | None => authority,
    }
}

/// Whether a host is no name of the public DNS: an address, a name of one label, or below a domain that is reserved
/// for local networks, tests or examples (RFC 2606, 6761, 6762, 8375).
fn is_local(host: &str) -> bool {
    let is_address = host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok();
    let bare = host.strip_prefix("*.").unwrap_or(host);
    is_address || !bare.contains('.') || LOCAL.iter().any(|local| is_at_or_below(bare, local))
}

fn is_at_or_below(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// Those that issue only for names of the public DNS.
const PUBLIC_AUTHORITIES: [&str; 6] =
    ["letsencrypt.org", "zerossl.com", "pki.goog", "buypass.com", "ssl.com", "actalis.com"];
const LOCAL: [&str; 12] = [
    "corp",
    "example",
    "home",
    "home.arpa",
    "internal",
    "intranet",
    "invalid",
    "lan",
    "local",
    "localdomain",
    "localhost",
    "test",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys and problems with this listener, these keys of `[acme]`, and these names of a certificate.
    fn warnings(address: &str, keys: &str, names: &str) -> Vec<(String, String)> {
        let text = format!(
            "[[listener]]\naddress = \"{address}\"\n[acme]\naccept_terms = true\n{keys}\n\
             [[certificate]]\nacme = true\nnames = [{names}]\n\
             [[route]]\nhost = \"*\"\norigins = [\"*\"]\nbackends = [\"127.0.0.1:2\"]\n"
        );
        let settings = Settings::parse(&text, "").unwrap();
        let acme = settings.acme.as_ref().unwrap();
        let names: Vec<String> =
            names.split(", ").map(|name| name.trim_matches('"').to_owned()).collect();
        let certificate = AcmeCertificate::new(acme, names, "certificate[0].names".to_owned());
        let found = settings.acme_warnings(std::iter::once(&certificate));
        assert!(settings.acme_warnings(std::iter::empty()).is_empty());
        found.into_iter().map(|late| (late.key, late.problem)).collect()
    }

    #[test]
    fn port_that_the_authority_connects_to_is_needed() {
        let public = "\"chat.example.com\"";
        assert_eq!(warnings("0.0.0.0:443", "", public), []);
        let found = warnings("0.0.0.0:8443", "", public);
        assert_eq!((found.len(), found[0].0.as_str()), (1, "acme.accept_terms"), "{found:?}");
        assert!(found[0].1.contains("connects to port 443"), "{found:?}");
        let plain = "[[listener]]\naddress = \"0.0.0.0:8080\"\ntls = false";
        let keys = format!("challenge = \"http-01\"\n{plain}");
        let found = warnings("0.0.0.0:443", &keys, public);
        assert_eq!((found.len(), found[0].0.as_str()), (1, "acme.challenge"), "{found:?}");
        assert!(found[0].1.contains("connects to port 80"), "{found:?}");
        assert_eq!(warnings("0.0.0.0:443", &keys.replace("8080", "80"), public), []);
        for keys in [
            "challenge = \"dns-01\"\ndns_hook = \"hook\"",
            "directory = \"https://localhost:14000/dir\"",
            "directory = \"https://[::1]/dir\"",
        ] {
            assert_eq!(warnings("0.0.0.0:8443", keys, public), [], "{keys}");
        }
    }

    #[test]
    fn public_authorities_know_only_public_names() {
        for name in [
            "chat.local",
            "a.b.internal",
            "chat.lan",
            "x.home.arpa",
            "chat.test",
            "localhost",
            "chat",
        ] {
            let found = warnings("0.0.0.0:443", "", &format!("\"a.example.com\", \"{name}\""));
            assert_eq!((found.len(), found[0].0.as_str()), (1, "certificate[0].names"), "{name}");
            assert!(found[0].1.contains(&format!("for {name}, which")), "{found:?}");
            let own = "directory = \"https://ca.corp.example.com/directory\"";
            assert_eq!(warnings("0.0.0.0:443", own, &format!("\"{name}\"")), [], "{name}");
        }
        for name in ["chat.example.com", "local.example.com", "mylocal.org", "latest.net"] {
            assert_eq!(warnings("0.0.0.0:443", "", &format!("\"{name}\"")), [], "{name}");
        }
    }
}
