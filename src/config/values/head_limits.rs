//! Limits on the heads of requests and responses.

use toml::de::DeValue;

use super::scalars::integer;
use super::units::ByteSize;
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::value::TomlValue;
use crate::http::head_limits::HeadLimits;

/// The maximum size of a head in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeadSize(pub(crate) usize);

impl TomlValue for HeadSize {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        const { assert!(HeadLimits::BYTES_MIN == 8 << 10 && HeadLimits::BYTES_MAX == 64 << 10) };
        let size = ByteSize::read(value)?;
        let bytes = usize::try_from(size.get()).unwrap_or(usize::MAX);
        if (HeadLimits::BYTES_MIN..=HeadLimits::BYTES_MAX).contains(&bytes) {
            Ok(Self(bytes))
        } else {
            Err(Problem::new(format!("{size} is no possible size of a head"))
                .help("write a size from \"8KiB\" to \"64KiB\""))
        }
    }
}

/// The maximum number of fields in a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeadFields(pub(crate) usize);

impl TomlValue for HeadFields {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        const { assert!(HeadLimits::FIELDS_MAX == 1000) };
        let number = integer(value, "a number of header fields", u64::MAX)?;
        match usize::try_from(number) {
            Ok(fields) if (1..=HeadLimits::FIELDS_MAX).contains(&fields) => Ok(Self(fields)),
            Ok(_) | Err(_) => {
                Err(Problem::new(format!("{number} is no possible number of header fields"))
                    .help("write a number from 1 to 1000"))
            }
        }
    }
}
