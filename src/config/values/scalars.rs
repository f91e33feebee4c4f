//! How each kind of value is written in TOML, and what is said when it is written otherwise; for
//! words of which there are only a few see [`super::choices`].

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use toml::de::{DeInteger, DeValue};
use ws::CloseCode;

use super::field::no_variable;
use super::origin::OriginRule;
use super::patterns::{BackendAddress, HostPattern, ONE_HOST, PathPrefix, digits, request_path};
use super::units::{ByteSize, BytesPerSecond, PerSecond, parse_duration};
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::nearest::nearest;
use crate::config::toml::reader::{TomlValue, describe};

/// What people write for "no limit", beside `"off"`.
pub(crate) fn is_no_limit(value: &DeValue<'_>) -> bool {
    let words = ["off", "none", "no", "unlimited", "infinite", "never", "disabled", "false", "0"];
    value.as_str().is_some_and(|text| words.contains(&text.to_ascii_lowercase().as_str()))
}

/// A limit that can be switched off with `"off"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OrOff<T>(pub(crate) Option<T>);

impl<T: TomlValue> TomlValue for OrOff<T> {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let none = value.as_bool() == Some(false) || is_no_limit(value);
        if none && value.as_str() != Some("off") {
            return Err(unexpected("a limit", value).help("write \"off\" if there is to be none"));
        }
        let zero = "write \"off\" if there is to be no limit";
        or_word(value, "off", zero).map(Self)
    }
}

/// A limit of what one client may have, of which there is always one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AtLeastOne<T>(pub(crate) T);

impl<T: TomlValue> TomlValue for AtLeastOne<T> {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        if value.as_bool() == Some(false) || is_no_limit(value) {
            return Err(Problem::new("one client cannot be without a limit")
                .help("there is always one: write a larger number"));
        }
        T::read(value).map(Self)
    }
}

/// A number that tidegate finds out by itself with `"auto"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OrAuto<T>(pub(crate) Option<T>);

impl<T: TomlValue> TomlValue for OrAuto<T> {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        or_word(value, "auto", "write \"auto\" to let tidegate choose").map(Self)
    }
}

/// `None` for the word. What is said of a zero or of another word points to it.
fn or_word<T: TomlValue>(
    value: &DeValue<'_>,
    word: &str,
    zero: &str,
) -> Result<Option<T>, Problem> {
    if value.as_str() == Some(word) {
        return Ok(None);
    }
    let other = match value.as_str().and_then(|text| nearest(text, [word])) {
        Some(word) => format!("did you mean \"{word}\"?"),
        None => format!("write a number without quotes, or \"{word}\""),
    };
    T::read(value).map(Some).map_err(|wrong| wrong.help_if_zero(zero).help_if_none(&other))
}

impl TomlValue for bool {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let meant = match value.as_str().map(str::to_ascii_lowercase).as_deref() {
            Some("true" | "on" | "yes" | "1") => "write true, without quotes",
            Some("false" | "off" | "no" | "0") => "write false, without quotes",
            Some(_) | None => "write true or false, without quotes",
        };
        value.as_bool().ok_or_else(|| unexpected("true or false", value).help(meant))
    }
}

/// How many of something; 0 is never "unlimited".
impl TomlValue for NonZeroU32 {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let number = whole(value, "a whole number", u64::from(u32::MAX))?;
        u32::try_from(number)
            .ok()
            .and_then(Self::new)
            .ok_or_else(|| Problem::zero("0 would mean none at all").help("the least is 1"))
    }
}

/// How many leading bits of an address make one client: 1 to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PrefixBits<const MAX: u8>(pub(crate) u8);

impl<const MAX: u8> TomlValue for PrefixBits<MAX> {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let number = whole(value, "a number of bits", u64::MAX)?;
        match u8::try_from(number) {
            Ok(bits) if (1..=MAX).contains(&bits) => Ok(Self(bits)),
            Ok(_) | Err(_) => Err(Problem::new(format!("{number} is not a prefix length"))
                .help(format!("write 1 to {MAX}"))),
        }
    }
}

impl TomlValue for CloseCode {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let number = whole(value, "a close code", u64::MAX)?;
        let code = u16::try_from(number).ok().and_then(Self::new);
        // Chromium takes 1014 in a Close frame for a breach of the protocol.
        code.filter(|code| code.get() != 1014).ok_or_else(|| {
            Problem::new(format!("{number} is not a code that may stand in a Close frame")).help(
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
        match number(value)? {
            None => Err(unexpected("a duration", value).help("write one such as \"30s\"")),
            Some(0) => parse_duration("0s"),
            Some(number) => Err(Problem::new(format!("{number} has no unit"))
                .help(format!("write \"{number}s\" if it is seconds"))),
        }
    }
}

impl TomlValue for ByteSize {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        if let Some(text) = value.as_str() {
            return Self::parse(text);
        }
        match number(value)? {
            None => Err(unexpected("a size", value).help("write one such as \"1MiB\"")),
            Some(0) => Self::parse("0B"),
            Some(number) => Err(Problem::new(format!("{number} has no unit"))
                .help(format!("write \"{}\" if it is bytes", Self::new(number)))),
        }
    }
}

impl TomlValue for PerSecond {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        if let Some(text) = value.as_str() {
            return Self::parse(text);
        }
        match number(value)? {
            None => Err(unexpected("a rate", value).help("write one such as \"20/s\"")),
            Some(0) => Self::parse("0/s"),
            Some(number) => Err(Problem::new(format!("{number} has no unit"))
                .help(format!("write \"{number}/s\" if it is per second"))),
        }
    }
}

impl TomlValue for BytesPerSecond {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        if let Some(text) = value.as_str() {
            return Self::parse(text);
        }
        match number(value)? {
            None => Err(unexpected("a rate of bytes", value).help("write one such as \"64KiB/s\"")),
            Some(0) => Self::parse("0B/s"),
            Some(number) => Err(Problem::new(format!("{number} has no unit"))
                .help(format!("write \"{}/s\" if it is bytes per second", ByteSize::new(number)))),
        }
    }
}

/// A name for people: it goes into records and labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Label(pub(crate) Arc<str>);

impl TomlValue for Label {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "a name")?;
        if text.trim().is_empty() {
            return Err(Problem::new("the name is empty"));
        }
        if text.len() > LABEL_MAX || text.chars().any(char::is_control) {
            return Err(Problem::new("this cannot be a name in records")
                .help(format!("write at most {LABEL_MAX} bytes, without control characters")));
        }
        no_variable(text)?;
        Ok(Self(text.into()))
    }
}

impl TomlValue for PathBuf {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "a path")?;
        if text.is_empty() || text.contains('\0') {
            return Err(Problem::new(format!("{} is not a path", describe(value))));
        }
        no_variable(text)?;
        Ok(text.into())
    }
}

/// The path of a request, compared whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestPath(pub(crate) String);

impl TomlValue for RequestPath {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "a path such as \"/healthz\"")?;
        if text == "/" {
            let wrong = Problem::new("\"/\" is the path of the application's first page");
            return Err(wrong.help("write one of its own, as in \"/healthz\""));
        }
        request_path(text).map(|()| Self(text.to_owned()))
    }
}

/// The name of a query parameter, lower-case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueryParameter(pub(crate) String);

impl TomlValue for QueryParameter {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "the name of a query parameter")?;
        if text.is_empty() {
            return Err(Problem::new("the name is empty"));
        }
        // Letters and digits are what names are compared by; of "*" nothing would be left.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '[' | ']');
        if !text.contains(|c: char| c.is_ascii_alphanumeric()) || !text.chars().all(plain) {
            return Err(Problem::new(format!("\"{text}\" is not a name, and would hide nothing"))
                .help(
                    "write a word such as \"token\": it counts in longer names, too (auth.token)",
                ));
        }
        Ok(Self(text.to_lowercase()))
    }
}

impl TomlValue for HostPattern {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        if value.is_array() {
            return Err(Problem::new("a route has one host, not a list").help(ONE_HOST));
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
        if let Ok(Some(port)) = number(value) {
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

pub(crate) fn text<'v>(value: &'v DeValue<'_>, expected: &str) -> Result<&'v str, Problem> {
    value.as_str().ok_or_else(|| unexpected(expected, value))
}

/// A whole number up to `max`, written without quotes.
fn whole(value: &DeValue<'_>, expected: &str, max: u64) -> Result<u64, Problem> {
    match number(value)? {
        Some(number) if number <= max => Ok(number),
        Some(number) => {
            Err(Problem::new(format!("{number} is too large")).help(format!("the most is {max}")))
        }
        None => Err(match value.as_str().filter(|text| digits(text).is_some()) {
            Some(text) => unexpected(expected, value).help(format!("write {text}, without quotes")),
            None => unexpected(expected, value),
        }),
    }
}

/// A TOML integer as a number; `None` for everything else, fractions too.
pub(crate) fn number(value: &DeValue<'_>) -> Result<Option<u64>, Problem> {
    let Some(integer) = value.as_integer() else {
        return Ok(None);
    };
    let digits = DeInteger::as_str(integer);
    if digits.starts_with('-') && digits.contains(|c: char| c != '-' && c != '0') {
        return Err(Problem::new(format!("{integer} is negative; a positive number is required")));
    }
    u64::from_str_radix(digits.trim_start_matches(['-', '+']), integer.radix())
        .map(Some)
        .map_err(|_| Problem::new(format!("{integer} is too large")))
}

pub(crate) fn unexpected(expected: &str, value: &DeValue<'_>) -> Problem {
    Problem::new(format!("expected {expected}, found {}", describe(value)))
}

/// Longest name, in bytes.
const LABEL_MAX: usize = 128;
