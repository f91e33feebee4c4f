//! Keys that may be set in a common table and in a route.

use crate::config::toml::diagnostic::Location;
use crate::config::toml::value::Parsed;

/// The common table and the table of a route, if there is one.
pub(crate) struct KeyScope<'f, T> {
    own: Option<&'f T>,
    common: &'f T,
}

impl<'f, T> KeyScope<'f, T> {
    /// Creates the scope of a route, or with `None` the scope of the common table.
    pub(crate) fn new(own: Option<&'f T>, common: &'f T) -> Self {
        Self { own, common }
    }

    /// The scope of a part of both tables.
    pub(crate) fn part<P>(&self, part: impl Fn(&'f T) -> &'f P) -> KeyScope<'f, P> {
        KeyScope { own: self.own.map(&part), common: part(self.common) }
    }

    /// The route's own key if it is set, otherwise the common one. They are never mixed.
    pub(crate) fn pick<V>(&self, key: impl Fn(&'f T) -> &'f Parsed<V>) -> &'f Parsed<V> {
        match self.own.map(&key) {
            Some(own @ (Parsed::Valid(_) | Parsed::Invalid)) => own,
            Some(Parsed::Missing) | None => key(self.common),
        }
    }

    /// Whether this is the scope of the common table.
    pub(crate) fn is_common(&self) -> bool {
        self.own.is_none()
    }

    /// The table to check: the route's own, or the common one.
    pub(crate) fn table(&self) -> &'f T {
        self.own.unwrap_or(self.common)
    }
}

/// The location at which a conflict between keys is reported: the first of them that is set in the
/// route itself. Conflicts within the common tables are reported once, with `None` as route.
pub(crate) fn nearest_place<'f, const N: usize>(
    route: Option<&Location>,
    locations: [Option<&'f Location>; N],
) -> Option<&'f Location> {
    let is_near =
        |location: &&Location| route.is_none_or(|route| location.key.starts_with(&route.key));
    locations.into_iter().flatten().find(is_near)
}
