//! Deadlines before a tunnel, how to leave, and where records go.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use crate::config::resolve::value_or;
use crate::config::schema::ConfigFile;
use crate::config::settings::{
    AccessSettings, AccessTarget, DrainSettings, LogFormat, LogSettings, Timeouts,
};
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::findings::DiagnosticSink;
use crate::config::toml::reader::{Located, Parsed};
use crate::config::values::scalars::OrOff;
use crate::config::values::targets::RecordTarget;
use crate::config::values::units::show_duration;

/// How long before the tunnel.
pub(crate) fn timeouts(file: &ConfigFile) -> Timeouts {
    let given = &file.timeouts;
    Timeouts {
        proxy_header: value_or(&given.proxy_header, Duration::from_secs(3)),
        tls: value_or(&given.tls, Duration::from_secs(10)),
        request_header: value_or(&given.request_header, Duration::from_secs(10)),
        connect: value_or(&given.connect, Duration::from_secs(5)),
        response_header: value_or(&given.response_header, Duration::from_secs(10)),
        idle: value_or(&given.idle, Duration::from_secs(120)),
    }
}

/// How to leave.
pub(crate) fn drain(file: &ConfigFile, findings: &mut DiagnosticSink<'_>) -> DrainSettings {
    let given = &file.drain;
    let drain = DrainSettings {
        delay: value_or(&given.delay, OrOff(None)).0,
        window: value_or(&given.window, Duration::from_secs(10)),
        rate: value_or(&given.rate, OrOff(None)).0.map(|rate| rate.0),
        deadline: value_or(&given.deadline, Duration::from_secs(30)),
    };
    let faulty = given.window.is_faulty() || given.deadline.is_faulty();
    if let (Some(place), false) = (given.window.place().or(given.deadline.place()), faulty)
        && drain.window >= drain.deadline
    {
        let (window, deadline) = (show_duration(drain.window), show_duration(drain.deadline));
        findings.fault(
            place,
            Problem::new(format!(
                "drain.window = {window} is not shorter than drain.deadline = {deadline}"
            ))
            .help("closes are spread over the window, what is left at the deadline is cut"),
        );
    }
    drain
}

/// How to speak.
pub(crate) fn log(file: &ConfigFile) -> LogSettings {
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

/// Where the records of connections go.
pub(crate) fn access(
    file: &ConfigFile,
    folder: &Path,
    findings: &mut DiagnosticSink<'_>,
) -> AccessSettings {
    let given = &file.access;
    let to = match &given.to {
        Parsed::Here(Located { value: RecordTarget::File(path), place }) => {
            let path = folder.join(path);
            if let Some(owner) = file_of(file, folder, &path) {
                let wrong = Problem::new(format!("this file is {owner}"));
                findings.fault(place, wrong.help("records are written into it: name another"));
            }
            AccessTarget::File(path)
        }
        Parsed::Here(Located { value: RecordTarget::Stderr, .. })
        | Parsed::Absent
        | Parsed::Faulty => AccessTarget::Stderr,
    };
    let log = value_or(&file.log.format, LogFormat::Text);
    AccessSettings {
        to,
        format: value_or(&given.format, log),
        start: value_or(&given.start, false),
    }
}

/// The key that names this file already.
fn file_of<'f>(file: &'f ConfigFile, folder: &Path, path: &Path) -> Option<&'f str> {
    let tables = file.certificates.value().into_iter().flatten();
    let files = tables.flat_map(|table| [&table.chain, &table.key]);
    // "./key.pem" is "key.pem".
    let plain = |path: &Path| {
        path.components().filter(|step| *step != Component::CurDir).collect::<PathBuf>()
    };
    let same = |at: &&Located<PathBuf>| plain(&folder.join(&at.value)) == plain(path);
    files.filter_map(Parsed::here).find(same).map(|at| at.place.key.as_str())
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
