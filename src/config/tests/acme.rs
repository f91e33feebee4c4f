//! `[acme]`, and certificates that are ordered.

use std::path::Path;

use super::*;
use crate::config::settings::acme::{ChallengeKind, UntilIssued};

/// A listener with TLS, and a route.
const BARE: &str = "[[listener]]\naddress = \"0.0.0.0:443\"\n\
    [[route]]\nhost = \"a.example\"\norigins = [\"missing\"]\nbackends = [\"127.0.0.1:9001\"]\n";
const TERMS: &str = "[acme]\naccept_terms = true\n";

fn errors_of(lines: &str) -> Vec<String> {
    errors(&format!("{BARE}{lines}"))
}

#[test]
fn accepted_terms_are_a_whole_configuration() {
    let settings = parse(&format!("{BARE}{TERMS}"));
    let acme = settings.acme.unwrap();
    assert_eq!(acme.directory, "https://acme-v02.api.letsencrypt.org/directory");
    assert_eq!(
        (acme.challenge, acme.until_issued, acme.email, acme.ca, acme.profile),
        (ChallengeKind::TlsAlpn01, UntilIssued::Wait, None, None, None)
    );
    assert!(settings.certificates.is_empty());
}

#[test]
fn ordered_certificates_have_a_folder_by_their_first_name() {
    let text = format!(
        "{BARE}{TERMS}challenge = \"dns-01\"\ndns_hook = \"hook\"\nstate_directory = \"s\"\n\
         [[certificate]]\nacme = true\nnames = [\"*.B.example.\", \"b.example\"]\n\
         [[certificate]]\nacme = true\nnames = [\"b.example\"]\n"
    );
    let settings = Settings::parse(&text, "/etc/proxy.toml").unwrap();
    let ordered: Vec<_> = settings
        .certificates
        .iter()
        .map(|certificate| match &certificate.source {
            CertificateSource::Acme(ordered) => ordered.clone(),
            CertificateSource::Files { .. } | CertificateSource::Memory { .. } => panic!(),
        })
        .collect();
    assert_eq!(ordered[0].names, ["*.b.example", "b.example"]);
    assert_eq!(ordered[0].folder, Path::new("/etc/s/acme/certificates/_.b.example"));
    assert_eq!(ordered[1].folder, Path::new("/etc/s/acme/certificates/b.example"));
    assert_eq!(ordered[1].requested_by, "certificate[1].names");
    assert_eq!(settings.acme.unwrap().dns_hook.unwrap(), Path::new("/etc/hook"));
}

#[test]
fn added_table_is_one_change() {
    let before = parse(&PLAIN.replace("443", "444"));
    let after = parse(&format!("{PLAIN}{TERMS}email = \"a@example.com\"\n").replace("443", "444"));
    for (before, after) in [(&before, &after), (&after, &before)] {
        let changes = changes(before, after);
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert_eq!((&*changes[0].section, &*changes[0].action), ("acme", "changed"));
        assert!(changes[0].effect.starts_with("takes effect immediately"), "{changes:?}");
    }
}

#[test]
fn terms_must_be_accepted() {
    let start = "certificates are issued only to those who accept the authority's terms (read them";
    for (lines, key) in
        [("[acme]\n", "acme"), ("[acme]\naccept_terms = false\n", "acme.accept_terms")]
    {
        let errors = errors_of(lines);
        assert!(errors[0].starts_with(&format!("{key}: {start}")), "{errors:?}");
        assert_eq!(errors.len(), 1);
    }
}

#[test]
fn challenges_need_what_answers_them() {
    for (lines, expected) in [
        (
            "challenge = \"http-01\"",
            "acme.challenge: the authority connects to port 80, and every listener uses TLS (add",
        ),
        ("challenge = \"dns-01\"", "acme.challenge: no program sets the DNS records"),
        ("dns_hook = \"x\"", "acme.dns_hook: tls-alpn-01 needs no DNS record (add challenge"),
        ("eab_key_id = \"x\"", "acme.eab_key_id: an external account consists of eab_key_id and"),
        ("eab_key_file = \"x\"", "acme.eab_key_file: an external account consists of"),
        (
            "[[certificate]]\nacme = true\nnames = [\"a.example\", \"*.a.example\"]",
            "certificate[0].names[1]: a certificate for *.a.example needs a challenge by DNS (write",
        ),
    ] {
        let errors = errors_of(&format!("{TERMS}{lines}\n"));
        assert!(errors[0].starts_with(expected), "{errors:?}");
        assert_eq!(errors.len(), 1, "{errors:?}");
    }
    let plain = format!("{BARE}{TERMS}").replace("443\"", "80\"\ntls = false");
    let found = errors(&plain);
    assert!(found[0].starts_with("acme: no listener uses TLS, so no certificate"), "{found:?}");
}

#[test]
fn certificates_are_in_files_or_ordered() {
    let ordered = "[[certificate]]\nacme = true\n";
    for (lines, expected) in [
        (
            format!("{ordered}names = [\"a.example\"]\n"),
            "certificate[0].acme: certificates are ordered only if there is [acme] (add [acme]",
        ),
        (format!("{TERMS}{ordered}"), "certificate[0].names: this key is missing (write the hosts"),
        (
            format!("{TERMS}{ordered}names = []\n"),
            "certificate[0].names: a certificate needs a name (write names",
        ),
        (
            format!("{TERMS}{ordered}names = [\"a.example\"]\nkey = \"k\"\n"),
            "certificate[0].key: this certificate is ordered: certificate[0].acme = true (remove",
        ),
        (
            "[[certificate]]\nnames = [\"a.example\"]\nchain = \"c\"\nkey = \"k\"\n".to_owned(),
            "certificate[0].names: the names in the file of the certificate decide (remove names",
        ),
        (
            format!("{TERMS}{}", format!("{ordered}names = [\"a.example\"]\n").repeat(2)),
            "certificate[1].names[0]: a.example is already the first name of \
             certificate[0].names[0] (list all names",
        ),
    ] {
        let errors = errors_of(&lines);
        assert!(errors[0].starts_with(expected), "{errors:?}");
        assert_eq!(errors.len(), 1, "{errors:?}");
    }
    // Chain and key are required for files only.
    assert_eq!(errors_of("[[certificate]]\n").len(), 2);
}

#[test]
fn values_are_checked() {
    for (lines, expected) in [
        ("email = \"admin\"", "acme.email: \"admin\" is not one e-mail address"),
        ("email = \"a@b, c@d\"", "acme.email: \"a@b, c@d\" is not one"),
        ("directory = \"http://ca\"", "acme.directory: \"http://ca\" is not the directory of"),
        ("directory = \"zerossl\"", "acme.directory: \"zerossl\" is not the directory of"),
        ("challenge = \"dns\"", "acme.challenge: expected \"tls-alpn-01\", \"http-01\" or"),
        ("until_issued = \"self\"", "acme.until_issued: expected \"wait\" or \"self-signed\""),
        (
            "[[certificate]]\nacme = true\nnames = [\"192.0.2.1\"]",
            "certificate[0].names[0]: certificates for IP addresses are not ordered",
        ),
        (
            "[[certificate]]\nacme = true\nnames = [\"a.*.example\"]",
            "certificate[0].names[0]: \"a.*.example\" is not a host name",
        ),
    ] {
        let errors = errors_of(&format!("{TERMS}{lines}\n"));
        assert!(errors[0].starts_with(expected), "{errors:?}");
        assert_eq!(errors.len(), 1, "{errors:?}");
    }
    let staging = parse(&format!("{BARE}{TERMS}directory = \"letsencrypt-staging\"\n"));
    assert!(staging.acme.unwrap().directory.contains("acme-staging-v02"));
}
