//! The values of some arguments.

use clap::ValueEnum;

/// Value of the weight argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightArg {
    /// The weight of the configuration file.
    File,
    /// A weight relative to the other backends of a route.
    Value(u32),
}

/// The two states of a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SwitchArg {
    /// Switched on.
    On,
    /// Switched off.
    Off,
}

/// The log levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevelArg {
    /// Failures.
    Error,
    /// Conditions that may lead to failures.
    Warn,
    /// Events of the process.
    Info,
    /// Events of single connections.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevelArg {
    /// The value of `log.level`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Reads a weight, or `file`.
///
/// # Errors
/// The text is neither.
pub fn weight(text: &str) -> Result<WeightArg, String> {
    match text {
        "file" => Ok(WeightArg::File),
        _ => text.parse().map(WeightArg::Value).map_err(|_| {
            "write a whole number, or \"file\" for the weight of the configuration file".to_owned()
        }),
    }
}
