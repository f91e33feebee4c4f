//! What the routes that use the same backend share, and what a reload keeps of it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::settings::pool::{BackendSettings, PoolSettings};
use crate::tls::pool::PoolTlsClients;
use crate::upstream::backend_tls::{BackendKey, BackendTls};
use crate::upstream::health::Health;
use crate::upstream::http1::idle_connections::{IdleConnections, IdlePlaces};
use crate::upstream::pool::{Backend, SharedBackendState};

/// The health and the idle connections of all backends, shared by the routes that use them.
#[derive(Debug, Default)]
pub struct SharedBackends {
    known: HashMap<BackendKey, SharedBackend>,
    places: IdlePlaces,
    tls: PoolTlsClients,
}

#[derive(Debug, Default)]
struct SharedBackend {
    health: Arc<Health>,
    idle: Arc<IdleConnections>,
    /// Built from the files again for each snapshot.
    tls: Option<Arc<BackendTls>>,
    is_used: bool,
}

impl SharedBackends {
    /// Collects those of these backends; `places` are for the idle connections of new ones, `tls` for all that
    /// are used.
    pub fn of<'b>(
        backends: impl Iterator<Item = &'b Arc<Backend>>,
        places: IdlePlaces,
        tls: PoolTlsClients,
    ) -> Self {
        let shared = |b: &Arc<Backend>| {
            let (health, idle) = (b.health.clone(), b.idle.clone());
            (b.key(), SharedBackend { health, idle, tls: None, is_used: false })
        };
        Self { known: backends.map(shared).collect(), places, tls }
    }

    /// Closes the idle connections of backends that no route has any more.
    pub fn close_unused(self) {
        for shared in self.known.into_values().filter(|shared| !shared.is_used) {
            shared.idle.clear();
        }
    }

    /// What is known of a backend of this pool.
    pub fn get(&mut self, backend: &BackendSettings, pool: &PoolSettings) -> SharedBackendState {
        let new = || {
            let idle = Arc::new(IdleConnections::new(self.places.clone()));
            SharedBackend { idle, ..SharedBackend::default() }
        };
        let (id, address) = (backend.id.clone(), backend.address.clone());
        let key = BackendKey { id, address, tls: pool.tls.clone() };
        let shared = self.known.entry(key).or_insert_with(new);
        if let (None, Some(settings)) = (&shared.tls, &pool.tls) {
            let client = self.tls.client(settings, &backend.address);
            let tls = client.map(|client| BackendTls { settings: settings.clone(), client });
            shared.tls = tls.map(Arc::new);
        }
        shared.is_used = true;
        SharedBackendState {
            health: shared.health.clone(),
            idle: shared.idle.clone(),
            tls: shared.tls.clone(),
            ..SharedBackendState::default()
        }
    }
}
