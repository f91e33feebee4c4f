//! What the routes that use the same backend share, and what a reload keeps of it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::settings::pool::BackendSettings;
use crate::config::settings::probe::ProbeSettings;
use crate::config::values::patterns::BackendAddress;
use crate::upstream::ejection::ResponseHealth;
use crate::upstream::health::Health;
use crate::upstream::http1::idle_connections::{IdleConnections, IdlePlaces};
use crate::upstream::pool::Backend;
use crate::upstream::probe::health::ProbeHealth;

/// The health and the idle connections of all backends by id and address, shared by the routes that use
/// them; and by pool what responses and probes show.
#[derive(Debug, Default)]
pub struct SharedBackends {
    known: HashMap<KnownBackend, SharedBackend>,
    members: HashMap<(PoolKey, KnownBackend), PoolMember>,
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

/// What is known about a backend of one pool.
#[derive(Clone, Debug, Default)]
pub struct PoolMember {
    /// What responses show.
    pub responses: Arc<ResponseHealth>,
    /// What probes show, if it is probed.
    pub probe: Option<Arc<ProbeHealth>>,
}

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
            let (responses, probe) = (backend.responses.clone(), backend.probe.clone());
            shared.members.insert((pool, key.clone()), PoolMember { responses, probe });
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

    /// What is known about a backend of this pool, which is probed with these settings. Another check starts
    /// without a result.
    pub fn member(
        &mut self,
        pool: &PoolKey,
        backend: &BackendSettings,
        probe: Option<&ProbeSettings>,
    ) -> PoolMember {
        let key = (backend.id.clone(), backend.address.clone());
        let member = self.members.entry((pool.clone(), key)).or_default();
        if member.probe.as_ref().map(|known| &known.settings) != probe {
            member.probe = probe.map(|settings| Arc::new(ProbeHealth::new(settings.clone())));
        }
        member.clone()
    }
}
