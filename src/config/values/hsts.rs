//! The time for which browsers connect to a host with TLS only (RFC 6797).

use std::time::Duration;

use toml::de::DeValue;

use super::units::parse_long_duration;
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::scalar::{number, type_mismatch};
use crate::config::toml::value::TomlValue;

/// The `max-age` of `Strict-Transport-Security`; 0 makes browsers forget the host (RFC 6797 6.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HstsAge(pub(crate) Duration);

impl TomlValue for HstsAge {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let Some(text) = value.as_str() else {
            return Err(match number(value, "\"10y\"")? {
                Some(number) => Problem::new(format!("{number} has no unit"))
                    .help(format!("write \"{number}s\" if you mean seconds")),
                None => type_mismatch("a duration", value).help("write one such as \"1y\""),
            });
        };
        let directives = text.to_ascii_lowercase();
        if ["max-age", "includesubdomains", "preload"].iter().any(|name| directives.contains(name))
        {
            let problem = Problem::new(format!("\"{text}\" is not a duration"));
            let help = "write only the time, as in \"1y\"; for includeSubDomains or preload, set the \
                        whole field in [route.response_headers] instead";
            return Err(problem.help(help));
        }
        parse_long_duration(text).map(Self)
    }
}
