//! Parsed values together with their locations.

use toml::de::DeValue;

use super::diagnostic::{Location, Problem};

/// A type that can be read from a TOML value.
pub(crate) trait TomlValue: Sized {
    /// Reads a value of any TOML type.
    ///
    /// # Errors
    ///
    /// Describes the mistake and suggests a valid value.
    fn read(value: &DeValue<'_>) -> Result<Self, Problem>;

    /// What to write instead if this value was written for a key that expects a list of values.
    fn list_help(_key: &str, _value: &DeValue<'_>) -> Option<String> {
        None
    }
}

/// A value and its location in the file.
#[derive(Clone, Debug)]
pub(crate) struct Located<T> {
    pub(crate) value: T,
    pub(crate) location: Location,
}

/// The result of reading a key.
#[derive(Clone, Debug)]
pub(crate) enum Parsed<T> {
    /// The key is not in the file; the default applies.
    Missing,
    /// The key is in the file, and an error was reported for it.
    Invalid,
    /// The key is in the file and its value is valid.
    Valid(Located<T>),
}

impl<T> Parsed<T> {
    /// Value and location, if the key is present and valid.
    pub(crate) fn located(&self) -> Option<&Located<T>> {
        match self {
            Self::Valid(located) => Some(located),
            Self::Missing | Self::Invalid => None,
        }
    }

    /// The value, if the key is present and valid.
    pub(crate) fn value(&self) -> Option<&T> {
        self.located().map(|located| &located.value)
    }

    /// The location, if the key is present and valid.
    pub(crate) fn location(&self) -> Option<&Location> {
        self.located().map(|located| &located.location)
    }

    /// Converts the value and keeps its location.
    pub(crate) fn map<U>(self, convert: impl FnOnce(T) -> U) -> Parsed<U> {
        match self {
            Self::Missing => Parsed::Missing,
            Self::Invalid => Parsed::Invalid,
            Self::Valid(Located { value, location }) => {
                Parsed::Valid(Located { value: convert(value), location })
            }
        }
    }

    /// Whether an error was reported for this key, so that checks against other keys are skipped.
    pub(crate) fn is_invalid(&self) -> bool {
        matches!(self, Self::Invalid)
    }
}
