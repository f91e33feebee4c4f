//! Lookup of a route by host and path.

use std::collections::HashMap;

use crate::config::values::patterns::{HostPattern, PathPrefix};

/// Routes by host, then by path. The most specific pattern that matches the host is selected (the host
/// itself, then the longest `*.` pattern, then `*`), then the longest matching path prefix of that
/// pattern. If none of its prefixes matches, no route is found, so that a catch-all host never serves
/// a named host by accident.
#[derive(Clone, Debug)]
pub struct RoutingTable<T> {
    exact: HashMap<String, Paths<T>>,
    /// Keyed by the part after `*.`.
    subdomains: HashMap<String, Paths<T>>,
    any: Paths<T>,
}

/// Sorted by descending length of the prefix.
type Paths<T> = Vec<(PathPrefix, T)>;

impl<T> Default for RoutingTable<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), subdomains: HashMap::new(), any: Vec::new() }
    }
}

impl<T> RoutingTable<T> {
    /// Adds a route. The configuration guarantees that host and path are unique.
    pub fn insert(&mut self, host: &HostPattern, path: PathPrefix, route: T) {
        let paths = match host {
            HostPattern::Exact(name) => self.exact.entry(name.clone()).or_default(),
            HostPattern::Subdomains(parent) => self.subdomains.entry(parent.clone()).or_default(),
            HostPattern::Any => &mut self.any,
        };
        paths.push((path, route));
        paths.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.as_str().len()));
    }

    /// Returns the route for a host (lower case, without port or trailing dot) and a path.
    pub fn find(&self, host: &str, path: &str) -> Option<&T> {
        let paths = self.paths(host);
        paths.iter().find(|(prefix, _)| prefix.covers(path)).map(|(_, route)| route)
    }

    /// The paths of the most specific pattern that matches the host.
    fn paths(&self, host: &str) -> &Paths<T> {
        if let Some(paths) = self.exact.get(host) {
            return paths;
        }
        // An IPv6 address has no parent domain.
        let mut rest = if host.starts_with('[') { "" } else { host };
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(paths) = self.subdomains.get(parent) {
                return paths;
            }
            rest = parent;
        }
        &self.any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(routes: &[(&str, &str)]) -> RoutingTable<String> {
        let mut table = RoutingTable::default();
        for (host, path) in routes {
            let name = format!("{host}{path}");
            table.insert(
                &HostPattern::parse(host).unwrap(),
                PathPrefix::parse(path).unwrap(),
                name,
            );
        }
        table
    }

    #[test]
    fn most_specific_host_is_selected() {
        let table = table(&[
            ("*", "/"),
            ("*.example.com", "/"),
            ("*.deep.example.com", "/"),
            ("chat.example.com", "/"),
        ]);
        let found = |host| table.find(host, "/").map(String::as_str);
        assert_eq!(found("chat.example.com"), Some("chat.example.com/"));
        assert_eq!(found("a.example.com"), Some("*.example.com/"));
        assert_eq!(found("x.y.example.com"), Some("*.example.com/"));
        assert_eq!(found("a.deep.example.com"), Some("*.deep.example.com/"));
        assert_eq!(found("example.com"), Some("*/"));
        assert_eq!(found("[::1]"), Some("*/"));
    }

    #[test]
    fn longest_prefix_of_whole_segments_is_selected() {
        let table = table(&[("*", "/"), ("*", "/ws"), ("*", "/ws/admin")]);
        let found = |path| table.find("h", path).map(String::as_str);
        assert_eq!(found("/ws"), Some("*/ws"));
        assert_eq!(found("/ws/x"), Some("*/ws"));
        assert_eq!(found("/wsx"), Some("*/"));
        assert_eq!(found("/ws/admin"), Some("*/ws/admin"));
    }

    // Requirements: RL19.
    #[test]
    fn named_host_never_uses_the_catch_all() {
        let table = table(&[("*", "/"), ("chat.example.com", "/ws")]);
        assert_eq!(table.find("chat.example.com", "/"), None);
    }
}
