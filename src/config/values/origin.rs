//! Origins (RFC 6454): parsed once, compared exactly.

use std::fmt;
use std::net::Ipv6Addr;

use super::patterns::digits;
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::nearest::nearest;

/// A serialised origin, normalised: lower-case scheme and host, the port always present.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// `https`, `http`, or another scheme as written.
    pub scheme: String,
    /// Host in its ASCII form; IPv6 in brackets.
    pub host: String,
    /// The port, or the scheme's default one; `None` for a scheme without one.
    pub port: Option<u16>,
}

/// Why a text is no origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// No `scheme://` in front.
    #[error("an origin begins with its scheme")]
    NoScheme,
    /// A scheme with other characters than RFC 3986 3.1 allows.
    #[error("the scheme is malformed")]
    BadScheme,
    /// Something behind host and port.
    #[error("an origin has no path, not even a slash at its end")]
    Path,
    /// A user, and perhaps a password.
    #[error("an origin has no user name")]
    User,
    /// No host.
    #[error("the host is missing")]
    NoHost,
    /// Browsers send international names in punycode (RFC 6454 6.2).
    #[error("the host is not ASCII")]
    NotAscii,
    /// A host with characters that no name and no address has.
    #[error("the host is malformed")]
    BadHost,
    /// A port that is not 1 to 65535.
    #[error("that is no port")]
    BadPort,
}

impl Origin {
    /// Reads the serialisation of RFC 6454 6.2, from a file or from an `Origin` field.
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
        Ok(Self { scheme, host: normal_host(host)?, port })
    }
}

impl fmt::Display for Origin {
    /// As a browser would send it: without the scheme's default port.
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
    /// `"*"`: any Origin, or none.
    Any,
    /// `"same-origin"`: scheme, host and port of the request itself.
    SameOrigin,
    /// `"null"`: the opaque origin (sandboxed frames, local files).
    Null,
    /// `"missing"`: no Origin header (programs that are no browsers).
    Missing,
    /// Exactly this one.
    Exact(Origin),
    /// Any name below this host, same scheme and port: `https://*.example.com`.
    Subdomains(Origin),
}

impl OriginRule {
    /// Reads one entry of a route's `origins`.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        match text {
            "*" => return Ok(Self::Any),
            "same-origin" => return Ok(Self::SameOrigin),
            "null" => return Ok(Self::Null),
            "missing" => return Ok(Self::Missing),
            "" => return Err(Problem::new("an empty origin").help(RULES)),
            _ => {}
        }
        let complaint =
            |fault: OriginError| Problem::new(fault.to_string()).help(remedy(text, fault));
        let rule = match text.split_once("://*.") {
            Some((scheme, parent)) => {
                let parent = Origin::parse(&format!("{scheme}://{parent}")).map_err(complaint)?;
                if parent.host.starts_with('[') || is_ipv4(&parent.host) {
                    return Err(Problem::new("an IP address has no names below it")
                        .help(format!("write \"{parent}\"")));
                }
                Self::Subdomains(parent)
            }
            None if text.contains('*') => return Err(stray_wildcard(text)),
            None => Self::Exact(Origin::parse(text).map_err(complaint)?),
        };
        if let Self::Exact(origin) | Self::Subdomains(origin) = &rule
            && matches!(origin.scheme.as_str(), "ws" | "wss")
        {
            let (_, rest) = text.split_once("://").unwrap_or(("", text));
            let scheme = if origin.scheme == "wss" { "https" } else { "http" };
            let wrong = Problem::new("an origin names the page, not the WebSocket it opens");
            return Err(wrong.help(format!("write \"{scheme}://{rest}\"")));
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

fn normal_host(host: &str) -> Result<String, OriginError> {
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

fn remedy(text: &str, fault: OriginError) -> String {
    match fault {
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
        OriginError::NoHost if text.starts_with("file:") => {
            "pages that are local files send \"null\"".to_owned()
        }
        OriginError::BadPort => "ports are 1 to 65535".to_owned(),
        OriginError::BadScheme | OriginError::NoHost | OriginError::BadHost => {
            "write it as browsers do: \"https://chat.example.com\", \"http://localhost:3000\""
                .to_owned()
        }
    }
}

fn stray_wildcard(text: &str) -> Problem {
    let wrong = Problem::new(format!("\"{text}\" has a * in a place where it means nothing"));
    match text.strip_prefix("*.") {
        Some(parent) => wrong.help(format!("write \"https://*.{parent}\"")),
        None => wrong.help(
            "\"https://*.example.com\" is every name below example.com, \"*\" alone is any origin",
        ),
    }
}

const KEYWORDS: [&str; 3] = ["same-origin", "null", "missing"];

/// The choices for `origins`, for people.
pub(crate) const RULES: &str = "list the pages that may connect:
\"same-origin\"               pages on the route's own host
\"https://chat.example.com\"  this origin exactly
\"https://*.example.com\"     any name below example.com
\"missing\"                   programs that are no browsers, and send no Origin
\"null\"                      sandboxed frames and local files
\"*\"                         everybody: only if the backend checks for itself";

#[cfg(test)]
mod tests;
