//! Keys that stand in a common table and again in a route's own.

use crate::config::toml::diagnostic::KeyPath;
use crate::config::toml::reader::Parsed;

/// The common table and, for a route, its own.
pub(crate) struct KeyScope<'f, T> {
    own: Option<&'f T>,
    common: &'f T,
}

impl<'f, T> KeyScope<'f, T> {
    /// Without a table of its own, what holds for routes that say nothing.
    pub(crate) fn new(own: Option<&'f T>, common: &'f T) -> Self {
        Self { own, common }
    }

    /// A part of both tables.
    pub(crate) fn part<P>(&self, part: impl Fn(&'f T) -> &'f P) -> KeyScope<'f, P> {
        KeyScope { own: self.own.map(&part), common: part(self.common) }
    }

    /// The route's own key, whole, or else the common one.
    pub(crate) fn pick<V>(&self, key: impl Fn(&'f T) -> &'f Parsed<V>) -> &'f Parsed<V> {
        match self.own.map(&key) {
            Some(own @ (Parsed::Here(_) | Parsed::Faulty)) => own,
            Some(Parsed::Absent) | None => key(self.common),
        }
    }

    /// Whether it is about all routes.
    pub(crate) fn is_common(&self) -> bool {
        self.own.is_none()
    }

    /// The one table that is looked at now: the route's own, or for all routes the common one.
    pub(crate) fn table(&self) -> &'f T {
        self.own.unwrap_or(self.common)
    }
}

/// Where trouble between keys is told: at the first of them that the route has itself. What the
/// common tables alone have is told once, without a route.
pub(crate) fn nearest_place<'f, const N: usize>(
    route: Option<&KeyPath>,
    places: [Option<&'f KeyPath>; N],
) -> Option<&'f KeyPath> {
    let is_near = |place: &&KeyPath| route.is_none_or(|route| place.key.starts_with(&route.key));
    places.into_iter().flatten().find(is_near)
}
