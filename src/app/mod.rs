//! The composition root: builds the parts, binds the sockets, serves until told to stop, and drains.
//! The only folder that knows all others; the path of one connection is in [`proxy`](crate::proxy).

pub mod serve;

use crate::config::settings::Settings;
use crate::config::toml::late_diagnostic::LateDiagnostic;
use crate::proxy::snapshot::Snapshot;
use crate::sys::clock::wall;
use crate::sys::descriptors;

/// Why the process could not begin to serve, or cannot go on.
#[derive(Debug)]
pub enum StartError {
    /// The configuration cannot be met here.
    Settings(Vec<LateDiagnostic>),
    /// The machine refused something.
    Machine(String),
    /// A task that it cannot do without has ended.
    Broken(String),
}

/// Judges a configuration as [`run`] would, but binds nothing. What is good may yet be worth a
/// look.
pub fn check(settings: Settings) -> Result<Vec<LateDiagnostic>, StartError> {
    let ticketer = crate::tls::terminate::ticketer()
        .map_err(|error| StartError::Machine(error.to_string()))?;
    Snapshot::build(settings, None, &ticketer, descriptors::raise_limit())
        .map(|generation| generation.warnings(wall()))
        .map_err(StartError::Settings)
}
