//! Names, values and attributes of cookies.

use std::sync::Arc;

use toml::de::DeValue;

use crate::config::toml::diagnostic::Problem;
use crate::config::toml::scalar::text;
use crate::config::toml::value::TomlValue;
use crate::http::fields::is_token;

/// The name of a cookie (RFC 6265 4.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CookieName(pub(crate) String);

impl TomlValue for CookieName {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "the name of a cookie")?;
        if !is_token(text.as_bytes()) || text.len() > NAME_BYTES_MAX {
            let problem = Problem::new(format!("\"{text}\" cannot be the name of a cookie"));
            return Err(problem.help("write a short word without spaces, such as \"tidegate\""));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A value that another proxy has given to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CookieValue(pub(crate) Arc<str>);

impl TomlValue for CookieValue {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "the value of a cookie")?;
        // The octets of RFC 6265 4.1.1; a bar precedes the times of HAProxy.
        let is_octet = |byte: u8| byte.is_ascii_graphic() && !b"\",;\\|".contains(&byte);
        if text.is_empty() || text.len() > VALUE_BYTES_MAX || !text.bytes().all(is_octet) {
            let problem = Problem::new(format!("\"{text}\" cannot be the value of a cookie"));
            return Err(
                problem.help("write what clients send after NAME=, without times after a bar")
            );
        }
        Ok(Self(text.into()))
    }
}

/// The paths that get a cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CookiePath(pub(crate) String);

impl TomlValue for CookiePath {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "a path such as \"/\"")?;
        if !text.starts_with('/') || !is_attribute(text) {
            let problem = Problem::new(format!("\"{text}\" cannot be the path of a cookie"));
            return Err(problem.help("write one such as \"/\" or \"/app\""));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The domain whose hosts get a cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CookieDomain(pub(crate) String);

impl TomlValue for CookieDomain {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "a domain such as \"example.com\"")?;
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
        if !text.contains('.') || text.starts_with('.') || !text.bytes().all(is_letter) {
            let problem = Problem::new(format!("\"{text}\" cannot be the domain of a cookie"));
            return Err(
                problem.help("write one such as \"example.com\", which includes its subdomains")
            );
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

/// Whether the text cannot end an attribute.
fn is_attribute(text: &str) -> bool {
    text.len() <= VALUE_BYTES_MAX
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';')
}

const NAME_BYTES_MAX: usize = 128;
const VALUE_BYTES_MAX: usize = 256;
