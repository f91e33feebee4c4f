//! The values of `[acme]`, and the names of ordered certificates.

use hyper::Uri;
use toml::de::DeValue;

use super::choices::choice;
use super::patterns::{Host, parse_host};
use crate::config::settings::acme::{ChallengeKind, UntilIssued};
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::scalar::text;
use crate::config::toml::value::TomlValue;

/// The address of the account's contact, without `mailto:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AccountEmail(pub(crate) String);

impl TomlValue for AccountEmail {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "an e-mail address")?;
        let text = text.strip_prefix("mailto:").unwrap_or(text);
        // RFC 8555 7.3: one address, without header fields.
        let is_address = text.split_once('@').is_some_and(|(user, host)| {
            !user.is_empty() && !host.is_empty() && !host.contains('@')
        });
        let allowed = |byte: u8| byte.is_ascii_graphic() && !b",;?&<>\"".contains(&byte);
        if !is_address || !text.bytes().all(allowed) {
            let problem =
                Problem::new(format!("\"{}\" is not one e-mail address", text.escape_debug()));
            return Err(problem.help("write one such as \"admin@example.com\""));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The URL of a directory (RFC 8555 7.1.1), or the name of a well-known one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DirectoryUrl(pub(crate) String);

impl DirectoryUrl {
    /// The directory that is used by default.
    pub(crate) fn lets_encrypt() -> Self {
        Self(LETS_ENCRYPT.to_owned())
    }
}

impl TomlValue for DirectoryUrl {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, DIRECTORIES)?;
        match text {
            "letsencrypt" => return Ok(Self::lets_encrypt()),
            "letsencrypt-staging" => return Ok(Self(LETS_ENCRYPT_STAGING.to_owned())),
            _ => {}
        }
        let url = text.parse::<Uri>().ok();
        let is_https = url.is_some_and(|url| {
            url.scheme_str() == Some("https") && url.host().is_some_and(|host| !host.is_empty())
        });
        if !is_https {
            let problem = format!(
                "\"{}\" is not the directory of a certificate authority",
                text.escape_debug()
            );
            return Err(Problem::new(problem).help(format!("write {DIRECTORIES}")));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TomlValue for UntilIssued {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        choice(value, &Self::NAMES)
    }
}

impl TomlValue for ChallengeKind {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        choice(value, &Self::NAMES)
    }
}

/// A name that a certificate is ordered for, in lower case: `a.example` or `*.a.example`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateHost(pub(crate) String);

impl TomlValue for CertificateHost {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "a host such as \"chat.example.com\"")?;
        let (star, bare) = match text.strip_prefix("*.") {
            Some(parent) => ("*.", parent),
            None => ("", text),
        };
        if bare.contains(['*', ':', '/', '@', ' ', ',']) {
            let problem = Problem::new(format!("\"{}\" is not a host name", text.escape_debug()));
            return Err(problem.help("write one such as \"chat.example.com\" or \"*.example.com\""));
        }
        match parse_host(bare)? {
            Host::Name(name) => Ok(Self(format!("{star}{name}"))),
            Host::V4(_) | Host::V6(_) => {
                let problem = "certificates for IP addresses are not ordered";
                Err(Problem::new(problem).help("use files: chain = \"...\" and key = \"...\""))
            }
        }
    }
}

const DIRECTORIES: &str = "\"letsencrypt\", \"letsencrypt-staging\", or a URL such as \"https://ca.example/acme/directory\"";
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
const LETS_ENCRYPT_STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";
