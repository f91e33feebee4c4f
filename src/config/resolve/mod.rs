//! Converts the tables of the file into settings: applies defaults and checks keys against each
//! other. All rules between keys are in this folder. Keys with errors are excluded from these
//! rules.

pub(crate) mod access_log;
pub(crate) mod acme;
pub(crate) mod address_rules;
pub(crate) mod addresses;
pub(crate) mod canary;
pub(crate) mod choice;
pub(crate) mod concurrency;
pub(crate) mod defaults;
pub(crate) mod headers;
pub(crate) mod ineffective;
pub(crate) mod listeners;
pub(crate) mod names;
pub(crate) mod pin;
pub(crate) mod policy;
pub(crate) mod pool_tls;
pub(crate) mod pools;
pub(crate) mod probe;
pub(crate) mod process;
pub(crate) mod routes;
pub(crate) mod scope;
pub(crate) mod trusted_proxies;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::addresses::ListenAddresses;
use self::defaults::{count, value_or};
use self::pools::Pools;
use super::schema::ConfigFile;
use super::schema::listener::CertificateTable;
use super::settings::acme::AcmeSettings;
use super::settings::{CertificateSettings, CertificateSource, Settings};
use super::source_map::SourceMap;
use super::toml::diagnostic::Problem;
use super::toml::sink::DiagnosticSink;
use super::toml::value::{Located, Parsed};
use super::values::scalars::{OrAuto, WorkerCount};
use crate::client::KeyPrefixes;

/// Converts the file into settings. If errors were reported, the settings are incomplete and must
/// not be used.
pub(crate) fn validate(file: &ConfigFile, dir: &Path, sink: &mut DiagnosticSink<'_>) -> Settings {
    let mut addresses = ListenAddresses::default();
    let trusted_proxies = trusted_proxies::trusted_proxies(file, dir, sink);
    let listeners = listeners::listeners(file, &mut addresses, sink);
    let admin = listeners::admin(file, &mut addresses, sink);
    let prefixes = KeyPrefixes::default();
    let pools = Pools::new(file, dir, &addresses, sink);
    let (routes, top_level_policy) = routes::routes(file, dir, &pools, sink);
    let acme = acme::acme(file, dir, sink);
    Settings {
        file: None,
        workers: workers(file, sink),
        listeners,
        certificates: certificates(file, acme.as_ref(), dir, sink),
        acme,
        routes,
        pools: pools.into_named(),
        client_key: KeyPrefixes {
            v4: file.client_key.ipv4_prefix.value().map_or(prefixes.v4, |bits| bits.0),
            v6: file.client_key.ipv6_prefix.value().map_or(prefixes.v6, |bits| bits.0),
        },
        trusted_proxies,
        concurrency: concurrency::concurrency(file, sink),
        rates: concurrency::rates(file),
        timeouts: process::timeouts(file),
        drain: process::drain(file, sink),
        error_pages: process::error_pages(file, dir),
        admin,
        control: listeners::control(file, dir, sink),
        log: process::log(file),
        access: process::access(file, dir, sink),
        source_map: SourceMap {
            top_level_policy,
            heartbeats: policy::heartbeat_values(file),
            workers_auto: !matches!(file.server.workers.value(), Some(OrAuto(Some(_)))),
            admin: Some(listeners::admin_values(file)),
            ..SourceMap::default()
        },
    }
}

fn workers(file: &ConfigFile, sink: &mut DiagnosticSink<'_>) -> usize {
    match &file.server.workers {
        Parsed::Valid(Located { value: OrAuto(Some(WorkerCount(workers))), location }) => {
            if workers.get() > WORKERS_MAX {
                let problem = Problem::new(format!("{workers} threads are too many"));
                sink.report(
                    location,
                    problem.help(format!("write \"auto\", or 1 to {WORKERS_MAX}")),
                );
            }
            count(*workers)
        }
        Parsed::Valid(_) | Parsed::Missing | Parsed::Invalid => {
            std::thread::available_parallelism().map_or(1, usize::from)
        }
    }
}

fn certificates(
    file: &ConfigFile,
    acme: Option<&AcmeSettings>,
    dir: &Path,
    sink: &mut DiagnosticSink<'_>,
) -> Vec<CertificateSettings> {
    let tables = file.certificates.value().map_or(&[][..], Vec::as_slice);
    let mut defaults =
        tables.iter().filter_map(|table| table.default.located().filter(|key| key.value));
    if let Some(first) = defaults.next() {
        for second in defaults {
            let problem =
                Problem::new(format!("there is already a default: {}", first.location.key));
            let help = "keep one default = true: it is used for names that no certificate covers";
            sink.report(&second.location, problem.help(help));
        }
    }
    acme::check_certificates(file, sink);
    // A file whose path has an error keeps its place, so that errors of the others are reported at theirs.
    let path = |given: &Parsed<PathBuf>| dir.join(given.value().map_or(Path::new(""), |path| path));
    let certificate = |(index, table): (usize, &CertificateTable)| CertificateSettings {
        source: match acme::ordered(table, acme, index) {
            Some(ordered) => CertificateSource::Acme(Arc::new(ordered)),
            None => CertificateSource::Files { chain: path(&table.chain), key: path(&table.key) },
        },
        default: value_or(&table.default, false),
    };
    tables.iter().enumerate().map(certificate).collect()
}

/// Whether `key` is a file of a certificate whose path has an error, so that nothing can be said about it.
pub(crate) fn is_unknown_file(file: &ConfigFile, key: &str) -> bool {
    let tables = file.certificates.value().into_iter().flatten().enumerate();
    tables
        .flat_map(|(index, table)| [(index, "chain", &table.chain), (index, "key", &table.key)])
        .any(|(index, name, path)| {
            path.is_invalid() && key == format!("certificate[{index}].{name}")
        })
}

const WORKERS_MAX: u32 = 1024;
