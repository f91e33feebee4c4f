//! The values a configuration is made of, parsed once.

use std::fmt;

/// Which hosts a route serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// One host, lower-case, without a trailing dot and without a port.
    Exact(String),
    /// Every name below this one: `*.example.com` holds `example.com`; the apex is not matched.
    Subdomains(String),
    /// Any host, spelled `"*"`.
    Any,
}

/// Where a path must begin, by whole segments: `/ws` matches `/ws` and `/ws/x`, not `/wsx`.
/// Starts with `/`; `/` alone matches everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathPrefix(String);

impl PathPrefix {
    /// The prefix as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Host (a name, or an address without brackets) and port of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BackendAddress {
    /// Name or IP address.
    pub host: String,
    /// TCP port, never 0.
    pub port: u16,
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
