//! Limits on the heads of requests and responses.

use toml::de::DeValue;

use super::scalars::{means_unlimited, whole};
use super::units::ByteSize;
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::value::TomlValue;
use crate::http::head_limits::HeadLimits;

/// The maximum size of a head in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeadSize(pub(crate) usize);

impl TomlValue for HeadSize {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let [min, max] = [HeadLimits::BYTES_MIN, HeadLimits::BYTES_MAX];
        let [least, most] = [min, max].map(|bytes| ByteSize::new(bytes as u64));
        let help = format!("write a size from \"{least}\" to \"{most}\"");
        let size = ByteSize::read(value).map_err(|problem| {
            let is_off = value.as_bool().is_some() || means_unlimited(value);
            if is_off { problem.help(&help) } else { problem.help_if_zero(&help) }
        })?;
        let bytes = usize::try_from(size.get()).unwrap_or(usize::MAX);
        if (min..=max).contains(&bytes) {
            Ok(Self(bytes))
        } else {
            Err(Problem::new(format!("{size} is out of range for a head")).help(help))
        }
    }
}

/// The maximum number of fields in a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeadFields(pub(crate) usize);

impl TomlValue for HeadFields {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let number = whole(value, "a number of header fields", HeadLimits::FIELDS_MAX as u64)?;
        match usize::try_from(number) {
            Ok(fields) if (1..=HeadLimits::FIELDS_MAX).contains(&fields) => Ok(Self(fields)),
            Ok(_) | Err(_) => {
                Err(Problem::new(format!("{number} is out of range for the fields of a head"))
                    .help(format!("write a number from 1 to {}", HeadLimits::FIELDS_MAX)))
            }
        }
    }
}
