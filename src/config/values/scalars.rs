//! How each type of value is read from TOML, and how mistakes are reported. Keys with a few
//! possible words are in [`super::choices`].

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;
use ws::CloseCode;

use super::backend_address::BackendAddress;
use super::origin_rule::OriginRule;
use super::patterns::{HostPattern, ONE_HOST, PathPrefix, check_port, check_request_path};
use super::units::{
    ByteSize, BytesPerSecond, DURATION_MAX, PerSecond, parse_duration, show_duration,
};
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::nearest::nearest;
use crate::config::toml::scalar::{describe, digits, number, text, too_large, type_mismatch};
use crate::config::toml::value::TomlValue;
use crate::config::toml::variables::reject_variable;

/// Whether the value is a word that users write for "no limit".
pub(crate) fn means_unlimited(value: &DeValue<'_>) -> bool {
    let words = ["off", "none", "no", "unlimited", "infinite", "never", "disabled", "false", "0"];
    value.as_str().is_some_and(|text| words.contains(&text.to_ascii_lowercase().as_str()))
}

/// A limit that `"off"` turns off (`None`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OrOff<T>(pub(crate) Option<T>);

impl<T: TomlValue> TomlValue for OrOff<T> {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let is_off = value.as_bool() == Some(false) || means_unlimited(value);
        if is_off && value.as_str() != Some("off") {
            return Err(type_mismatch("a limit", value).help("write \"off\" to turn it off"));
        }
        value_or_word(value, "off", "write \"off\" for no limit").map(Self)
    }
}

/// A limit for one client that cannot be turned off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PerClientLimit<T>(pub(crate) T);

impl<T: TomlValue> TomlValue for PerClientLimit<T> {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        if value.as_bool() == Some(false) || means_unlimited(value) {
            return Err(Problem::new("the limit for one client cannot be turned off")
                .help("write a number large enough for one client"));
        }
        T::read(value).map(Self)
    }
}

/// A number, or `"auto"` (`None`) to let tidegate choose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OrAuto<T>(pub(crate) Option<T>);

impl<T: TomlValue> TomlValue for OrAuto<T> {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        value_or_word(value, "auto", "write \"auto\" to let tidegate choose").map(Self)
    }
}

/// Reads a value, or `None` for the word. Errors about zero and about other words suggest the word.
fn value_or_word<T: TomlValue>(
    value: &DeValue<'_>,
    word: &str,
    zero_help: &str,
) -> Result<Option<T>, Problem> {
    if value.as_str() == Some(word) {
        return Ok(None);
    }
    let other_help = match value.as_str().and_then(|text| nearest(text, [word])) {
        Some(word) => format!("did you mean \"{word}\"?"),
        // A negative number, which is often written for "no limit".
        None if value.as_integer().is_some() => zero_help.to_owned(),
        None => format!("write a number without quotes, or \"{word}\""),
    };
    T::read(value)
        .map(Some)
        .map_err(|problem| problem.help_if_zero(zero_help).help_if_none(&other_help))
}

impl TomlValue for bool {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let bool_help = match value.as_str().map(str::to_ascii_lowercase).as_deref() {
            Some("true" | "on" | "yes" | "1") => "write true, without quotes",
            Some("false" | "off" | "no" | "0") => "write false, without quotes",
            Some(_) | None => "write true or false, without quotes",
        };
        value.as_bool().ok_or_else(|| type_mismatch("true or false", value).help(bool_help))
    }
}

/// A count; 0 never means "unlimited".
impl TomlValue for NonZeroU32 {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let number = integer(value, "a whole number", u64::from(u32::MAX))?;
        u32::try_from(number)
            .ok()
            .and_then(Self::new)
            .ok_or_else(|| Problem::zero("0 would allow none").help("the minimum is 1"))
    }
}

/// The weight of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weight(pub(crate) NonZeroU32);

impl TomlValue for Weight {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let zero = || {
            Problem::zero("a backend with the weight 0 would receive no tunnels")
                .help("remove the backend, or write at least 1")
        };
        NonZeroU32::read(value).map(Self).map_err(|problem| problem.zero_as(zero))
    }
}

/// How much of its share a backend may have, in percent: 101 to 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BalanceFactor(pub(crate) u32);

impl TomlValue for BalanceFactor {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let help = "write the percentage of its share that a backend may have, such as 125";
        let factor = NonZeroU32::read(value).map_err(|problem| problem.help_if_none(help))?.get();
        match factor {
            101..=1000 => Ok(Self(factor)),
            0..=100 => {
                let problem = format!("{factor} % of its share would leave no choice to the hash");
                Err(Problem::new(problem).help(help))
            }
            _ => Err(too_large(factor, 1000)),
        }
    }
}

/// A number of worker threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WorkerCount(pub(crate) NonZeroU32);

impl TomlValue for WorkerCount {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let zero =
            || Problem::zero("at least one worker thread is needed").help("the minimum is 1");
        NonZeroU32::read(value).map(Self).map_err(|problem| problem.zero_as(zero))
    }
}

/// Number of leading address bits that identify one client: 1 to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PrefixBits<const MAX: u8>(pub(crate) u8);

impl<const MAX: u8> TomlValue for PrefixBits<MAX> {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let number = whole(value, "a number of bits", u64::from(MAX))?;
        match u8::try_from(number) {
            Ok(bits) if (1..=MAX).contains(&bits) => Ok(Self(bits)),
            Ok(_) | Err(_) => Err(Problem::new(format!("{number} is not a prefix length"))
                .help(format!("write a number from 1 to {MAX}"))),
        }
    }
}

impl TomlValue for CloseCode {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let number = whole(value, "a close code", CLOSE_CODE_MAX)?;
        let code = u16::try_from(number).ok().and_then(Self::new);
        // Chromium treats 1014 in a Close frame as a protocol error.
        code.filter(|code| code.get() != 1014).ok_or_else(|| {
            Problem::new(format!("{number} is not a code that may be sent in a Close frame")).help(
                "write 1012 (service restart), 1001 (going away), or 3000 to 4999 for your own",
            )
        })
    }
}

impl TomlValue for Duration {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        if let Some(text) = value.as_str() {
            return parse_duration(text);
        }
        match number(value, format_args!("\"{}\"", show_duration(DURATION_MAX)))? {
            None => Err(type_mismatch("a duration", value).help("write one such as \"30s\"")),
            Some(0) => parse_duration("0s"),
            Some(number) => {
                Err(without_unit(number, format!("{number}s"), "seconds", parse_duration))
            }
        }
    }
}

impl TomlValue for ByteSize {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        if let Some(text) = value.as_str() {
            return Self::parse(text);
        }
        match number(value, format_args!("\"{}\"", Self::MAX))? {
            None => Err(type_mismatch("a size", value).help("write one such as \"1MiB\"")),
            Some(0) => Self::parse("0B"),
            Some(number) => {
                Err(without_unit(number, Self::new(number).to_string(), "bytes", Self::parse))
            }
        }
    }
}

impl TomlValue for PerSecond {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        if let Some(text) = value.as_str() {
            return Self::parse(text);
        }
        match number(value, format_args!("\"{}/s\"", u32::MAX))? {
            None => Err(type_mismatch("a rate", value).help("write one such as \"20/s\"")),
            Some(0) => Self::parse("0/s"),
            Some(number) => {
                Err(without_unit(number, format!("{number}/s"), "per second", Self::parse))
            }
        }
    }
}

impl TomlValue for BytesPerSecond {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        if let Some(text) = value.as_str() {
            return Self::parse(text);
        }
        match number(value, format_args!("\"{}/s\"", ByteSize::MAX))? {
            None => Err(type_mismatch("a rate in bytes per second", value)
                .help("write one such as \"64KiB/s\"")),
            Some(0) => Self::parse("0B/s"),
            Some(number) => {
                let meant = format!("{}/s", ByteSize::new(number));
                Err(without_unit(number, meant, "bytes per second", Self::parse))
            }
        }
    }
}

/// A name for records and metric labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Label(pub(crate) Arc<str>);

impl TomlValue for Label {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "a name")?;
        if text.trim().is_empty() {
            return Err(Problem::new("the name is empty"));
        }
        if text.len() > LABEL_MAX || text.chars().any(char::is_control) {
            return Err(Problem::new("this name cannot be used in access records")
                .help(format!("write at most {LABEL_MAX} bytes, without control characters")));
        }
        reject_variable(text)?;
        Ok(Self(text.into()))
    }
}

impl TomlValue for PathBuf {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "a path")?;
        if text.is_empty() || text.contains('\0') {
            return Err(Problem::new(format!("{} is not a path", describe(value))));
        }
        reject_variable(text)?;
        Ok(text.into())
    }
}

/// A request path that is compared as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestPath(pub(crate) String);

impl TomlValue for RequestPath {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "a path such as \"/healthz\"")?;
        if text == "/" {
            let problem = Problem::new("\"/\" is the path of the application's start page");
            return Err(problem.help("write a separate path such as \"/healthz\""));
        }
        check_request_path(text).map(|()| Self(text.to_owned()))
    }
}

/// The name of a query parameter in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueryParameter(pub(crate) String);

impl TomlValue for QueryParameter {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "the name of a query parameter")?;
        if text.is_empty() {
            return Err(Problem::new("the name is empty"));
        }
        // Names are compared by their letters and digits only; "*" would match nothing.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '[' | ']');
        if !text.contains(|c: char| c.is_ascii_alphanumeric()) || !text.chars().all(plain) {
            return Err(Problem::new(format!("\"{text}\" is not a parameter name and would redact nothing"))
                .help(
                    "write a word such as \"token\"; it also matches parts of longer names (auth.token)",
                ));
        }
        Ok(Self(text.to_lowercase()))
    }
}

impl TomlValue for HostPattern {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        if value.is_array() {
            return Err(Problem::new("a route takes exactly one host, not a list").help(ONE_HOST));
        }
        Self::parse(text(value, "a host such as \"chat.example.com\"")?)
    }
}

impl TomlValue for PathPrefix {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        Self::parse(text(value, "a path such as \"/ws\"")?)
    }
}

impl TomlValue for BackendAddress {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        if let Some(port) = number(value, u16::MAX)? {
            check_port(&port.to_string())?;
            return Err(Problem::new(format!("{port} has no host"))
                .help(format!("write \"127.0.0.1:{port}\"")));
        }
        Self::parse(text(value, "host and port of a backend")?)
    }
}

impl TomlValue for OriginRule {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        Self::parse(text(value, "an origin such as \"https://chat.example.com\"")?)
    }
}

/// Reads an integer of at most `max`.
pub(super) fn integer(value: &DeValue<'_>, expected: &str, max: u64) -> Result<u64, Problem> {
    match whole(value, expected, max)? {
        number if number <= max => Ok(number),
        number => Err(too_large(number, max)),
    }
}

/// Reads an integer that the caller compares with `max`, the maximum to suggest for a huge one.
pub(super) fn whole(value: &DeValue<'_>, expected: &str, max: u64) -> Result<u64, Problem> {
    match number(value, max)? {
        Some(number) => Ok(number),
        // The parsed number, since TOML numbers have no leading zeros.
        None => Err(match value.as_str().and_then(digits) {
            Some(number) => {
                type_mismatch(expected, value).help(format!("write {number}, without quotes"))
            }
            None => type_mismatch(expected, value),
        }),
    }
}

/// The problem of a number without unit: suggests `meant`, unless that is not valid either.
fn without_unit<T>(
    number: u64,
    meant: String,
    unit: &str,
    parse: impl Fn(&str) -> Result<T, Problem>,
) -> Problem {
    let problem = Problem::new(format!("{number} has no unit"));
    let suggested = problem.help(format!("write \"{meant}\" if you mean {unit}"));
    parse(&meant).err().unwrap_or(suggested)
}

/// The largest code for applications (RFC 6455 section 7.4.2).
const CLOSE_CODE_MAX: u64 = 4999;
/// Maximum length of a name in bytes.
const LABEL_MAX: usize = 128;
