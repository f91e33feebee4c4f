//! Origins (RFC 6454): parsed once and compared exactly.

use std::fmt;
use std::net::Ipv6Addr;

use crate::config::toml::diagnostic::Problem;
use crate::config::toml::nearest::nearest;
use crate::config::toml::scalar::digits;

/// A normalised origin: lower-case scheme and host, and an explicit port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// `https`, `http`, or another scheme in lower case.
    pub scheme: String,
    /// Host in ASCII form; IPv6 addresses in brackets.
    pub host: String,
    /// The port, or the default port of the scheme; `None` for a scheme without a default port.
    pub port: Option<u16>,
}

/// Why a text is not an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// The text does not start with `scheme://`.
    #[error("an origin must start with a scheme")]
    NoScheme,
    /// The scheme contains characters that RFC 3986 section 3.1 does not allow.
    #[error("the scheme is malformed")]
    BadScheme,
    /// There is a path, query or fragment after host and port.
    #[error("an origin must not contain a path, not even a trailing slash")]
    Path,
    /// There is a user name.
    #[error("an origin must not contain a user name")]
    User,
    /// The host is empty.
    #[error("the host is missing")]
    NoHost,
    /// The host is not ASCII; browsers send international names in punycode (RFC 6454 section 6.2).
    #[error("the host is not ASCII")]
    NotAscii,
    /// The host is neither a name nor an address.
    #[error("the host is malformed")]
    BadHost,
    /// The port is not a number from 1 to 65535.
    #[error("the port is invalid")]
    BadPort,
}

impl Origin {
    /// Parses the serialization of RFC 6454 section 6.2, as it appears in the file and in the
    /// `Origin` field.
    ///
    /// # Errors
    ///
    /// The text is not a serialized origin.
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        let (scheme, rest) = text.split_once("://").ok_or(OriginError::NoScheme)?;
        let first_fits = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        if !first_fits || !scheme.bytes().all(fits) {
            return Err(OriginError::BadScheme);
        }
        if rest.contains(['/', '?', '#', '\\']) {
            return Err(OriginError::Path);
        }
        if rest.contains('@') {
            return Err(OriginError::User);
        }
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = split_port(rest)?;
        let port = match port {
            None => default_port(&scheme),
            Some(port) => match digits(port).map(u16::try_from) {
                Some(Ok(port)) if port > 0 => Some(port),
                Some(_) | None => return Err(OriginError::BadPort),
            },
        };
        Ok(Self { scheme, host: normalize_host(host)?, port })
    }
}

impl fmt::Display for Origin {
    /// Formats the origin as browsers send it, without the default port of the scheme.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        match self.port {
            Some(port) if Some(port) != default_port(&self.scheme) => write!(f, ":{port}"),
            Some(_) | None => Ok(()),
        }
    }
}

/// One entry of a route's `origins`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum OriginRule {
    /// `"*"`: any `Origin` field, or none.
    Any,
    /// `"same-origin"`: scheme, host and port of the request.
    SameOrigin,
    /// `"null"`: the opaque origin (sandboxed frames, local files).
    Null,
    /// `"missing"`: no `Origin` field (clients other than browsers).
    Missing,
    /// Exactly this origin.
    Exact(Origin),
    /// Any subdomain of this host with the same scheme and port: `https://*.example.com`.
    Subdomains(Origin),
}

impl OriginRule {
    /// Parses one entry of a route's `origins`.
    ///
    /// # Errors
    ///
    /// Describes the mistake and suggests a valid entry.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        match text {
            "*" => return Ok(Self::Any),
            "same-origin" => return Ok(Self::SameOrigin),
            "null" => return Ok(Self::Null),
            "missing" => return Ok(Self::Missing),
            "" => return Err(Problem::new("an empty origin").help(RULES)),
            _ => {}
        }
        let problem =
            |error: OriginError| Problem::new(error.to_string()).help(suggestion(text, error));
        let rule = match text.split_once("://*.") {
            Some((scheme, parent)) => {
                let parent = Origin::parse(&format!("{scheme}://{parent}")).map_err(problem)?;
                if parent.host.starts_with('[') || is_ipv4(&parent.host) {
                    return Err(Problem::new("an IP address has no subdomains")
                        .help(format!("write \"{parent}\"")));
                }
                Self::Subdomains(parent)
            }
            None if text.contains('*') => return Err(misplaced_wildcard(text)),
            None => Self::Exact(Origin::parse(text).map_err(problem)?),
        };
        if let Self::Exact(origin) | Self::Subdomains(origin) = &rule
            && matches!(origin.scheme.as_str(), "ws" | "wss")
        {
            let (_, rest) = text.split_once("://").unwrap_or(("", text));
            let scheme = if origin.scheme == "wss" { "https" } else { "http" };
            let problem =
                Problem::new("an origin is the address of the page, not of the WebSocket");
            return Err(problem.help(format!("write \"{scheme}://{rest}\"")));
        }
        Ok(rule)
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<&str>), OriginError> {
    if authority.starts_with('[') {
        let end = authority.find(']').ok_or(OriginError::BadHost)?;
        let (host, rest) = authority.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(OriginError::BadHost),
        };
    }
    match authority.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(OriginError::BadHost),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

fn normalize_host(host: &str) -> Result<String, OriginError> {
    if host.is_empty() {
        return Err(OriginError::NoHost);
    }
    if !host.is_ascii() {
        return Err(OriginError::NotAscii);
    }
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        let address: Ipv6Addr = address.parse().map_err(|_| OriginError::BadHost)?;
        return Ok(format!("[{address}]"));
    }
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if host.len() > 253 || !host.bytes().all(fits) || host.starts_with('.') || host.contains("..") {
        return Err(OriginError::BadHost);
    }
    Ok(host.to_ascii_lowercase())
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "https" | "wss" => Some(443),
        "http" | "ws" => Some(80),
        _ => None,
    }
}

fn is_ipv4(host: &str) -> bool {
    host.parse::<std::net::Ipv4Addr>().is_ok()
}

fn suggestion(text: &str, error: OriginError) -> String {
    match error {
        OriginError::NoScheme => match nearest(text, KEYWORDS) {
            Some(keyword) => format!("did you mean \"{keyword}\"?"),
            None if text.contains(['.', ':']) => format!("write \"https://{text}\""),
            None => RULES.to_owned(),
        },
        OriginError::Path => {
            let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
            let host = rest.split(['/', '?', '#', '\\']).next().unwrap_or(rest);
            format!("write \"{scheme}://{host}\"")
        }
        OriginError::NotAscii => {
            "write the name in punycode, as browsers send it: \"https://xn--bcher-kva.example\""
                .to_owned()
        }
        OriginError::User => match text.split_once("://").zip(text.rsplit_once('@')) {
            Some(((scheme, _), (_, host))) => format!("write \"{scheme}://{host}\""),
            None => RULES.to_owned(),
        },
        OriginError::NoHost if text.starts_with("file:") => "local files send \"null\"".to_owned(),
        OriginError::BadPort => "ports are 1 to 65535".to_owned(),
        OriginError::BadScheme | OriginError::NoHost | OriginError::BadHost => {
            "write it as browsers do: \"https://chat.example.com\", \"http://localhost:3000\""
                .to_owned()
        }
    }
}

fn misplaced_wildcard(text: &str) -> Problem {
    let problem = Problem::new(format!("\"{text}\" has a misplaced wildcard"));
    match text.strip_prefix("*.") {
        Some(parent) => problem.help(format!("write \"https://*.{parent}\"")),
        None => problem.help(
            "\"https://*.example.com\" matches every subdomain of example.com, \"*\" alone matches any origin",
        ),
    }
}

const KEYWORDS: [&str; 3] = ["same-origin", "null", "missing"];

/// The choices for `origins`, as shown in error messages.
pub(crate) const RULES: &str = "list the pages that may connect:
\"same-origin\"               pages on the route's own host
\"https://chat.example.com\"  exactly this origin
\"https://*.example.com\"     any subdomain of example.com
\"missing\"                   clients that send no Origin, such as native applications
\"null\"                      sandboxed frames and local files
\"*\"                         any origin: only if the backend checks it itself";

#[cfg(test)]
mod tests;
