//! Why a reload was rejected. The error stays a value until it is logged, answered or shown.

use std::fmt;

use crate::config::toml::diagnostic::Diagnostics;
use crate::config::toml::late_diagnostic::LateDiagnostic;
use crate::listener::socket::BindError;
use crate::telemetry::access_log::AccessLogError;

/// Why a reload was rejected; nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// Errors in the file, each with its position.
    Config(#[from] Diagnostics),
    /// Errors in settings that are built into the program and have no position.
    Builtin(Vec<LateDiagnostic>),
    /// The access log cannot be opened.
    AccessLog(#[from] AccessLogError),
    /// A listener address cannot be bound.
    Bind(#[from] BindError),
    /// The task that builds the configuration panicked.
    Panicked,
}

impl ReloadError {
    /// One line per error; of errors in a file, the first 100.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Config(errors) => errors.lines().collect(),
            Self::Builtin(errors) => {
                errors.iter().map(|error| format!("{}: {}", error.key, error.problem)).collect()
            }
            Self::AccessLog(error) => vec![error.to_string()],
            Self::Bind(error) => vec![error.to_string()],
            Self::Panicked => {
                vec!["building the configuration failed: the task panicked".to_owned()]
            }
        }
    }

    /// Number of errors, including those without a line.
    pub fn count(&self) -> usize {
        match self {
            Self::Config(errors) => errors.count(),
            Self::Builtin(errors) => errors.len(),
            Self::AccessLog(_) | Self::Bind(_) | Self::Panicked => 1,
        }
    }
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("\n"))
    }
}
