//! Defaults of keys that are missing or invalid.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use crate::config::toml::value::Parsed;
use crate::config::values::head_limits::{HeadFields, HeadSize};
use crate::config::values::targets::OptionalFile;
use crate::http::head_limits::HeadLimits;

/// The value of a key, or its default.
pub(crate) fn value_or<T: Clone>(given: &Parsed<T>, default: T) -> T {
    given.value().cloned().unwrap_or(default)
}

/// The path of a file, which starts at this directory if it is relative.
pub(crate) fn optional_file(given: &Parsed<OptionalFile>, dir: &Path) -> Option<PathBuf> {
    given.value().and_then(|OptionalFile(path)| path.as_deref()).map(|path| dir.join(path))
}

/// Limits on heads from the keys of a listener or a route.
pub(crate) fn head_limits(size: &Parsed<HeadSize>, fields: &Parsed<HeadFields>) -> HeadLimits {
    let HeadLimits { bytes, fields: number } = HeadLimits::default();
    HeadLimits {
        bytes: value_or(size, HeadSize(bytes)).0,
        fields: value_or(fields, HeadFields(number)).0,
    }
}

/// Converts a number of the file into a count.
pub(crate) fn count(number: NonZeroU32) -> usize {
    usize::try_from(number.get()).unwrap_or(usize::MAX)
}
