//! What lists backends: a pool, or a route of its own.

use std::sync::Arc;

/// What lists backends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BackendsOwner {
    /// The pool with this name.
    Pool(Arc<str>),
    /// The route with this name.
    Route(Arc<str>),
}

impl BackendsOwner {
    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Pool(name) | Self::Route(name) => name,
        }
    }
}
