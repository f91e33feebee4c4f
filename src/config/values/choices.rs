//! Values of which there are only a few, each a word in quotes.

use toml::de::DeValue;
use ws::{Action, Strict};

use super::scalars::unexpected;
use crate::config::settings::{Compression, ForwardedHeader, LogFormat, TlsStreamKind};
use crate::config::toml::diagnostic::Complaint;
use crate::config::toml::nearest::nearest;
use crate::config::toml::reader::Value;

impl Value for Compression {
    fn read(value: &DeValue<'_>) -> Result<Self, Complaint> {
        let choices = [("inspect", Self::Inspect), ("strip", Self::Strip), ("pass", Self::Pass)];
        choice(value, &choices)
    }
}

impl Value for Strict {
    fn read(value: &DeValue<'_>) -> Result<Self, Complaint> {
        choice(value, &[("enforce", Self::Enforce), ("report", Self::Report)])
    }
}

impl Value for Action {
    fn read(value: &DeValue<'_>) -> Result<Self, Complaint> {
        let choices = [("close", Self::Close), ("delay", Self::Delay), ("report", Self::Report)];
        choice(value, &choices)
    }
}

/// What crossing a size, a count or an age leads to: never [`Action::Delay`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CapAction(pub(crate) Action);

impl Value for CapAction {
    fn read(value: &DeValue<'_>) -> Result<Self, Complaint> {
        if value.as_str() == Some("delay") {
            let wrong = "\"delay\" is for rates: waiting makes no message smaller or younger";
            return Err(Complaint::new(wrong).help("write \"close\" or \"report\""));
        }
        choice(value, &[("close", Action::Close), ("report", Action::Report)]).map(Self)
    }
}

impl Value for ForwardedHeader {
    fn read(value: &DeValue<'_>) -> Result<Self, Complaint> {
        // Names of header fields have no case (RFC 9110 5.1).
        let lower = value.as_str().map(|text| DeValue::String(text.to_ascii_lowercase().into()));
        let choices = [("x-forwarded-for", Self::XForwardedFor), ("forwarded", Self::Forwarded)];
        choice(lower.as_ref().unwrap_or(value), &choices)
    }
}

impl Value for TlsStreamKind {
    fn read(value: &DeValue<'_>) -> Result<Self, Complaint> {
        choice(value, &[("lean", Self::Lean), ("stock", Self::Stock)])
    }
}

impl Value for LogFormat {
    fn read(value: &DeValue<'_>) -> Result<Self, Complaint> {
        choice(value, &[("text", Self::Text), ("json", Self::Json)])
    }
}

impl Value for tracing::Level {
    fn read(value: &DeValue<'_>) -> Result<Self, Complaint> {
        choice(
            value,
            &[
                ("error", Self::ERROR),
                ("warn", Self::WARN),
                ("info", Self::INFO),
                ("debug", Self::DEBUG),
                ("trace", Self::TRACE),
            ],
        )
    }
}

fn choice<T: Clone>(value: &DeValue<'_>, choices: &[(&str, T)]) -> Result<T, Complaint> {
    let names = one_of(choices.iter().map(|(name, _)| *name));
    let Some(text) = value.as_str() else {
        return Err(unexpected(&names, value));
    };
    match choices.iter().find(|(name, _)| *name == text) {
        Some((_, choice)) => Ok(choice.clone()),
        None => Err(match nearest(text, choices.iter().map(|(name, _)| *name)) {
            Some(meant) => unexpected(&names, value).help(format!("did you mean \"{meant}\"?")),
            None => unexpected(&names, value),
        }),
    }
}

/// `"error", "warn" or "info"`
fn one_of<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut quoted: Vec<String> = names.map(|name| format!("\"{name}\"")).collect();
    match quoted.pop() {
        Some(last) if !quoted.is_empty() => format!("{} or {last}", quoted.join(", ")),
        Some(only) => only,
        None => String::new(),
    }
}
