//! Lookup of a route by host and path.

use std::collections::HashMap;

use crate::config::values::patterns::{HostPattern, PathPrefix};
use crate::http::path::{RoutePath, decoded, folded};

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

/// The routes of one host pattern, sorted by descending length of the prefix.
#[derive(Clone, Debug)]
struct Paths<T> {
    routes: Vec<PathRoute<T>>,
    /// Whether a path must be folded to find its route.
    ignores_case: bool,
}

#[derive(Clone, Debug)]
struct PathRoute<T> {
    prefix: PathPrefix,
    /// The prefix as servers decode it, if that differs.
    decoded: Option<PathPrefix>,
    case_sensitive: bool,
    route: T,
}

/// The route of a request by all readings of its path.
#[derive(Debug)]
pub struct RouteSelection<'t, T> {
    /// The route by the normalised path.
    pub route: Option<&'t T>,
    /// The steps to a reading that leads to another route or to none, as in "another one for servers that do
    /// this: merging slashes".
    pub other_reading: Option<String>,
}

impl<T> Default for RoutingTable<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), subdomains: HashMap::new(), any: Paths::default() }
    }
}

impl<T> Default for Paths<T> {
    fn default() -> Self {
        Self { routes: Vec::new(), ignores_case: false }
    }
}

impl<T> RoutingTable<T> {
    /// Adds a route. The configuration guarantees that host and path are unique.
    pub fn insert(
        &mut self,
        host: &HostPattern,
        path: &PathPrefix,
        case_sensitive: bool,
        route: T,
    ) {
        let paths = match host {
            HostPattern::Exact(name) => self.exact.entry(name.clone()).or_default(),
            HostPattern::Subdomains(parent) => self.subdomains.entry(parent.clone()).or_default(),
            HostPattern::Any => &mut self.any,
        };
        let folded = |path: &str| if case_sensitive { path.to_owned() } else { folded(path) };
        paths.routes.push(PathRoute {
            prefix: path.map(folded),
            decoded: decoded(path.as_str()).map(|text| path.map(|_| folded(&text))),
            case_sensitive,
            route,
        });
        paths
            .routes
            .sort_by_key(|of| std::cmp::Reverse((of.prefix.as_str().len(), of.case_sensitive)));
        paths.ignores_case |= !case_sensitive;
    }

    /// Returns the route for a host (lower case, without port or trailing dot) and a path. Readings are compared
    /// only if the host has several routes, or one for a part of its paths.
    pub fn select(&self, host: &str, path: &RoutePath) -> RouteSelection<'_, T> {
        let paths = self.paths(host);
        let found = paths.find(path.normalized());
        let is_only = matches!(&paths.routes[..], [only] if only.prefix == PathPrefix::root());
        let check = || path.check_readings(|reading| paths.find(reading));
        RouteSelection {
            route: found.and_then(|index| paths.routes.get(index)).map(|of| &of.route),
            other_reading: if is_only { None } else { check().err() },
        }
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

impl<T> Paths<T> {
    /// The index of the route for this path.
    fn find(&self, path: &str) -> Option<usize> {
        let folded = self.ignores_case.then(|| folded(path));
        let folded = folded.as_deref().unwrap_or(path);
        let covers = |of: &PathRoute<T>| {
            let path = if of.case_sensitive { path } else { folded };
            of.prefix.covers(path) || of.decoded.as_ref().is_some_and(|prefix| prefix.covers(path))
        };
        self.routes.iter().position(covers)
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
                &PathPrefix::parse(path).unwrap(),
                true,
                name,
            );
        }
        table
    }

    fn select<'t>(table: &'t RoutingTable<String>, host: &str, path: &str) -> Option<&'t str> {
        table.select(host, &RoutePath::new(path)).route.map(String::as_str)
    }

    #[test]
    fn most_specific_host_is_selected() {
        let table = table(&[
            ("*", "/"),
            ("*.example.com", "/"),
            ("*.deep.example.com", "/"),
            ("chat.example.com", "/"),
        ]);
        let found = |host| select(&table, host, "/");
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
        let found = |path| select(&table, "h", path);
        assert_eq!(found("/ws"), Some("*/ws"));
        assert_eq!(found("/ws/x"), Some("*/ws"));
        assert_eq!(found("/wsx"), Some("*/"));
        assert_eq!(found("/ws/admin"), Some("*/ws/admin"));
    }

    // Requirements: RL19.
    #[test]
    fn named_host_never_uses_the_catch_all() {
        let table = table(&[("*", "/"), ("chat.example.com", "/ws")]);
        assert_eq!(select(&table, "chat.example.com", "/"), None);
    }
    // Requirements: RL12.
    #[test]
    fn readings_matter_only_between_routes() {
        let is_ambiguous = |table: &RoutingTable<String>, path: &str| {
            table.select("h", &RoutePath::new(path)).other_reading.is_some()
        };
        let paths = ["//x/ws", "/ws/..", "/x;y/%2f"];
        let only = table(&[("*", "/")]);
        assert!(paths.iter().all(|path| !is_ambiguous(&only, path)));
        let part = table(&[("*", "/ws")]);
        assert_eq!(paths.map(|path| is_ambiguous(&part, path)), [true, true, false]);
        let two = table(&[("*", "/"), ("*", "/ws")]);
        assert_eq!(paths.map(|path| is_ambiguous(&two, path)), [true, true, false]);
    }

    // Requirements: RL12.
    #[test]
    fn encoded_prefix_matches_its_readings() {
        let table = table(&[("*", "/"), ("*", "/caf%C3%A9")]);
        for path in ["/caf%C3%A9", "/caf%C3%A9/x%20y"] {
            let selection = table.select("h", &RoutePath::new(path));
            assert_eq!(selection.route.map(String::as_str), Some("*/caf%C3%A9"), "{path}");
            assert_eq!(selection.other_reading, None, "{path}");
        }
    }

    #[test]
    fn case_is_ignored_where_configured() {
        let mut table = table(&[("*", "/"), ("*", "/ws")]);
        let path = PathPrefix::parse("/Admin").unwrap();
        table.insert(&HostPattern::Any, &path, false, "admin".to_owned());
        let found = |path: &str| {
            let selection = table.select("h", &RoutePath::new(path));
            (selection.route.map(String::as_str), selection.other_reading.is_some())
        };
        for path in ["/Admin", "/admin", "/ADMIN/x"] {
            assert_eq!(found(path), (Some("admin"), false), "{path}");
        }
        assert_eq!(found("/%41dmin/X%20"), (Some("admin"), true));
        assert!(found("//x/aDMIN").1);
        assert_eq!(found("/WS"), (Some("*/"), false));
    }
}
