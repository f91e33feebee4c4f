//! Defaults of keys that are missing or invalid.

use std::num::NonZeroU32;

use crate::config::toml::value::Parsed;

/// The value of a key, or its default.
pub(crate) fn value_or<T: Clone>(given: &Parsed<T>, default: T) -> T {
    given.value().cloned().unwrap_or(default)
}

/// Converts a number of the file into a count.
pub(crate) fn count(number: NonZeroU32) -> usize {
    usize::try_from(number.get()).unwrap_or(usize::MAX)
}
