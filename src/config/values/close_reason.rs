//! The reason of a Close frame, and the policy for tunnels of lost backends.

use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;
use ws::CLOSE_REASON_MAX;

use crate::config::settings::pool::OnBackendLoss;
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::scalar::text;
use crate::config::toml::value::TomlValue;
use crate::config::toml::variables::reject_variable;

/// The reason in a Close frame, at most 123 bytes (RFC 6455 section 5.5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CloseReason(pub(crate) Arc<str>);

impl TomlValue for CloseReason {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "a text")?;
        if text.len() > CLOSE_REASON_MAX {
            let problem = Problem::new(format!("this is {} bytes long", text.len()));
            return Err(problem.help(format!("a Close frame holds at most {CLOSE_REASON_MAX}")));
        }
        reject_variable(text)?;
        Ok(Self(text.into()))
    }
}

/// What happens to the tunnels of a lost backend: `"keep"`, `"drain"`, or a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BackendLossPolicy(pub(crate) OnBackendLoss);

impl TomlValue for BackendLossPolicy {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        match value.as_str() {
            Some("keep") => Ok(Self(OnBackendLoss::Keep)),
            Some("drain") => Ok(Self(OnBackendLoss::Drain)),
            Some(text) if !text.starts_with(|c: char| c.is_ascii_digit()) => {
                let problem = Problem::new(format!("\"{text}\" is not a known value"));
                Err(problem.help("write \"keep\", \"drain\", or a duration such as \"10m\""))
            }
            Some(_) | None => Duration::read(value).map(OnBackendLoss::CloseAfter).map(Self),
        }
    }
}
