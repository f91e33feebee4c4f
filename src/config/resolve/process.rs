//! Timeouts, drain parameters, log messages and access records.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::defaults::{optional_file, value_or};
use super::scope::KeyScope;
use crate::config::schema::ConfigFile;
use crate::config::schema::process::RequestTimeoutsTable;
use crate::config::settings::{
    AccessSettings, AccessTarget, DrainSettings, ERROR_PAGES, LogFormat, LogSettings,
    RequestTimeouts, Timeouts,
};
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::sink::DiagnosticSink;
use crate::config::toml::value::{Located, Parsed};
use crate::config::values::scalars::OrOff;
use crate::config::values::targets::RecordTarget;
use crate::config::values::units::show_duration;

/// Timeouts before a tunnel is open.
pub(crate) fn timeouts(file: &ConfigFile) -> Timeouts {
    let given = &file.timeouts;
    Timeouts {
        proxy_header: value_or(&given.proxy_header, Duration::from_secs(3)),
        tls: value_or(&given.tls, Duration::from_secs(10)),
        request_header: value_or(&given.request_header, Duration::from_secs(10)),
        keep_alive: value_or(&given.keep_alive, Duration::from_secs(75)),
        requests: request_timeouts(&KeyScope::new(None, &given.requests)),
    }
}

/// Timeouts of the requests of a route.
pub(crate) fn request_timeouts(keys: &KeyScope<'_, RequestTimeoutsTable>) -> RequestTimeouts {
    let value = |parsed: &Parsed<Duration>, seconds| value_or(parsed, Duration::from_secs(seconds));
    RequestTimeouts {
        connect: value(keys.pick(|keys| &keys.connect), 5),
        // A handshake may wait until the application has started, for example a notebook's kernel.
        response_header: value(keys.pick(|keys| &keys.response_header), 60),
        idle: value(keys.pick(|keys| &keys.idle), 120),
        min_body_rate: keys
            .pick(|keys| &keys.min_body_rate)
            .value()
            .map_or(NonZeroU64::new(500), |rate| rate.0.map(|rate| rate.0)),
        backend_keep_alive: value_or(
            keys.pick(|keys| &keys.backend_keep_alive),
            OrOff(Some(Duration::from_secs(5))),
        )
        .0,
    }
}

/// Parameters of a drain.
pub(crate) fn drain(file: &ConfigFile, sink: &mut DiagnosticSink<'_>) -> DrainSettings {
    let given = &file.drain;
    let drain = DrainSettings {
        delay: value_or(&given.delay, OrOff(None)).0,
        window: value_or(&given.window, Duration::from_secs(10)),
        rate: value_or(&given.rate, OrOff(None)).0.map(|rate| rate.0),
        deadline: value_or(&given.deadline, Duration::from_secs(30)),
    };
    let invalid = given.window.is_invalid() || given.deadline.is_invalid();
    if let (Some(location), false) =
        (given.window.location().or(given.deadline.location()), invalid)
        && drain.window >= drain.deadline
    {
        let (window, deadline) = (show_duration(drain.window), show_duration(drain.deadline));
        sink.report(
            location,
            Problem::new(format!(
                "drain.window = {window} is not shorter than drain.deadline = {deadline}"
            ))
            .help("closes are spread over the window, and remaining tunnels are aborted at the deadline"),
        );
    }
    drain
}

/// The files of error responses.
pub(crate) fn error_pages(file: &ConfigFile, dir: &Path) -> [Option<PathBuf>; ERROR_PAGES.len()] {
    file.error_pages.0.each_ref().map(|given| optional_file(given, dir))
}

/// Settings of log messages.
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

/// Settings of access records.
pub(crate) fn access(
    file: &ConfigFile,
    dir: &Path,
    sink: &mut DiagnosticSink<'_>,
) -> AccessSettings {
    let given = &file.access;
    let to = match &given.to {
        Parsed::Valid(Located { value: RecordTarget::File(path), location }) => {
            let path = dir.join(path);
            if let Some(key) = key_of_file(file, dir, &path) {
                let problem = Problem::new(format!("{} is already used as {key}", path.display()));
                sink.report(
                    location,
                    problem.help("access records would be appended to it: name another file"),
                );
            }
            AccessTarget::File(path)
        }
        Parsed::Valid(Located { value: RecordTarget::Stderr, .. })
        | Parsed::Missing
        | Parsed::Invalid => AccessTarget::Stderr,
    };
    let log = value_or(&file.log.format, LogFormat::Text);
    AccessSettings {
        to,
        format: value_or(&given.format, log),
        start: value_or(&given.start, false),
        records_per_client: given
            .records_per_client
            .value()
            .map_or(NonZeroU32::new(20), |rate| rate.0.map(|rate| rate.0)),
    }
}

/// The certificate key that names the same file.
fn key_of_file<'f>(file: &'f ConfigFile, dir: &Path, path: &Path) -> Option<&'f str> {
    let tables = file.certificates.value().into_iter().flatten();
    let files = tables.flat_map(|table| [&table.chain, &table.key]);
    // "./key.pem" and "key.pem" are the same file.
    let normalized = |path: &Path| {
        path.components().filter(|step| *step != Component::CurDir).collect::<PathBuf>()
    };
    let same = |file: &&Located<PathBuf>| normalized(&dir.join(&file.value)) == normalized(path);
    files.filter_map(Parsed::located).find(same).map(|file| file.location.key.as_str())
}

/// Query parameters that commonly carry credentials, as a whole name or as one word of it.
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
