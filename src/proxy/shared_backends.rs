//! What the routes that use the same backend share, and what a reload keeps of it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::settings::pool::BackendSettings;
use crate::config::values::patterns::BackendAddress;
use crate::upstream::ejection::ResponseHealth;
use crate::upstream::health::Health;
use crate::upstream::http1::idle_connections::{IdleConnections, IdlePlaces};
use crate::upstream::pool::Backend;

/// The health and the idle connections of all backends by id and address, shared by the routes that use
/// them; and by pool what responses show.
#[derive(Debug, Default)]
pub struct SharedBackends {
    known: HashMap<KnownBackend, SharedBackend>,
    responses: HashMap<(PoolKey, KnownBackend), Arc<ResponseHealth>>,
    places: IdlePlaces,
}

/// Identifies a pool over reloads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PoolKey {
    /// A `[[pool]]`.
    Named(Arc<str>),
    /// The backends that a route lists itself, by the name of the route.
    OfRoute(Arc<str>),
}

impl PoolKey {
    /// The key of the pool with this name, or of the backends of this route.
    pub fn new(pool: Option<&Arc<str>>, route: &Arc<str>) -> Self {
        pool.map_or_else(|| Self::OfRoute(route.clone()), |name| Self::Named(name.clone()))
    }
}

/// Id and address.
type KnownBackend = (Arc<str>, BackendAddress);

#[derive(Debug, Default)]
struct SharedBackend {
    health: Arc<Health>,
    idle: Arc<IdleConnections>,
    is_used: bool,
}

impl SharedBackends {
    /// Collects those of these backends of pools; `places` are for the idle connections of new ones.
    pub fn of<'b>(
        backends: impl Iterator<Item = (PoolKey, &'b Arc<Backend>)>,
        places: IdlePlaces,
    ) -> Self {
        let mut shared = Self { places, ..Self::default() };
        for (pool, backend) in backends {
            let key = (backend.id.clone(), backend.address.clone());
            let (health, idle) = (backend.health.clone(), backend.idle.clone());
            shared.responses.insert((pool, key.clone()), backend.responses.clone());
            shared.known.insert(key, SharedBackend { health, idle, is_used: false });
        }
        shared
    }

    /// Closes the idle connections of backends that no route has any more.
    pub fn close_unused(self) {
        for shared in self.known.into_values().filter(|shared| !shared.is_used) {
            shared.idle.clear();
        }
    }

    /// Those of a backend; new ones if the backend is new.
    pub fn get(&mut self, backend: &BackendSettings) -> (Arc<Health>, Arc<IdleConnections>) {
        let new = || {
            let idle = Arc::new(IdleConnections::new(self.places.clone()));
            SharedBackend { idle, ..SharedBackend::default() }
        };
        let key = (backend.id.clone(), backend.address.clone());
        let shared = self.known.entry(key).or_insert_with(new);
        shared.is_used = true;
        (shared.health.clone(), shared.idle.clone())
    }

    /// What responses show about a backend of this pool.
    pub fn responses(&mut self, pool: &PoolKey, backend: &BackendSettings) -> Arc<ResponseHealth> {
        let key = (backend.id.clone(), backend.address.clone());
        self.responses.entry((pool.clone(), key)).or_default().clone()
    }
}
