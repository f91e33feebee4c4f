//! Origins (RFC 6454): parsed once and compared exactly.

use std::fmt;
use std::net::Ipv6Addr;

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
    #[error("it has no scheme")]
    NoScheme,
    /// The scheme contains characters that RFC 3986 section 3.1 does not allow.
    #[error("the scheme is malformed")]
    BadScheme,
    /// There is a path, query or fragment after host and port.
    #[error("it ends with a path, which may be just a slash")]
    Path,
    /// There is a user name.
    #[error("it contains a user name")]
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

impl Origin {
    /// Whether the host is a subdomain of the parent's, with the same scheme and port.
    pub fn is_below(&self, parent: &Self) -> bool {
        let labels = self.host.strip_suffix(parent.host.as_str());
        self.scheme == parent.scheme
            && self.port == parent.port
            && labels.is_some_and(|labels| labels.len() > 1 && labels.ends_with('.'))
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

#[cfg(test)]
mod tests;
