//! Text and numbers of a TOML document, and how a value of the wrong type is reported.

use std::fmt::Display;

use toml::de::{DeInteger, DeValue};

use super::diagnostic::Problem;

/// Reads a string.
///
/// # Errors
///
/// Any other type, reported as "expected `expected`, found ...".
pub(crate) fn text<'v>(value: &'v DeValue<'_>, expected: &str) -> Result<&'v str, Problem> {
    value.as_str().ok_or_else(|| type_mismatch(expected, value))
}

/// Reads a TOML integer; `None` for every other type, including fractions.
///
/// # Errors
///
/// A negative number, or one above 2^64 - 1; `max` is the maximum to suggest then.
pub(crate) fn number(value: &DeValue<'_>, max: impl Display) -> Result<Option<u64>, Problem> {
    let Some(integer) = value.as_integer() else {
        return Ok(None);
    };
    let digits = DeInteger::as_str(integer);
    if digits.starts_with('-') && digits.contains(|c: char| c != '-' && c != '0') {
        let problem = format!("{integer} is negative; a positive number is required");
        return Err(Problem::new(problem));
    }
    u64::from_str_radix(digits.trim_start_matches(['-', '+']), integer.radix())
        .map(Some)
        .map_err(|_| too_large(integer, max))
}

/// The problem of a number above its maximum.
pub(crate) fn too_large(number: impl Display, max: impl Display) -> Problem {
    Problem::new(format!("{number} is too large")).help(format!("the maximum is {max}"))
}

/// Parses a number that consists of ASCII digits only; `u64::from_str` would also accept a sign.
pub(crate) fn digits(text: &str) -> Option<u64> {
    let only_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    only_digits.then(|| text.parse().ok()).flatten()
}

/// The problem of a value that has the wrong type or is not one of the choices.
pub(crate) fn type_mismatch(expected: &str, value: &DeValue<'_>) -> Problem {
    Problem::new(format!("expected {expected}, found {}", describe(value)))
}

/// Describes a value for an error message: text in quotes, the number itself, or the type.
pub(crate) fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => {
            let shown: String = text.chars().take(TEXT_MAX).collect();
            let more = if shown.len() < text.len() { "..." } else { "" };
            format!("\"{}{more}\"", shown.escape_debug())
        }
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// Maximum number of characters of a text that a description quotes.
const TEXT_MAX: usize = 60;
