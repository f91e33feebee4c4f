//! What the routes that use the same backend share, and what a reload keeps of it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::settings::pool::BackendSettings;
use crate::config::values::backend_address::BackendAddress;
use crate::upstream::health::Health;
use crate::upstream::http1::idle_connections::{IdleConnections, IdlePlaces};
use crate::upstream::pool::Backend;

/// The health and the idle connections of all backends by id and address, shared by the routes that use
/// them.
#[derive(Debug, Default)]
pub struct SharedBackends {
    known: HashMap<(Arc<str>, BackendAddress), SharedBackend>,
    places: IdlePlaces,
}

#[derive(Debug, Default)]
struct SharedBackend {
    health: Arc<Health>,
    idle: Arc<IdleConnections>,
    is_used: bool,
}

impl SharedBackends {
    /// Collects those of these backends; `places` are for the idle connections of new ones.
    pub fn of<'b>(backends: impl Iterator<Item = &'b Arc<Backend>>, places: IdlePlaces) -> Self {
        let shared = |b: &Arc<Backend>| {
            let (health, idle) = (b.health.clone(), b.idle.clone());
            ((b.id.clone(), b.address.clone()), SharedBackend { health, idle, is_used: false })
        };
        Self { known: backends.map(shared).collect(), places }
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
}
