//! The names and addresses a configuration is made of, parsed once.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::address::slip;
use super::field::no_variable;
use crate::config::toml::diagnostic::Problem;

/// Which hosts a route serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// One host, lower-case, without a trailing dot and without a port; IPv6 in brackets.
    Exact(String),
    /// Every name below this one: `*.example.com` holds `example.com`; the apex is not matched.
    Subdomains(String),
    /// Any host, spelled `"*"`.
    Any,
}

impl HostPattern {
    /// Reads `"chat.example.com"`, `"*.example.com"` or `"*"`.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if text.trim().contains([' ', ',']) {
            return Err(Problem::new("a route has one host").help(ONE_HOST));
        }
        // What other servers call the one that takes all else.
        if text.starts_with('_') && !text.contains('.') {
            return Err(Problem::new(format!("no client asks for a host \"{text}\""))
                .help("write \"*\" for any host that no other route has"));
        }
        if let Some((_, rest)) = text.split_once("://") {
            let host = rest.split(['/', ':']).next().unwrap_or(rest);
            return Err(Problem::new("a host has no scheme").help(format!("write \"{host}\"")));
        }
        if let Some((host, path)) = text.split_once('/') {
            return Err(Problem::new("a host has no path")
                .help(format!("write host = \"{host}\" and path = \"/{path}\"")));
        }
        if let Some(name) = text.strip_prefix("*.") {
            return match host_name(name)? {
                Host::Name(name) => Ok(Self::Subdomains(name)),
                Host::V4(_) | Host::V6(_) => {
                    Err(Problem::new("an IP address has no names below it")
                        .help("write the address without \"*.\""))
                }
            };
        }
        if text.contains('*') {
            return Err(Problem::new(format!("\"{text}\" has a * that is not its first label"))
                .help(
                    "write \"*.example.com\" for every name below example.com, \"*\" for any host",
                ));
        }
        if let (Some((host, port)), false) = (text.rsplit_once(':'), text.ends_with(']'))
            && digits(port).is_some()
            && (!host.contains(':') || host.ends_with(']'))
        {
            return Err(Problem::new("a route's host has no port: it holds for all of them")
                .help(format!("write \"{host}\"")));
        }
        let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        match (host_name(inner.unwrap_or(text))?, inner) {
            (Host::Name(name), None) => Ok(Self::Exact(name)),
            (Host::V4(address), None) => Ok(Self::Exact(address.to_string())),
            (Host::V6(address), _) => Ok(Self::Exact(format!("[{address}]"))),
            (Host::Name(_) | Host::V4(_), Some(inner)) => Err(only_ipv6_in_brackets(inner)),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Subdomains(host) => write!(f, "*.{host}"),
            Self::Any => f.write_str("*"),
        }
    }
}

enum Host {
    Name(String),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

/// A DNS name or an IP address without brackets, in its one normal form.
fn host_name(text: &str) -> Result<Host, Problem> {
    match text.parse() {
        Ok(IpAddr::V4(address)) => return Ok(Host::V4(address)),
        Ok(IpAddr::V6(address)) => return Ok(Host::V6(address)),
        Err(_) => {}
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if name.is_empty() {
        return Err(Problem::new("the host is empty"));
    }
    if !name.is_ascii() {
        return Err(Problem::new(format!("\"{text}\" is not ASCII"))
            .help("write the name in punycode, as in \"xn--bcher-kva.example\""));
    }
    let label_fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if let Some(slip) = slip(text) {
        return Err(slip);
    }
    if name.len() > 253 || !name.split('.').all(label_fits) {
        return Err(Problem::new(format!("\"{text}\" is neither a host name nor an IP address")));
    }
    // Names do not end in a number (RFC 1123 2.1); `10.0.0.256` is a slip, not a name.
    let last = name.rsplit('.').next().unwrap_or(&name);
    if digits(last).is_some() {
        return Err(Problem::new(format!("\"{text}\" is not an IPv4 address")));
    }
    Ok(Host::Name(name))
}

/// Where a path must begin, by whole segments: `/ws` matches `/ws` and `/ws/x`, not `/wsx`.
/// Starts with `/`, does not end with it; `/` alone matches everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathPrefix(String);

impl PathPrefix {
    /// `/`: every path.
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// Reads `"/ws"`; `"/ws/"` is the same.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        request_path(text)?;
        if let Some((prefix, _)) = text.split_once('*') {
            let meant = prefix.trim_end_matches('/');
            let meant = if meant.is_empty() { "/" } else { meant };
            return Err(Problem::new(
                "a path has no wildcards: it matches all that begins with it",
            )
            .help(format!("write \"{meant}\"")));
        }
        let path = text.trim_end_matches('/');
        if path.split('/').skip(1).any(|segment| matches!(segment, "" | "." | "..")) {
            return Err(Problem::new(format!("\"{text}\" has an empty, \".\" or \"..\" segment")));
        }
        Ok(if path.is_empty() { Self::root() } else { Self(path.to_owned()) })
    }

    /// The prefix as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether it is a path as it stands in a request line (RFC 9112 3.2.1), without a query.
pub(crate) fn request_path(text: &str) -> Result<(), Problem> {
    if !text.starts_with('/') {
        let meant = text
            .split_once("://")
            .map_or(text, |(_, rest)| rest.split_once('/').map_or("", |(_, path)| path));
        return Err(Problem::new(format!("\"{text}\" does not start with /"))
            .help(format!("write \"/{}\"", meant.split(['?', '#']).next().unwrap_or(meant))));
    }
    if text.contains(['?', '#']) {
        return Err(Problem::new(format!("\"{text}\" has a query or a fragment"))
            .help("only the path decides; leave out what begins with ? or #"));
    }
    // A dollar alone is lawful, and in use.
    if text.contains("${") || text.contains("%{") {
        no_variable(text)?;
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Problem::new(format!("\"{text}\" has a character that no request path has"))
            .help("write it percent-encoded, as clients send it"));
    }
    Ok(())
}

/// Host (a name, or an address without brackets) and port of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BackendAddress {
    /// Name or IP address.
    pub host: String,
    /// TCP port, never 0.
    pub port: u16,
}

impl BackendAddress {
    /// Reads `"127.0.0.1:9001"`, `"app.internal:9001"` or `"[::1]:9001"`.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        if let Some(wrong) = slip(text).or_else(|| more_than_an_address(text)) {
            return Err(wrong);
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(Problem::new(format!("\"{text}\" has no port"))
                .help(format!("write \"[{text}]:9001\" if the port is 9001")));
        }
        let Some((host, port)) = text.rsplit_once(':').filter(|_| !text.ends_with(']')) else {
            return Err(Problem::new(format!("\"{text}\" has no port"))
                .help(format!("write \"{text}:9001\" if the port is 9001")));
        };
        let port = match digits(port).map(u16::try_from) {
            Some(Ok(port)) if port > 0 => port,
            Some(_) | None => {
                return Err(
                    Problem::new(format!("\"{port}\" is not a port")).help("ports are 1 to 65535")
                );
            }
        };
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match (host_name(bracketed.unwrap_or(host))?, bracketed) {
            (Host::Name(name), None) => name,
            (Host::V4(address), None) => address.to_string(),
            (Host::V6(address), Some(_)) => address.to_string(),
            (Host::V6(address), None) => {
                return Err(Problem::new("an IPv6 address stands in brackets")
                    .help(format!("write \"[{address}]:{port}\"")));
            }
            (Host::Name(_) | Host::V4(_), Some(inner)) => {
                return Err(only_ipv6_in_brackets(&format!("{inner}:{port}")));
            }
        };
        Ok(Self { host, port })
    }
}

fn only_ipv6_in_brackets(meant: &str) -> Problem {
    Problem::new("only an IPv6 address stands in brackets").help(format!("write \"{meant}\""))
}

/// A URL, a user, a path or a Unix socket where only host and port may stand.
fn more_than_an_address(text: &str) -> Option<Problem> {
    if text.starts_with("unix:") || text.starts_with('/') {
        return Some(Problem::new("a backend is a host and a port; Unix sockets are not spoken"));
    }
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let rest = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, address)| address);
    if rest.len() == text.len() {
        return None;
    }
    let port = if rest.contains(':') { "" } else { ":80" };
    Some(match scheme {
        "https" | "wss" => Problem::new("backends are spoken to without TLS")
            .help("write the host and port of a plain one, as in \"127.0.0.1:9001\""),
        _ => Problem::new("a backend is a host and a port, nothing else")
            .help(format!("write \"{rest}{port}\"")),
    })
}

impl fmt::Display for BackendAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What to do about several hosts.
pub(crate) const ONE_HOST: &str =
    "write one [[route]] for each, or \"*.example.com\" for every name below it";

/// A number of ASCII digits only: `u64::from_str` would take a sign.
pub(crate) fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests;
