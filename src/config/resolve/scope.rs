//! Keys that may be set in a top-level table and in a route.

use crate::config::toml::diagnostic::Location;
use crate::config::toml::value::Parsed;

/// A top-level table and the table of the same name in a route, if there is one.
pub(crate) struct KeyScope<'f, T> {
    own: Option<&'f T>,
    top_level: &'f T,
}

impl<'f, T> KeyScope<'f, T> {
    /// Creates the scope of a route, or with `None` the scope of the top-level table.
    pub(crate) fn new(own: Option<&'f T>, top_level: &'f T) -> Self {
        Self { own, top_level }
    }

    /// The scope of a part of both tables.
    pub(crate) fn part<P>(&self, part: impl Fn(&'f T) -> &'f P) -> KeyScope<'f, P> {
        KeyScope { own: self.own.map(&part), top_level: part(self.top_level) }
    }

    /// The route's own key if it is set, otherwise the top-level one. They are never mixed.
    pub(crate) fn pick<V>(&self, key: impl Fn(&'f T) -> &'f Parsed<V>) -> &'f Parsed<V> {
        match self.own.map(&key) {
            Some(own @ (Parsed::Valid(_) | Parsed::Invalid)) => own,
            Some(Parsed::Missing) | None => key(self.top_level),
        }
    }

    /// Whether this is the scope of the top-level table.
    pub(crate) fn is_top_level(&self) -> bool {
        self.own.is_none()
    }

    /// The table to check: the route's own, or the top-level one.
    pub(crate) fn table(&self) -> &'f T {
        self.own.unwrap_or(self.top_level)
    }
}

/// The location at which a conflict between keys is reported: the first of them that is set in the
/// route itself. With `None` as route, the first that is set: conflicts within the top-level tables
/// are reported once.
pub(crate) fn first_location_in_route<'f, const N: usize>(
    route: Option<&Location>,
    locations: [Option<&'f Location>; N],
) -> Option<&'f Location> {
    let is_in_route =
        |location: &&Location| route.is_none_or(|route| location.key.starts_with(&route.key));
    locations.into_iter().flatten().find(is_in_route)
}
