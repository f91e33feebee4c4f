//! Pools: backends and how they are reached.

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::config::values::patterns::BackendAddress;

/// The backends of one or several routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Name of the `[[pool]]`; `None` for backends that a route lists itself.
    pub name: Option<Arc<str>>,
    /// Backends: at least one, with unique ids.
    pub backends: Vec<BackendSettings>,
}

impl PoolSettings {
    /// The pool of a route that lists its backends itself.
    pub fn of_route(backends: Vec<BackendSettings>) -> Self {
        Self { name: None, backends }
    }
}

/// One backend of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendSettings {
    /// Input of the sticky hash; the default is the address as written.
    pub id: Arc<str>,
    /// Address to connect to.
    pub address: BackendAddress,
    /// Share of the clients relative to the pool's other backends.
    pub weight: NonZeroU32,
}
