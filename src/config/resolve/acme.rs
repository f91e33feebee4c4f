//! `[acme]`, and the certificates that are ordered.

use std::collections::HashMap;
use std::env;
use std::path::{Path, PathBuf};

use super::defaults::{optional_file, value_or};
use crate::config::schema::ConfigFile;
use crate::config::schema::acme::AcmeTable;
use crate::config::schema::listener::CertificateTable;
use crate::config::settings::acme::{
    AcmeCertificate, AcmeSettings, ChallengeKind, ExternalAccount, UntilIssued,
};
use crate::config::toml::diagnostic::{Location, Problem};
use crate::config::toml::sink::DiagnosticSink;
use crate::config::toml::value::Parsed;
use crate::config::values::acme::DirectoryUrl;
use crate::config::values::pool::TrustedIssuers;
use crate::config::values::scalars::OrOff;

/// The settings of `[acme]`; `None` if the file has no such table.
pub(super) fn acme(
    file: &ConfigFile,
    dir: &Path,
    sink: &mut DiagnosticSink<'_>,
) -> Option<AcmeSettings> {
    let given = &file.acme;
    let wanted = file.certificates.value().into_iter().flatten().find_map(asks_for_order);
    if !given.is_present {
        if let Some(location) = wanted {
            let problem = Problem::new("certificates are ordered only if there is [acme]");
            sink.report(location, problem.help("add\n[acme]\naccept_terms = true"));
        }
        return None;
    }
    check_terms(given, sink);
    check_challenge(file, sink);
    Some(AcmeSettings {
        email: value_or(&given.email, OrOff(None)).0.map(|email| email.0),
        directory: value_or(&given.directory, DirectoryUrl::lets_encrypt()).0,
        ca: value_or(&given.ca, TrustedIssuers(None)).0.map(|path| dir.join(path)),
        profile: value_or(&given.profile, OrOff(None)).0.map(|name| name.0.to_string()),
        external_account: external_account(given, dir, sink),
        state_directory: match given.state_directory.value() {
            Some(path) => dir.join(path),
            None => state_directory(),
        },
        until_issued: value_or(&given.until_issued, UntilIssued::Wait),
        challenge: value_or(&given.challenge, ChallengeKind::TlsAlpn01),
        dns_hook: optional_file(&given.dns_hook, dir),
    })
}

/// The certificate of a table with `acme = true`; `None` if it cannot be ordered.
pub(super) fn ordered(
    table: &CertificateTable,
    acme: Option<&AcmeSettings>,
    index: usize,
) -> Option<AcmeCertificate> {
    asks_for_order(table)?;
    let names = table.names.value()?.iter().map(|name| name.value.0.clone()).collect();
    Some(AcmeCertificate::new(acme?, names, format!("certificate[{index}].names")))
}

/// Checks the keys of all `[[certificate]]` tables against each other and against `[acme]`.
pub(super) fn check_certificates(file: &ConfigFile, sink: &mut DiagnosticSink<'_>) {
    let challenge = value_or(&file.acme.challenge, ChallengeKind::TlsAlpn01);
    let wildcards = challenge == ChallengeKind::Dns01 || file.acme.challenge.is_invalid();
    let mut folders: HashMap<&str, &Location> = HashMap::new();
    for table in file.certificates.value().into_iter().flatten() {
        let Some(acme) = asks_for_order(table) else {
            if let Some(names) = table.names.located().filter(|names| !names.value.is_empty()) {
                let problem = Problem::new("the names in the file of the certificate decide");
                sink.report(
                    &names.location,
                    problem.help("remove names, or order it with acme = true"),
                );
            }
            continue;
        };
        for path in [&table.chain, &table.key] {
            if let Some(location) = path.location() {
                let problem =
                    Problem::new(format!("this certificate is ordered: {} = true", acme.key));
                sink.report(location, problem.help("remove chain and key, or acme"));
            }
        }
        let names = table.names.value().into_iter().flatten();
        for name in names.clone().filter(|name| !wildcards && name.value.0.starts_with("*.")) {
            let problem = Problem::new(format!(
                "a certificate for {} needs a challenge by DNS",
                name.value.0
            ));
            let help =
                "write in [acme]: challenge = \"dns-01\" and dns_hook = \"/path/of/a/program\"";
            sink.report(&name.location, problem.help(help));
        }
        let Some(first) = names.clone().next() else {
            if let Some(location) = table.names.location() {
                let problem = Problem::new("a certificate needs a name");
                sink.report(location, problem.help("write names = [\"chat.example.com\"]"));
            }
            continue;
        };
        if let Some(other) = folders.insert(&first.value.0, &first.location) {
            let problem = format!("{} is already the first name of {}", first.value.0, other.key);
            let help = "list all names of a certificate in one table, or begin with another one";
            sink.report(&first.location, Problem::new(problem).help(help));
        }
    }
}

/// The location of `acme = true`.
fn asks_for_order(table: &CertificateTable) -> Option<&Location> {
    table.acme.located().filter(|acme| acme.value).map(|acme| &acme.location)
}

fn check_terms(given: &AcmeTable, sink: &mut DiagnosticSink<'_>) {
    let location = match &given.accept_terms {
        Parsed::Valid(accepted) if accepted.value => return,
        Parsed::Invalid => return,
        Parsed::Valid(refused) => &refused.location,
        Parsed::Missing => &given.location,
    };
    let problem =
        Problem::new("certificates are issued only to those who accept the authority's terms");
    let help = "read them (https://letsencrypt.org/repository for Let's Encrypt), and write accept_terms = true";
    sink.report(location, problem.help(help));
}

/// The challenge must be answered by something.
fn check_challenge(file: &ConfigFile, sink: &mut DiagnosticSink<'_>) {
    let given = &file.acme;
    let location = given.challenge.location().unwrap_or(&given.location);
    let challenge = value_or(&given.challenge, ChallengeKind::TlsAlpn01);
    let listeners = file.listeners.value().map_or(&[][..], Vec::as_slice);
    let has = |tls: bool| listeners.iter().any(|table| value_or(&table.tls, true) == tls);
    if given.challenge.is_invalid() || given.dns_hook.is_invalid() || listeners.is_empty() {
        return;
    }
    if !has(true) {
        let problem = Problem::new("no listener uses TLS, so no certificate is needed");
        sink.report(
            &given.location,
            problem.help("remove [acme], or tls = false in a [[listener]]"),
        );
    } else if challenge == ChallengeKind::Http01 && !has(false) {
        let problem =
            Problem::new("the authority connects to port 80, and every listener uses TLS");
        let help = "add\n[[listener]]\naddress = \"0.0.0.0:80\"\ntls = false\nredirect = \"https\"";
        sink.report(location, problem.help(help));
    }
    let hook = given.dns_hook.located().filter(|hook| hook.value.0.is_some());
    match (challenge, hook) {
        (ChallengeKind::Dns01, None) => {
            let problem = Problem::new("no program sets the DNS records of this challenge");
            sink.report(location, problem.help("add dns_hook = \"/path/of/a/program\""));
        }
        (ChallengeKind::TlsAlpn01 | ChallengeKind::Http01, Some(hook)) => {
            let problem = Problem::new(format!("{} needs no DNS record", challenge.as_str()));
            sink.report(&hook.location, problem.help("add challenge = \"dns-01\", or remove it"));
        }
        (_, _) => {}
    }
}

fn external_account(
    given: &AcmeTable,
    dir: &Path,
    sink: &mut DiagnosticSink<'_>,
) -> Option<ExternalAccount> {
    let key_id = given.eab_key_id.value().and_then(|id| id.0.as_ref());
    let key_file = optional_file(&given.eab_key_file, dir);
    let is_complete = !given.eab_key_id.is_invalid() && !given.eab_key_file.is_invalid();
    let (location, missing) = match (key_id, key_file) {
        (Some(key_id), Some(key_file)) => {
            return Some(ExternalAccount { key_id: key_id.0.to_string(), key_file });
        }
        (Some(_), None) => (given.eab_key_id.location(), "eab_key_file = \"eab.key\""),
        (None, Some(_)) => (given.eab_key_file.location(), "eab_key_id = \"...\""),
        (None, None) => return None,
    };
    if let (Some(location), true) = (location, is_complete) {
        let problem = Problem::new("an external account consists of eab_key_id and eab_key_file");
        sink.report(location, problem.help(format!("add {missing}")));
    }
    None
}

/// The first folder in `$STATE_DIRECTORY`, in which systemd separates several by colons, or that of the shipped
/// unit.
fn state_directory() -> PathBuf {
    let directories = env::var_os("STATE_DIRECTORY").unwrap_or_default();
    let first = env::split_paths(&directories).next().filter(|first| first.is_absolute());
    first.unwrap_or_else(|| PathBuf::from(STATE_FOLDER))
}

const STATE_FOLDER: &str = "/var/lib/tidegate";
