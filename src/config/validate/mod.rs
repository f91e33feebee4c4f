//! What was written becomes what is true: defaults filled in, keys compared with one another.
//! Every rule between two keys lives in this folder and nowhere else. A key that was already
//! complained about takes part in no rule.

mod addresses;
mod limits;
mod listeners;
mod names;
mod routes;

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use self::addresses::Addresses;
use super::fault::Complaint;
use super::file::{CertificateTable, ConfigFile};
use super::findings::Findings;
use super::kinds::OrAuto;
use super::reader::{At, Given};
use super::settings::{
    CertificateSettings, CertificateSource, DrainSettings, LogFormat, LogSettings, Settings,
    Timeouts,
};
use super::units::show_duration;
use crate::visitor::KeyPrefixes;

/// The configuration, true only if nothing was found: faulty parts are left out or defaulted.
pub(super) fn validate(file: &ConfigFile, folder: &Path, findings: &mut Findings<'_>) -> Settings {
    let mut addresses = Addresses::default();
    let listeners = listeners::listeners(file, &mut addresses, findings);
    let admin = listeners::admin(file, &mut addresses, findings);
    let both = KeyPrefixes::default();
    Settings {
        workers: workers(file, findings),
        listeners,
        certificates: certificates(file, folder, findings),
        routes: routes::routes(file, &addresses, findings),
        client_key: KeyPrefixes {
            v4: file.client_key.ipv4_prefix.value().map_or(both.v4, |bits| bits.0),
            v6: file.client_key.ipv6_prefix.value().map_or(both.v6, |bits| bits.0),
        },
        caps: limits::caps(file, findings),
        timeouts: timeouts(file),
        drain: drain(file, findings),
        admin,
        log: log(file),
    }
}

/// The value, or the default.
fn value_or<T: Clone>(given: &Given<T>, default: T) -> T {
    given.value().cloned().unwrap_or(default)
}

/// As many as the file says, where the program counts with `usize`.
fn count(number: NonZeroU32) -> usize {
    usize::try_from(number.get()).unwrap_or(usize::MAX)
}

fn workers(file: &ConfigFile, findings: &mut Findings<'_>) -> usize {
    match &file.workers {
        Given::Here(At { value: OrAuto(Some(workers)), place }) => {
            if workers.get() > WORKERS_MAX {
                let wrong = Complaint::new(format!("{workers} threads are more than anyone needs"));
                findings.fault(place, wrong.help(format!("write \"auto\", or 1 to {WORKERS_MAX}")));
            }
            count(*workers)
        }
        Given::Here(_) | Given::Absent | Given::Faulty => {
            std::thread::available_parallelism().map_or(1, usize::from)
        }
    }
}

fn certificates(
    file: &ConfigFile,
    folder: &Path,
    findings: &mut Findings<'_>,
) -> Vec<CertificateSettings> {
    let tables = file.certificates.value().map_or(&[][..], Vec::as_slice);
    let mut defaults = tables.iter().filter_map(|table| table.default.here().filter(|at| at.value));
    if let Some(first) = defaults.next() {
        for second in defaults {
            let wrong = Complaint::new(format!("there is a default already: {}", first.place.key));
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

fn timeouts(file: &ConfigFile) -> Timeouts {
    let given = &file.timeouts;
    Timeouts {
        tls: value_or(&given.tls, Duration::from_secs(10)),
        head: value_or(&given.head, Duration::from_secs(10)),
        dial: value_or(&given.dial, Duration::from_secs(5)),
        backend_answer: value_or(&given.backend_answer, Duration::from_secs(10)),
        http_silence: value_or(&given.http_silence, Duration::from_secs(120)),
    }
}

fn drain(file: &ConfigFile, findings: &mut Findings<'_>) -> DrainSettings {
    let given = &file.drain;
    let drain = DrainSettings {
        window: value_or(&given.window, Duration::from_secs(10)),
        deadline: value_or(&given.deadline, Duration::from_secs(30)),
    };
    let faulty = given.window.is_faulty() || given.deadline.is_faulty();
    if let (Some(place), false) = (given.window.place().or(given.deadline.place()), faulty)
        && drain.window >= drain.deadline
    {
        let (window, deadline) = (show_duration(drain.window), show_duration(drain.deadline));
        findings.fault(
            place,
            Complaint::new(format!(
                "drain.window = {window} is not shorter than drain.deadline = {deadline}"
            ))
            .help("closes are spread over the window, what is left at the deadline is cut"),
        );
    }
    drain
}

fn log(file: &ConfigFile) -> LogSettings {
    let redact = match file.log.redact.value() {
        Some(names) => names.iter().map(|name| name.value.0.clone()).collect(),
        None => REDACT.iter().map(|name| (*name).to_owned()).collect(),
    };
    LogSettings {
        format: value_or(&file.log.format, LogFormat::Text),
        level: value_or(&file.log.level, tracing::Level::INFO),
        redact,
    }
}

/// Parameters that carry credentials by custom, as a name or as one word of it.
const REDACT: [&str; 24] = [
    "token",
    "access_token",
    "id_token",
    "refresh_token",
    "jwt",
    "ticket",
    "key",
    "api_key",
    "apikey",
    "sid",
    "session",
    "sessionid",
    "jsessionid",
    "auth",
    "authorization",
    "bearer",
    "password",
    "passwd",
    "pass",
    "pwd",
    "secret",
    "signature",
    "sig",
    "code",
];
const WORKERS_MAX: u32 = 1024;
