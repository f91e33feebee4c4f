//! Sizes, durations and rates. Each is one whole number and one unit, and the unit is never
//! assumed: sizes are `"64KiB"` (`B`, `KiB`, `MiB`, `GiB`; not the ambiguous `MB`), durations
//! `"30s"` (`ms`, `s`, `m`, `h`, `d`), rates `"20/s"` or `"64KiB/s"`.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use crate::config::toml::diagnostic::Problem;
use crate::config::toml::scalar::digits;

/// A number of bytes, from 1 to the maximum payload length of a WebSocket frame, 2^63 - 1
/// (RFC 6455 section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

impl ByteSize {
    /// The largest size.
    pub(crate) const MAX: Self = Self(SIZE_MAX);

    /// Creates a size without checking its range.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The size in bytes.
    pub fn get(self) -> u64 {
        self.0
    }

    /// Parses a size such as `"1MiB"`.
    ///
    /// # Errors
    ///
    /// Describes the mistake and suggests a valid size.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let too_large = || {
            Problem::new(format!("\"{text}\" is too large"))
                .help(format!("the maximum is \"{}\"", Self::MAX))
        };
        let quantity = Quantity::parse(text, "size", "1MiB")?.ok_or_else(too_large)?;
        let bytes = quantity.scale(&SIZE_UNITS).map_err(|problem| match problem {
            QuantityError::Unit => quantity.unknown_size_unit(),
            QuantityError::Overflow => too_large(),
        })?;
        match bytes {
            0 => {
                Err(Problem::zero("a size of 0 would allow nothing").help("the minimum is \"1B\""))
            }
            1..=SIZE_MAX => Ok(Self(bytes)),
            _ => Err(too_large()),
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, scale) = largest_unit(self.0, &SIZE_UNITS);
        write!(f, "{}{unit}", self.0 / scale)
    }
}

/// Parses a duration such as `"30s"`, from `"1ms"` to one year, so that adding it to a point in
/// time does not overflow.
///
/// # Errors
///
/// Describes the mistake and suggests a valid duration.
pub fn parse_duration(text: &str) -> Result<Duration, Problem> {
    let quantity = Quantity::parse(text, "duration", "30s").map_err(|problem| match sum(text) {
        Some(sum) => problem.help(format!("write \"{}\"", show_duration(sum))),
        None => problem,
    })?;
    let quantity = quantity.ok_or_else(|| too_long(text))?;
    let millis = quantity.scale(&TIME_UNITS).map_err(|problem| match problem {
        QuantityError::Unit => quantity.unknown_time_unit(&TIME_UNITS, "30s"),
        QuantityError::Overflow => too_long(text),
    })?;
    match millis {
        0 => Err(Problem::zero("a duration of 0 would expire immediately")
            .help("the minimum is \"1ms\"")),
        1..=MILLIS_MAX => Ok(Duration::from_millis(millis)),
        _ => Err(too_long(text)),
    }
}

/// Parses a duration for browsers such as `"1y"`, from `"0s"` to ten years.
///
/// # Errors
///
/// Describes the mistake and suggests a valid duration.
pub fn parse_long_duration(text: &str) -> Result<Duration, Problem> {
    let quantity = Quantity::parse(text, "duration", "1y")?;
    let quantity = quantity.ok_or_else(|| longer_than_ten_years(text))?;
    let seconds = quantity.scale(&LONG_UNITS).map_err(|problem| match problem {
        QuantityError::Unit => quantity.unknown_time_unit(&LONG_UNITS, "1y"),
        QuantityError::Overflow => longer_than_ten_years(text),
    })?;
    match seconds {
        0..=LONG_SECONDS_MAX => Ok(Duration::from_secs(seconds)),
        _ => Err(longer_than_ten_years(text)),
    }
}

fn longer_than_ten_years(text: &str) -> Problem {
    Problem::new(format!("\"{text}\" is longer than ten years")).help("the maximum is \"10y\"")
}

/// Formats a duration as [`parse_long_duration`] reads it: `1y`, `180d`.
pub fn show_long_duration(duration: Duration) -> String {
    let (unit, scale) = largest_unit(duration.as_secs(), &LONG_UNITS);
    format!("{}{unit}", duration.as_secs() / scale)
}

/// Formats a duration as it is written in the file: `30s`, `1h`, `1500ms`.
pub fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (unit, scale) = largest_unit(millis, &TIME_UNITS);
    format!("{}{unit}", millis / scale)
}

/// Formats durations that a message compares, all in the largest unit that fits every one: `1200s`
/// and `1510s`.
pub fn show_in_one_unit<const N: usize>(durations: [Duration; N]) -> [String; N] {
    let millis = durations.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let units = millis.map(|millis| largest_unit(millis, &TIME_UNITS));
    let (unit, scale) = units.into_iter().min_by_key(|(_, scale)| *scale).unwrap_or(("ms", 1));
    millis.map(|millis| format!("{}{unit}", millis / scale))
}

/// The sum that `1h30m` stands for.
fn sum(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut millis = 0_u64;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let (_, scale) = TIME_UNITS.iter().find(|(name, _)| *name == unit)?;
        millis = millis.checked_add(digits(number)?.checked_mul(*scale)?)?;
        rest = after;
    }
    (1..=MILLIS_MAX).contains(&millis).then(|| Duration::from_millis(millis))
}

fn too_long(text: &str) -> Problem {
    Problem::new(format!("\"{text}\" is longer than a year"))
        .help(format!("the maximum is \"{}\"", show_duration(DURATION_MAX)))
}

/// A rate of events per second, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerSecond(pub NonZeroU32);

impl PerSecond {
    /// Parses a rate such as `"20/s"`.
    ///
    /// # Errors
    ///
    /// Describes the mistake and suggests a valid rate.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let Some((number, unit)) = text.split_once('/') else {
            let problem = Problem::new(format!("\"{text}\" is not a rate"));
            return Err(problem.help("write a number per second, as in \"20/s\""));
        };
        if unit != "s" {
            return Err(Problem::new(format!("\"{text}\" is not a rate per second"))
                .help("write a number per second, as in \"20/s\""));
        }
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            let problem = format!("the number before /s in \"{text}\" is not a whole number");
            return Err(Problem::new(problem).help("write a number per second, as in \"20/s\""));
        }
        match number.parse::<u32>().map(NonZeroU32::new) {
            Ok(Some(rate)) => Ok(Self(rate)),
            Ok(None) => Err(zero_rate("1/s")),
            Err(_) => Err(Problem::new(format!("\"{text}\" is more than {}/s", u32::MAX))
                .help(format!("the maximum is \"{}/s\"", u32::MAX))),
        }
    }
}

/// A rate in bytes per second, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BytesPerSecond(pub NonZeroU64);

impl BytesPerSecond {
    /// Parses a rate such as `"64KiB/s"`.
    ///
    /// # Errors
    ///
    /// Describes the mistake and suggests a valid rate.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let example = "write bytes per second, as in \"64KiB/s\"";
        let Some((size, unit)) = text.split_once('/') else {
            let problem = Problem::new(format!("\"{text}\" is not a rate"));
            return Err(match ByteSize::parse(text) {
                Ok(_) => problem.help(format!("write \"{text}/s\" if you mean per second")),
                Err(_) => problem.help(example),
            });
        };
        if unit != "s" {
            let problem = Problem::new(format!("\"{text}\" is not a rate per second"));
            return Err(problem.help(example));
        }
        // A size of 0 is a rate of 0, and a number without unit lacks the unit of bytes.
        if digits(size) == Some(0) {
            return Err(zero_rate("1B/s"));
        }
        if digits(size).is_some() {
            let problem = Problem::new(format!("\"{text}\" has no unit"));
            return Err(problem.help(format!("write \"{size}B/s\" if you mean bytes")));
        }
        let quantity =
            ByteSize::parse(size).map_err(|problem| problem.zero_as(|| zero_rate("1B/s")))?;
        NonZeroU64::new(quantity.get()).map(Self).ok_or_else(|| zero_rate("1B/s"))
    }
}

fn zero_rate(lowest: &str) -> Problem {
    Problem::zero("a rate of 0 would allow nothing").help(format!("the minimum is \"{lowest}\""))
}

/// A whole number and the text after it.
struct Quantity<'t> {
    number: u64,
    /// The number as written, for suggestions.
    digits: &'t str,
    unit: &'t str,
}

enum QuantityError {
    Unit,
    Overflow,
}

impl<'t> Quantity<'t> {
    /// `None` if the number is above 2^64 - 1.
    fn parse(text: &'t str, noun: &str, example: &str) -> Result<Option<Self>, Problem> {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let problem = |what: &str| {
            Problem::new(format!("\"{text}\" {what}"))
                .help(format!("write one whole number and one unit, as in \"{example}\""))
        };
        if number.is_empty() {
            return Err(problem(&format!("is not a {noun}")));
        }
        if unit.starts_with(['.', ',', '_']) {
            return Err(problem("is not a whole number"));
        }
        if unit.contains(|c: char| c.is_ascii_digit()) {
            return Err(problem("contains more than one number"));
        }
        let value = number.parse().ok();
        Ok(value.map(|value| Self { number: value, digits: number, unit }))
    }

    fn scale(&self, units: &[(&str, u64)]) -> Result<u64, QuantityError> {
        let (_, scale) =
            units.iter().find(|(unit, _)| *unit == self.unit).ok_or(QuantityError::Unit)?;
        self.number.checked_mul(*scale).ok_or(QuantityError::Overflow)
    }

    fn unknown_size_unit(&self) -> Problem {
        let digits = self.digits;
        let unit = self.unit.trim();
        if unit.is_empty() {
            return Problem::new(format!("\"{digits}\" has no unit"))
                .help(format!("write \"{digits}B\" for bytes, or a size such as \"1MiB\""));
        }
        let meant = match unit.to_ascii_lowercase().as_str() {
            "b" | "byte" | "bytes" => "B",
            "k" | "kb" | "kib" => "KiB",
            "m" | "mb" | "mib" => "MiB",
            "g" | "gb" | "gib" => "GiB",
            _ => {
                return Problem::new(format!("\"{unit}\" is not a unit of size"))
                    .help("the units are B, KiB, MiB and GiB, as in \"1MiB\"");
            }
        };
        let problem = Problem::new(format!("\"{}\" is not a unit of size", self.unit));
        let bytes = SIZE_UNITS.iter().find(|(unit, _)| *unit == meant).map(|(_, scale)| *scale);
        match bytes.and_then(|scale| self.number.checked_mul(scale)) {
            Some(bytes) if meant != "B" => {
                problem.help(format!("write \"{digits}{meant}\", which is {bytes} bytes"))
            }
            Some(_) | None => problem.help(format!("write \"{digits}{meant}\"")),
        }
    }

    /// `units` are those that are possible, and `example` has one of them.
    fn unknown_time_unit(&self, units: &[(&str, u64)], example: &str) -> Problem {
        let digits = self.digits;
        let unit = self.unit.trim();
        if unit.is_empty() {
            return Problem::new(format!("\"{digits}\" has no unit"))
                .help(format!("write \"{digits}s\" for seconds"));
        }
        let problem = |unit: &str| Problem::new(format!("\"{unit}\" is not a unit of time"));
        let meant = match unit.to_ascii_lowercase().as_str() {
            "ms" | "msec" | "millis" | "milliseconds" => "ms",
            "s" | "sec" | "secs" | "second" | "seconds" => "s",
            "min" | "mins" | "minute" | "minutes" | "m" => "m",
            "h" | "hr" | "hrs" | "hour" | "hours" => "h",
            "d" | "day" | "days" => "d",
            "y" | "yr" | "year" | "years" => "y",
            _ => "",
        };
        if units.iter().any(|(name, _)| *name == meant) {
            return problem(self.unit).help(format!("write \"{digits}{meant}\""));
        }
        let names: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
        let (last, others) = names.split_last().unwrap_or((&"s", &[]));
        problem(unit)
            .help(format!("the units are {} and {last}, as in \"{example}\"", others.join(", ")))
    }
}

fn largest_unit(value: u64, units: &[(&'static str, u64)]) -> (&'static str, u64) {
    let fits = |scale: u64| value > 0 && value.is_multiple_of(scale);
    units.iter().rev().find(|(_, scale)| fits(*scale)).or(units.first()).copied().unwrap_or(("", 1))
}

const SIZE_UNITS: [(&str, u64); 4] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
const SIZE_MAX: u64 = (1 << 63) - 1;
/// Units in milliseconds.
const TIME_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", DAY_MILLIS)];
/// Units in seconds. A year has 365 days, as in most policies of browsers.
const LONG_UNITS: [(&str, u64); 5] =
    [("s", 1), ("m", 60), ("h", 3600), ("d", 24 * 3600), ("y", 365 * 24 * 3600)];
const LONG_SECONDS_MAX: u64 = 10 * 365 * 24 * 3600;
const DAY_MILLIS: u64 = 24 * 3_600_000;
const MILLIS_MAX: u64 = 365 * 24 * 3_600_000;
/// The longest duration.
pub(crate) const DURATION_MAX: Duration = Duration::from_millis(MILLIS_MAX);

#[cfg(test)]
mod tests;
