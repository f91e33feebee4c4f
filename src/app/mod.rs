//! The composition root: builds the parts and binds the sockets ([`start`]), serves until told to stop
//! ([`run`]), and drains ([`stop`]). The only folder that knows all others; the path of one connection is
//! in [`proxy`](crate::proxy).

pub mod run;
pub(crate) mod start;
pub(crate) mod stop;

use crate::config::settings::Settings;
use crate::config::toml::late_diagnostic::LateDiagnostic;
use crate::proxy::snapshot::Snapshot;
use crate::sys::clock::wall;
use crate::sys::descriptors;

/// Why the process cannot start, or cannot continue.
#[derive(Debug)]
pub enum StartError {
    /// The configuration cannot be applied on this machine.
    Settings(Vec<LateDiagnostic>),
    /// A system call failed.
    System(String),
    /// A critical task has ended.
    Task(String),
}

/// Validates a configuration as [`run`](run::run) does, without binding sockets. Returns its warnings.
///
/// # Errors
/// [`StartError::Settings`] for an invalid configuration, [`StartError::System`] if no ticket key can be
/// generated.
pub fn check(settings: Settings) -> Result<Vec<LateDiagnostic>, StartError> {
    let ticketer =
        crate::tls::terminate::ticketer().map_err(|error| StartError::System(error.to_string()))?;
    Snapshot::build(settings, None, &ticketer, descriptors::raise_limit())
        .map(|snapshot| snapshot.warnings(wall()))
        .map_err(StartError::Settings)
}
