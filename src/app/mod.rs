//! The composition root: builds the parts, binds the sockets, serves until a signal stops it, and
//! drains. The only folder that knows all others. SIGHUP and the other signals are handled in
//! [`run`], reloads in [`server::reload`](crate::server::reload); the path of one connection is in
//! [`proxy`](crate::proxy).

pub mod run;
pub(crate) mod start;
pub(crate) mod stop;

use std::path::Path;

use crate::config::settings::Settings;
use crate::config::toml::diagnostic::Diagnostics;
use crate::config::toml::late_diagnostic::LateDiagnostic;
use crate::config::trusted_proxies::TrustedProxies;
use crate::proxy::capacity::Capacity;
use crate::proxy::snapshot::Snapshot;
use crate::sys::clock::wall;
use crate::sys::descriptors;
use crate::telemetry::timestamp::rfc3339;
use crate::tls::certs::issued::{covers, validity_of};
use crate::tls::certs::ordered_cert::OrderedCert;
use crate::tls::terminate::ticketer;

/// Why the process could not start, or ended with an error.
#[derive(Debug)]
pub enum RunError {
    /// The configuration does not work on this machine.
    Settings(Vec<LateDiagnostic>),
    /// The operating system refused something.
    System(String),
    /// A task that the process depends on has ended.
    Task(String),
}

/// Reads a configuration file.
///
/// # Errors
/// All errors of the file, and those of the certificates and limits that it names.
pub fn load(path: &Path) -> Result<Settings, Diagnostics> {
    Settings::load_with(path, |settings| {
        Snapshot::errors_outside(settings, descriptors::raise_limit())
    })
}

/// A configuration that would start.
#[derive(Debug)]
pub struct CheckedConfig {
    /// Warnings about it.
    pub warnings: Vec<LateDiagnostic>,
    /// The proxies it trusts.
    pub trusted_proxies: TrustedProxies,
    /// A line for each certificate that tidegate gets itself.
    pub ordered: Vec<String>,
}

/// What would be done for each certificate that is ordered.
fn ordered(snapshot: &Snapshot) -> Vec<String> {
    let (Some(certs), Some(acme)) = (snapshot.certs(), &snapshot.settings.acme) else {
        return Vec::new();
    };
    let line = |of: &OrderedCert| {
        let names = of.certificate.names.join(", ");
        match of.issued.as_deref() {
            Some(issued) if covers(issued, &of.certificate.names) => {
                let (_, until) = validity_of(issued);
                format!("{names}: has a certificate until {}, which is renewed", rfc3339(until))
            }
            Some(_) | None => format!(
                "{names}: a certificate would be ordered from {} with {}",
                acme.directory,
                acme.challenge.as_str()
            ),
        }
    };
    certs.ordered().iter().map(line).collect()
}

/// The limit of open files, which must leave room for connections.
fn open_files(settings: &Settings) -> Result<usize, RunError> {
    let descriptors = descriptors::raise_limit();
    Capacity::check_descriptors(settings.listeners.len(), descriptors).map_err(RunError::System)?;
    Ok(descriptors)
}

/// Validates a configuration as [`run`](run::run) would, without binding anything.
///
/// # Errors
/// Everything that would keep the process from starting, except for sockets.
pub fn check(settings: Settings) -> Result<CheckedConfig, RunError> {
    let ticketer = ticketer().map_err(|error| RunError::System(error.to_string()))?;
    let descriptors = open_files(&settings)?;
    Snapshot::build(settings, None, &ticketer, descriptors)
        .map(|snapshot| CheckedConfig {
            warnings: snapshot.warnings(wall()),
            ordered: ordered(&snapshot),
            trusted_proxies: snapshot.trusted_proxies,
        })
        .map_err(RunError::Settings)
}
