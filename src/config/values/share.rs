//! A share of all requests, in percent.

use std::fmt;

use toml::de::DeValue;

use crate::config::toml::diagnostic::Problem;
use crate::config::toml::scalar::{digits, text};
use crate::config::toml::value::TomlValue;

/// A share in hundredths of a percent, from 0 to 10,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

impl Share {
    /// No request.
    pub const ZERO: Self = Self(0);

    /// Parses `"5%"` or `"0.25%"`, or `"off"` for none.
    ///
    /// # Errors
    /// It is not a share, or not from 0.01 to 100 percent.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        if text == "off" {
            return Ok(Self::ZERO);
        }
        let problem = || Problem::new(format!("\"{text}\" is not a share")).help(FORM);
        let number = text.strip_suffix('%').ok_or_else(problem)?;
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let hundredths = match part.len() {
            1 => digits(part).map(|tenths| 10 * tenths),
            2 => digits(part),
            _ => None,
        };
        let whole = digits(whole).filter(|whole| *whole <= 100);
        let (whole, hundredths) = whole.zip(hundredths).ok_or_else(problem)?;
        match u32::try_from(100 * whole + hundredths) {
            Ok(share @ 1..=ALL) => Ok(Self(share)),
            Ok(_) | Err(_) => Err(problem()),
        }
    }

    /// The share as a number from 0 to 1.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / f64::from(ALL)
    }

    #[cfg(test)]
    pub fn percent(percent: u32) -> Self {
        Self(100 * percent)
    }
}

/// As in the configuration file.
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 100, self.0 % 100) {
            (0, 0) => f.write_str("off"),
            (whole, 0) => write!(f, "{whole}%"),
            (whole, part) if part % 10 == 0 => write!(f, "{whole}.{}%", part / 10),
            (whole, part) => write!(f, "{whole}.{part:02}%"),
        }
    }
}

impl TomlValue for Share {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        if let Some(number) = value.as_integer() {
            return Err(Problem::new("a share needs a unit").help(format!("write \"{number}%\"")));
        }
        Self::parse(text(value, "a share such as \"5%\", or \"off\"")?)
    }
}

const FORM: &str = "write \"off\", or 0.01% to 100%, such as \"5%\" or \"0.5%\"";
const ALL: u32 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_shown_as_written() {
        for text in ["off", "0.01%", "0.5%", "5%", "12.25%", "100%"] {
            assert_eq!(Share::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Share::parse("5.0%").unwrap(), Share::percent(5));
        assert_eq!(Share::parse("2.5%").unwrap().fraction(), 0.025);
    }

    #[test]
    fn other_texts_are_no_shares() {
        for text in [
            "", "%", "5", "0%", "0.00%", "100.01%", "101%", "-1%", "5 %", "1.234%", ".5%", "1.%",
            "1e1%",
        ] {
            assert!(Share::parse(text).is_err(), "{text}");
        }
    }
}
