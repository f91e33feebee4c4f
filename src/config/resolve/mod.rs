//! What was written becomes what is true: defaults filled in, keys compared with one another.
//! Every rule between two keys lives in this folder and nowhere else. A key that was already
//! complained about takes part in no rule.

pub(crate) mod addresses;
pub(crate) mod caps;
pub(crate) mod headers;
pub(crate) mod listeners;
pub(crate) mod log_targets;
pub(crate) mod names;
pub(crate) mod process;
pub(crate) mod routes;
pub(crate) mod scope;
pub(crate) mod terms;
pub(crate) mod trusted;
pub(crate) mod unmet;

use std::num::NonZeroU32;
use std::path::Path;

use self::addresses::Addresses;
use super::schema::ConfigFile;
use super::schema::listener::CertificateTable;
use super::settings::{CertificateSettings, CertificateSource, Settings};
use super::toml::diagnostic::Problem;
use super::toml::findings::DiagnosticSink;
use super::toml::reader::{Located, Parsed};
use super::values::scalars::OrAuto;
use super::written::SourceMap;
use crate::client::KeyPrefixes;

/// The configuration, true only if nothing was found: faulty parts are left out or defaulted.
pub(crate) fn validate(
    file: &ConfigFile,
    folder: &Path,
    findings: &mut DiagnosticSink<'_>,
) -> Settings {
    let mut addresses = Addresses::default();
    let trusted = trusted::trusted(file, findings);
    let listeners = listeners::listeners(file, &mut addresses, findings);
    let admin = listeners::admin(file, &mut addresses, findings);
    let both = KeyPrefixes::default();
    let (routes, common) = routes::routes(file, &addresses, findings);
    Settings {
        file: None,
        workers: workers(file, findings),
        listeners,
        certificates: certificates(file, folder, findings),
        routes,
        client_key: KeyPrefixes {
            v4: file.client_key.ipv4_prefix.value().map_or(both.v4, |bits| bits.0),
            v6: file.client_key.ipv6_prefix.value().map_or(both.v6, |bits| bits.0),
        },
        trusted,
        concurrency: caps::concurrency(file, findings),
        rates: caps::rates(file),
        timeouts: process::timeouts(file),
        drain: process::drain(file, findings),
        admin,
        control: listeners::control(file, folder, findings),
        log: process::log(file),
        access: process::access(file, folder, findings),
        written: SourceMap {
            common,
            heartbeat_timeouts: terms::heartbeat_timeouts(file),
            workers_auto: !matches!(file.server.workers.value(), Some(OrAuto(Some(_)))),
            admin: Some(listeners::admin_written(file)),
            ..SourceMap::default()
        },
    }
}

/// The value, or the default.
fn value_or<T: Clone>(given: &Parsed<T>, default: T) -> T {
    given.value().cloned().unwrap_or(default)
}

/// As many as the file says, where the program counts with `usize`.
fn count(number: NonZeroU32) -> usize {
    usize::try_from(number.get()).unwrap_or(usize::MAX)
}

fn workers(file: &ConfigFile, findings: &mut DiagnosticSink<'_>) -> usize {
    match &file.server.workers {
        Parsed::Here(Located { value: OrAuto(Some(workers)), place }) => {
            if workers.get() > WORKERS_MAX {
                let wrong = Problem::new(format!("{workers} threads are more than anyone needs"));
                findings.fault(place, wrong.help(format!("write \"auto\", or 1 to {WORKERS_MAX}")));
            }
            count(*workers)
        }
        Parsed::Here(_) | Parsed::Absent | Parsed::Faulty => {
            std::thread::available_parallelism().map_or(1, usize::from)
        }
    }
}

fn certificates(
    file: &ConfigFile,
    folder: &Path,
    findings: &mut DiagnosticSink<'_>,
) -> Vec<CertificateSettings> {
    let tables = file.certificates.value().map_or(&[][..], Vec::as_slice);
    let mut defaults = tables.iter().filter_map(|table| table.default.here().filter(|at| at.value));
    if let Some(first) = defaults.next() {
        for second in defaults {
            let wrong = Problem::new(format!("there is a default already: {}", first.place.key));
            let help = "leave one default = true: it serves clients whose name no certificate has";
            findings.fault(&second.place, wrong.help(help));
        }
    }
    let certificate = |table: &CertificateTable| {
        Some(CertificateSettings {
            source: CertificateSource::Files {
                chain: folder.join(table.chain.value()?),
                key: folder.join(table.key.value()?),
            },
            default: value_or(&table.default, false),
        })
    };
    tables.iter().filter_map(certificate).collect()
}

const WORKERS_MAX: u32 = 1024;
