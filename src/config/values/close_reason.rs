//! How tunnels are let go of: what a Close says, and what a lost backend leads to.

use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;
use ws::CLOSE_REASON_MAX;

use super::field::no_variable;
use super::scalars::text;
use crate::config::settings::OnBackendLoss;
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::reader::TomlValue;

/// What is said in a Close frame beside its code (RFC 6455 5.5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CloseReason(pub(crate) Arc<str>);

impl TomlValue for CloseReason {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "a few words")?;
        if text.len() > CLOSE_REASON_MAX {
            let wrong = Problem::new(format!("this is {} bytes long", text.len()));
            return Err(wrong.help(format!("a Close frame holds at most {CLOSE_REASON_MAX}")));
        }
        no_variable(text)?;
        Ok(Self(text.into()))
    }
}

/// What becomes of the tunnels of a backend that is lost: `"keep"`, `"drain"`, or a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BackendLossPolicy(pub(crate) OnBackendLoss);

impl TomlValue for BackendLossPolicy {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        match value.as_str() {
            Some("keep") => Ok(Self(OnBackendLoss::Keep)),
            Some("drain") => Ok(Self(OnBackendLoss::Drain)),
            Some(text) if !text.starts_with(|c: char| c.is_ascii_digit()) => {
                let wrong = Problem::new(format!("\"{text}\" is not known here"));
                Err(wrong.help("write \"keep\", \"drain\", or a time such as \"10m\""))
            }
            Some(_) | None => Duration::read(value).map(OnBackendLoss::CloseAfter).map(Self),
        }
    }
}
