//! Keys that accept one of a few words.

use std::num::NonZeroU32;

use toml::de::DeValue;
use ws::{LimitAction, PingProof, Strictness};

use crate::config::settings::choice::{Balance, RebalanceMode, SameSite};
use crate::config::settings::{
    Compression, ForwardedHeader, HttpsRedirect, LogFormat, LogRequests,
};
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::nearest::nearest;
use crate::config::toml::scalar::type_mismatch;
use crate::config::toml::value::TomlValue;

impl TomlValue for Compression {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let choices = [("inspect", Self::Inspect), ("strip", Self::Strip), ("pass", Self::Pass)];
        choice(value, &choices)
    }
}

/// `"all"`, `"off"`, or `"1/N"` for each Nth one.
impl TomlValue for LogRequests {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        if value.as_bool() == Some(false) {
            return Err(type_mismatch(SHARES, value).help("write \"off\""));
        }
        match value.as_str() {
            Some("all") => Ok(Self::OneOf(NonZeroU32::MIN)),
            Some("off") => Ok(Self::Off),
            Some(text) => {
                let count = text.strip_prefix("1/").and_then(|count| count.parse().ok());
                count.map(Self::OneOf).ok_or_else(|| type_mismatch(SHARES, value))
            }
            None => Err(type_mismatch(SHARES, value)),
        }
    }
}

impl TomlValue for Balance {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        choice(value, &Self::NAMES)
    }
}

impl TomlValue for RebalanceMode {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        choice(value, &Self::NAMES)
    }
}

impl TomlValue for SameSite {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        choice(value, &Self::NAMES)
    }
}

impl TomlValue for Strictness {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        choice(value, &[("enforce", Self::Enforce), ("report", Self::Report)])
    }
}

/// Whether text messages of clients are checked for UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CheckUtf8(pub(crate) bool);

impl TomlValue for CheckUtf8 {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        choice(value, &[("off", false), ("check", true)]).map(Self)
    }
}

/// Whether requests are forwarded whose path a server may read as one of another route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AmbiguousPaths {
    pub(crate) are_allowed: bool,
}

impl TomlValue for AmbiguousPaths {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let choices = [("reject", false), ("allow", true)];
        choice(value, &choices).map(|are_allowed| Self { are_allowed })
    }
}

impl TomlValue for PingProof {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        choice(value, &[("any", Self::Any), ("pong", Self::Pong)])
    }
}

impl TomlValue for LimitAction {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let choices = [("close", Self::Close), ("delay", Self::Delay), ("report", Self::Report)];
        choice(value, &choices)
    }
}

/// The action of a limit on a size, a count or an age; [`LimitAction::Delay`] is not possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SizeLimitAction(pub(crate) LimitAction);

impl TomlValue for SizeLimitAction {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        if value.as_str() == Some("delay") {
            let problem =
                "\"delay\" applies to rates only: a delay does not make a message smaller or newer";
            return Err(Problem::new(problem).help("write \"close\" or \"report\""));
        }
        choice(value, &[("close", LimitAction::Close), ("report", LimitAction::Report)]).map(Self)
    }
}

/// The redirect of a listener, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RedirectChoice(pub(crate) Option<HttpsRedirect>);

impl TomlValue for RedirectChoice {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let choices = [
            ("off", None),
            ("https", Some(HttpsRedirect::Permanent)),
            ("https-301", Some(HttpsRedirect::Moved)),
        ];
        choice(value, &choices).map(Self).map_err(|problem| match value.as_bool() {
            Some(true) => problem.help("write \"https\""),
            Some(false) => problem.help("write \"off\""),
            None => problem,
        })
    }
}

impl TomlValue for ForwardedHeader {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        // Field names are case-insensitive (RFC 9110 section 5.1).
        let lower = value.as_str().map(|text| DeValue::String(text.to_ascii_lowercase().into()));
        let choices: Vec<_> = Self::all().map(|header| (header.name(), header)).collect();
        choice(lower.as_ref().unwrap_or(value), &choices)
    }
}

impl TomlValue for LogFormat {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        choice(value, &[("text", Self::Text), ("json", Self::Json)])
    }
}

impl TomlValue for tracing::Level {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
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

pub(super) fn choice<T: Clone>(value: &DeValue<'_>, choices: &[(&str, T)]) -> Result<T, Problem> {
    let names = alternatives(choices.iter().map(|(name, _)| *name));
    let Some(text) = value.as_str() else {
        return Err(type_mismatch(&names, value));
    };
    match choices.iter().find(|(name, _)| *name == text) {
        Some((_, choice)) => Ok(choice.clone()),
        None => Err(match nearest(text, choices.iter().map(|(name, _)| *name)) {
            Some(meant) => type_mismatch(&names, value).help(format!("did you mean \"{meant}\"?")),
            None => type_mismatch(&names, value),
        }),
    }
}

/// Formats the choices as `"error", "warn" or "info"`.
fn alternatives<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut quoted: Vec<String> = names.map(|name| format!("\"{name}\"")).collect();
    match quoted.pop() {
        Some(last) if !quoted.is_empty() => format!("{} or {last}", quoted.join(", ")),
        Some(only) => only,
        None => String::new(),
    }
}

const SHARES: &str = "\"all\", \"off\" or a share such as \"1/100\"";
