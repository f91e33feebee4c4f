//! What the routes that use the same backend or pool share, and what a reload keeps of it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::settings::pool::{BackendSettings, PoolSettings};
use crate::tls::pool::PoolTlsClients;
use crate::upstream::backend_name::ListedName;
use crate::upstream::backend_tls::{BackendKey, BackendTls};
use crate::upstream::backends_owner::BackendsOwner;
use crate::upstream::choice::pin_keys::PinKeys;
use crate::upstream::choice::pin_source::PinSource;
use crate::upstream::choice::state::ChoiceState;
use crate::upstream::ejection::ResponseHealth;
use crate::upstream::health::Health;
use crate::upstream::http1::idle_connections::{IdleConnections, IdlePlaces};
use crate::upstream::pool::{Backend, SharedBackendState};
use crate::upstream::probe::health::ProbeHealth;

/// The health and the idle connections of all backends, and by pool what responses and probes show, and its choices.
#[derive(Debug, Default)]
pub struct SharedBackends {
    known: HashMap<BackendKey, SharedBackend>,
    members: HashMap<(BackendsOwner, BackendKey), PoolMember>,
    choices: HashMap<BackendsOwner, Arc<ChoiceState>>,
    /// By the name of the pool.
    pins: HashMap<Arc<str>, Arc<PinSource>>,
    places: IdlePlaces,
    tls: Arc<PoolTlsClients>,
}

/// What is known about a backend of one pool.
#[derive(Debug, Default)]
struct PoolMember {
    responses: Arc<ResponseHealth>,
    /// If it is probed.
    probe: Option<Arc<ProbeHealth>>,
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
    /// Collects those of these backends and of what lists them; `places` are for the idle connections of new ones,
    /// `tls` for all that are used.
    pub fn of(
        backends: impl Iterator<Item = (BackendsOwner, Arc<Backend>)>,
        places: IdlePlaces,
        tls: Arc<PoolTlsClients>,
    ) -> Self {
        let mut shared = Self { places, tls, ..Self::default() };
        for (owner, backend) in backends {
            let (health, idle) = (backend.health.clone(), backend.idle.clone());
            let (responses, probe) = (backend.responses.clone(), backend.probe.clone());
            shared.members.insert((owner, backend.key()), PoolMember { responses, probe });
            let known = SharedBackend { health, idle, tls: None, is_used: false };
            shared.known.insert(backend.key(), known);
        }
        shared
    }

    /// Adds the keys of the pin cookie of a pool.
    pub fn add_pins(&mut self, pool: &PoolSettings, keys: &PinKeys) {
        if let (Some(name), Some(pin)) = (&pool.name, &pool.choice.pin) {
            let pins = PinSource::new(pin.clone(), keys.clone());
            self.pins.insert(name.clone(), Arc::new(pins));
        }
    }

    /// The pin cookies of the pool with this name.
    pub fn pins(&self, pool: &str) -> Option<Arc<PinSource>> {
        self.pins.get(pool).cloned()
    }

    /// Keeps what a pool remembers about its choices.
    pub fn keep_choices(&mut self, owner: BackendsOwner, state: &Arc<ChoiceState>) {
        self.choices.insert(owner, state.clone());
    }

    /// What a pool remembers about its choices; new if the pool is new.
    pub fn choices(&mut self, owner: BackendsOwner) -> Arc<ChoiceState> {
        self.choices.entry(owner).or_default().clone()
    }

    /// Closes the idle connections of backends that no route has any more.
    pub fn close_unused(self) {
        for shared in self.known.into_values().filter(|shared| !shared.is_used) {
            shared.idle.clear();
        }
    }

    /// What is known of a backend of this pool, which belongs to the name `listed` if it is at one of its addresses.
    /// Another probe starts without a result.
    pub fn get(
        &mut self,
        backend: &BackendSettings,
        listed: Option<&ListedName>,
        pool: &PoolSettings,
        owner: &BackendsOwner,
    ) -> SharedBackendState {
        let new = || {
            let idle = Arc::new(IdleConnections::new(self.places.clone()));
            SharedBackend { idle, ..SharedBackend::default() }
        };
        let (id, address) = (backend.id.clone(), backend.address.clone());
        let listed = listed.map_or(&backend.address, |listed| &listed.name.address).clone();
        let key = BackendKey { id, address, listed: listed.clone(), tls: pool.tls.clone() };
        let member = self.members.entry((owner.clone(), key.clone())).or_default();
        if member.probe.as_ref().map(|known| &known.settings) != pool.probe.as_ref() {
            member.probe = pool.probe.clone().map(|settings| Arc::new(ProbeHealth::new(settings)));
        }
        let shared = self.known.entry(key).or_insert_with(new);
        if let (None, Some(settings)) = (&shared.tls, &pool.tls) {
            let client = self.tls.client(settings, &listed);
            shared.tls = Some(Arc::new(BackendTls { settings: settings.clone(), client }));
        }
        shared.is_used = true;
        SharedBackendState {
            health: shared.health.clone(),
            idle: shared.idle.clone(),
            tls: shared.tls.clone(),
            responses: member.responses.clone(),
            probe: member.probe.clone(),
            ..SharedBackendState::default()
        }
    }
}
