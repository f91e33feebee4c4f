//! Host patterns, path prefixes and backend addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::address_mistake::{find_mistake, help_for_parameters, split_parameters};
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::scalar::digits;
use crate::config::toml::variables::reject_variable;

/// Which hosts a route serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// One host in lower case, without trailing dot and port; IPv6 addresses in brackets.
    Exact(String),
    /// Every subdomain of this name, but not the name itself: `*.example.com` is `example.com`
    /// here.
    Subdomains(String),
    /// Any host, written `"*"`.
    Any,
}

impl HostPattern {
    /// Parses `"chat.example.com"`, `"*.example.com"` or `"*"`.
    ///
    /// # Errors
    ///
    /// Describes the mistake and suggests a valid pattern.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if text.starts_with('~') || text.contains(['^', '\\', '(']) {
            return Err(
                Problem::new("there are no regular expressions in a route's host").help(ONE_HOST)
            );
        }
        if let Some(name) = text.strip_prefix('.').filter(|name| !name.is_empty()) {
            return Err(Problem::new(format!("\"{text}\" starts with a dot")).help(format!(
                "write \"*.{name}\" for every subdomain, and one more [[route]] for \"{name}\" itself"
            )));
        }
        if text.trim().contains([' ', ',']) {
            return Err(Problem::new("a route takes exactly one host").help(ONE_HOST));
        }
        // Other servers use such a name for the default host.
        if text.starts_with('_') && !text.contains('.') {
            return Err(Problem::new(format!("\"{text}\" cannot be a host: no client sends it"))
                .help("write \"*\" for any host that no other route matches"));
        }
        if let Some((_, rest)) = text.split_once("://") {
            let host = rest.split(['/', ':']).next().unwrap_or(rest);
            return Err(
                Problem::new("a host must not contain a scheme").help(format!("write \"{host}\""))
            );
        }
        if let Some((host, path)) = text.split_once('/') {
            return Err(Problem::new("a host must not contain a path")
                .help(format!("write host = \"{host}\" and path = \"/{path}\"")));
        }
        if let Some(name) = text.strip_prefix("*.") {
            return match parse_host(name)? {
                Host::Name(name) => Ok(Self::Subdomains(name)),
                Host::V4(_) | Host::V6(_) => Err(Problem::new("an IP address has no subdomains")
                    .help("write the address without \"*.\"")),
            };
        }
        if text.contains('*') {
            return Err(Problem::new(format!("\"{text}\" has a * that is not its first label"))
                .help(
                    "write \"*.example.com\" for every subdomain of example.com, \"*\" for any host",
                ));
        }
        if let (Some((host, port)), false) = (text.rsplit_once(':'), text.ends_with(']'))
            && digits(port).is_some()
            && (!host.contains(':') || host.ends_with(']'))
        {
            return Err(Problem::new(
                "a route's host must not contain a port: it matches every port",
            )
            .help(format!("write \"{host}\"")));
        }
        let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        match (parse_host(inner.unwrap_or(text))?, inner) {
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

/// Parses and normalises a DNS name, or an IP address without brackets.
fn parse_host(text: &str) -> Result<Host, Problem> {
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
    if let Some(mistake) = find_mistake(text) {
        return Err(mistake);
    }
    if name.len() > 253 || !name.split('.').all(label_fits) {
        return Err(Problem::new(format!("\"{text}\" is neither a host name nor an IP address")));
    }
    // Names do not end in a number (RFC 1123 section 2.1), so `10.0.0.256` is not a name.
    let last = name.rsplit('.').next().unwrap_or(&name);
    if digits(last).is_some() {
        return Err(Problem::new(format!("\"{text}\" is not an IPv4 address")));
    }
    Ok(Host::Name(name))
}

/// A prefix of whole path segments: `/ws` matches `/ws` and `/ws/x`, but not `/wsx`. It starts with
/// `/` and does not end with `/`, except for `/` itself, which matches every path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathPrefix(String);

impl PathPrefix {
    /// The prefix `/`, which matches every path.
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// Parses `"/ws"`; `"/ws/"` means the same.
    ///
    /// # Errors
    ///
    /// Describes the mistake and suggests a valid path.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        if let Some(meant) = prefix_of_expression(text) {
            return Err(Problem::new(
                "there are no regular expressions: a path matches itself and every path below it",
            )
            .help(format!("write a prefix of whole segments: \"{meant}\"")));
        }
        check_request_path(text)?;
        if let Some((prefix, _)) = text.split_once('*') {
            let meant = prefix.trim_end_matches('/');
            let meant = if meant.is_empty() { "/" } else { meant };
            return Err(Problem::new(
                "a path has no wildcards: it matches every path that starts with it",
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

    /// The prefix with another text, which must have the form of a prefix.
    pub(crate) fn map(&self, change: impl FnOnce(&str) -> String) -> Self {
        Self(change(self.as_str()))
    }

    /// Whether the prefix matches this path.
    pub fn covers(&self, path: &str) -> bool {
        match path.strip_prefix(self.as_str()) {
            Some(rest) => rest.is_empty() || self.0.ends_with('/') || rest.starts_with('/'),
            None => false,
        }
    }
}

/// The whole segments before the first operator, if the text is a regular expression or has one of the
/// modifiers of nginx (`~`, `~*`, `^~`, `=`).
fn prefix_of_expression(text: &str) -> Option<String> {
    let is_expression = text.starts_with(['~', '^', '='])
        || text.contains(['^', '\\', '[', ']', '|'])
        || [".*", ".+", "(/"].iter().any(|part| text.contains(part))
        || text.ends_with('$') && !text.ends_with("/$");
    if !is_expression {
        return None;
    }
    let path = text.trim_start_matches(['~', '*', '^', '=', ' ']);
    let end = path.find(|c: char| "*+?^$()[]{}\\|".contains(c)).unwrap_or(path.len());
    let (before, after) = path.split_at(end);
    let prefix = before.trim_end_matches('.');
    let is_whole = prefix.len() < before.len()
        || matches!(after, "" | "$")
        || after.starts_with("(/")
        || prefix.ends_with('/');
    let whole = if is_whole { prefix } else { prefix.rsplit_once('/').unwrap_or_default().0 };
    Some(format!("/{}", whole.trim_matches('/')))
}

/// Checks a path of a request line (RFC 9112 section 3.2.1) without query.
///
/// # Errors
///
/// Describes the mistake and suggests a valid path.
pub(crate) fn check_request_path(text: &str) -> Result<(), Problem> {
    if !text.starts_with('/') {
        let meant = text
            .split_once("://")
            .map_or(text, |(_, rest)| rest.split_once('/').map_or("", |(_, path)| path));
        return Err(Problem::new(format!("\"{text}\" does not start with /"))
            .help(format!("write \"/{}\"", meant.split(['?', '#']).next().unwrap_or(meant))));
    }
    if text.contains(['?', '#']) {
        return Err(Problem::new(format!("\"{text}\" has a query or a fragment"))
            .help("only the path is matched: remove the part after ? or #"));
    }
    // A dollar sign alone is valid, and in use.
    if text.contains("${") || text.contains("%{") {
        reject_variable(text)?;
    }
    if let Some(found) = text.chars().find(|c| !c.is_ascii_graphic()) {
        let (number, bytes) = (u32::from(found), found.to_string().into_bytes());
        let encoded: String = bytes.iter().map(|byte| format!("%{byte:02X}")).collect();
        let problem =
            format!("\"{text}\" contains U+{number:04X}, which is not allowed in a request path");
        let help = format!("write the character percent-encoded: {encoded}");
        return Err(Problem::new(problem).help(help));
    }
    Ok(())
}

/// Host and port of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BackendAddress {
    /// A name, or an IP address without brackets.
    pub host: String,
    /// TCP port, at least 1.
    pub port: u16,
}

impl BackendAddress {
    /// Parses `"127.0.0.1:9001"`, `"app.internal:9001"` or `"[::1]:9001"`.
    ///
    /// # Errors
    ///
    /// Describes the mistake and suggests a valid address.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let mistake = with_parameters(text).or_else(|| find_mistake(text));
        if let Some(problem) = mistake.or_else(|| extra_parts(text)) {
            return Err(problem);
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(Problem::new(format!("\"{text}\" has no port"))
                .help(format!("write \"[{text}]:9001\" if the port is 9001")));
        }
        let Some((host, port)) = text.rsplit_once(':').filter(|_| !text.ends_with(']')) else {
            return Err(Problem::new(format!("\"{text}\" has no port"))
                .help(format!("write \"{text}:9001\" if the port is 9001")));
        };
        let port = check_port(port)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match (parse_host(bracketed.unwrap_or(host))?, bracketed) {
            (Host::Name(name), None) => name,
            (Host::V4(address), None) => address.to_string(),
            (Host::V6(address), Some(_)) => address.to_string(),
            (Host::V6(address), None) => {
                return Err(Problem::new("an IPv6 address must be in brackets")
                    .help(format!("write \"[{address}]:{port}\"")));
            }
            (Host::Name(_) | Host::V4(_), Some(inner)) => {
                return Err(only_ipv6_in_brackets(&format!("{inner}:{port}")));
            }
        };
        Ok(Self { host, port })
    }
}

/// Parses the port of an address.
///
/// # Errors
///
/// It is not a number from 1 to 65535.
pub(crate) fn check_port(text: &str) -> Result<u16, Problem> {
    let port = digits(text).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    port.ok_or_else(|| {
        Problem::new(format!("\"{text}\" is not a port")).help("ports are 1 to 65535")
    })
}

/// Reads the parameters that nginx's `server` takes after an address.
fn with_parameters(text: &str) -> Option<Problem> {
    let (address, parameters) = split_parameters(text)?;
    BackendAddress::parse(address).ok()?;
    let words = || parameters.split_whitespace();
    let weight = words().find_map(|word| word.strip_prefix("weight=")).and_then(digits);
    let weight = weight.filter(|weight| *weight > 0).map(|weight| format!(", weight = {weight}"));
    let backup = words().any(|word| word == "backup").then(|| ", backup = true".to_owned());
    let keys: String = [weight, backup].into_iter().flatten().collect();
    let meant = match keys.is_empty() {
        false => format!("{{ address = \"{address}\"{keys} }}"),
        true => format!("\"{address}\""),
    };
    let others = help_for_parameters("backends", parameters);
    let problem = Problem::new("a backend is only a host and a port");
    Some(problem.help(format!("write {meant}{others}")))
}

fn only_ipv6_in_brackets(meant: &str) -> Problem {
    Problem::new("only an IPv6 address is written in brackets").help(format!("write \"{meant}\""))
}

/// Rejects a URL, a user name, a path or a Unix socket where only host and port are allowed.
fn extra_parts(text: &str) -> Option<Problem> {
    if text.starts_with("unix:") || text.starts_with('/') {
        return Some(Problem::new(
            "a backend is a host and a port; Unix sockets are not supported",
        ));
    }
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let (rest, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, address)| address);
    if rest.len() == text.len() {
        return None;
    }
    let path = path.split(['?', '#']).next().unwrap_or(path).trim_end_matches('/');
    let port = if rest.contains(':') { "" } else { ":80" };
    Some(match scheme {
        "https" | "wss" => Problem::new("TLS to backends is not supported")
            .help("write the host and port of a plain HTTP backend, as in \"127.0.0.1:9001\""),
        _ if path.is_empty() => Problem::new("a backend is only a host and a port")
            .help(format!("write \"{rest}{port}\"")),
        _ => Problem::new("a backend is only a host and a port").help(format!(
            "write \"{rest}{port}\", and path = \"{path}\" in the route if it serves only this path\n\
             the path of a request is passed on unchanged"
        )),
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

/// Help for a route with several hosts.
pub(crate) const ONE_HOST: &str =
    "write one [[route]] for each, or \"*.example.com\" for every subdomain";

#[cfg(test)]
mod tests;
