//! The addresses of backends.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::address_mistake::{find_mistake, help_for_parameters, split_parameters};
use super::patterns::{Host, check_port, only_ipv6_in_brackets, parse_host};
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::scalar::digits;
use crate::config::toml::variables::reject_variable;

/// Where a backend listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BackendAddress {
    /// A TCP port.
    Tcp {
        /// A name, or an IP address without brackets.
        host: String,
        /// At least 1.
        port: u16,
    },
    /// A Unix socket with this absolute path.
    Unix(Arc<Path>),
}

impl BackendAddress {
    /// Parses `"127.0.0.1:9001"`, `"app.internal:9001"`, `"[::1]:9001"` or `"unix:/run/app.sock"`.
    ///
    /// # Errors
    ///
    /// Describes the mistake and suggests a valid address.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix_path(path).map(|path| Self::Unix(path.into()));
        }
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
            // Kept, since it excludes the search domains of resolv.conf(5).
            (Host::Name(name), None) if host.ends_with('.') => name + ".",
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
        Ok(Self::Tcp { host, port })
    }

    /// Whether it has a host name, whose addresses are looked up.
    pub fn is_name(&self) -> bool {
        matches!(self, Self::Tcp { host, .. } if host.parse::<IpAddr>().is_err())
    }
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

/// Rejects a URL, a user name or a path where only host and port are allowed.
fn extra_parts(text: &str) -> Option<Problem> {
    if text.starts_with('/') || text.starts_with("unix@") {
        let path = text.trim_start_matches("unix@");
        return Some(
            Problem::new("the address of a Unix socket begins with unix:")
                .help(format!("write \"unix:{path}\"")),
        );
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
        "https" | "wss" => {
            let port = if rest.contains(':') { "" } else { ":443" };
            Problem::new("a backend is only a host and a port").help(format!(
                "write \"{rest}{port}\" in a [[pool]] with tls = true, and pool = its name in the route"
            ))
        }
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
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Parses the path of a Unix socket.
fn unix_path(path: &str) -> Result<PathBuf, Problem> {
    if path.starts_with('@') {
        let problem = Problem::new("abstract Unix sockets are not supported");
        return Err(problem.help("let the application listen on a path: \"unix:/run/app.sock\""));
    }
    // Other programs write a URL.
    let trimmed = path.trim_start_matches('/');
    if !path.starts_with('/') || path.starts_with("//") {
        let problem =
            Problem::new("the path of a Unix socket is absolute, with one slash at its start");
        return Err(problem.help(format!("write \"unix:/{trimmed}\"")));
    }
    if path.len() > UNIX_PATH_MAX || path.contains(char::is_control) || path.ends_with('/') {
        return Err(Problem::new(format!("\"{path}\" cannot be the path of a Unix socket"))
            .help(format!("it has at most {UNIX_PATH_MAX} bytes and is the path of a file")));
    }
    reject_variable(path)?;
    Ok(path.into())
}

/// What the address of a Unix socket holds, without the final zero (unix(7)).
const UNIX_PATH_MAX: usize = 107;

#[cfg(test)]
mod tests;
