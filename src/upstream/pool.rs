//! The backends of a route. [`choice`](super::choice) says which one a request goes to.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;

use hyper::HeaderMap;
use hyper::http::request::Parts;
use tokio::time::Instant;

use super::admin_override::AdminOverride;
use super::choice::key::ChoiceKey;
use super::choice::load::{BackendLoad, LoadGuard};
use super::choice::order::{Candidate, Method, Order, order, ramped};
use super::choice::pin::{PinCookies, Pinned};
use super::choice::rendezvous::KeyHash;
use super::choice::state::ChoiceState;
use super::health::Health;
use super::http1::idle_connections::IdleConnections;
use super::resolve::CachedResolver;
use crate::client::ClientKey;
use crate::config::settings::choice::{Balance, ChoiceSettings};
use crate::config::settings::pool::{BackendSettings, PoolSettings};
use crate::config::values::patterns::BackendAddress;
use crate::http::path::RoutePath;
use crate::net::network::Net;
use crate::telemetry::events::{backend_connect_failed, backend_recovered};
use crate::telemetry::metrics::backend_state::BackendState;
use crate::telemetry::metrics::chosen_by::ChosenBy;
use crate::telemetry::metrics::handles::BackendCounts;

/// One backend of a pool, as one route uses it.
#[derive(Debug)]
pub struct Backend {
    /// Stable name, unique in its pool. Selection depends on it.
    pub id: Arc<str>,
    /// Host and port to connect to.
    pub address: BackendAddress,
    /// The configured weight; [`Backend::effective_weight`] includes the operator's.
    pub weight: NonZeroU32,
    /// Drain and weight set by an operator; kept across reloads.
    pub admin_override: Arc<AdminOverride>,
    /// Kept across reloads.
    pub health: Arc<Health>,
    /// Whether it is used only if the others are ejected.
    pub is_backup: bool,
    /// Its tunnels and requests, of all routes that use its pool, if the pool counts them; kept across reloads.
    pub load: Arc<BackendLoad>,
    /// Metrics; kept across reloads.
    pub counts: Arc<BackendCounts>,
    /// Connections for further requests; kept across reloads.
    pub idle: Arc<IdleConnections>,
    pub(super) resolver: CachedResolver,
}

/// The backends of a route, with its own metrics and overrides even if the settings are those of several
/// routes.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Name of the `[[pool]]`; `None` if the route lists the backends itself.
    pub name: Option<Arc<str>>,
    backends: Arc<[Arc<Backend>]>,
    settings: Arc<ChoiceSettings>,
    state: Arc<ChoiceState>,
    pins: Option<Arc<PinCookies>>,
    /// Whether something depends on the number of tunnels and requests; otherwise they are not counted.
    is_counting: bool,
}

/// What a request says about its backend.
#[derive(Clone, Debug)]
pub struct ChoiceRequest {
    /// The key that is hashed.
    pub key: ChoiceKey,
    /// The backend that its pin cookie names.
    pub pinned: Option<Pinned>,
}

/// The backends that a request tries.
#[derive(Debug)]
pub struct Choice {
    /// In the order in which they are tried; empty if all are drained.
    pub backends: Vec<Arc<Backend>>,
    /// Why the first one is the first.
    pub chosen_by: ChosenBy,
}

/// State of a backend that is carried over from the previous snapshot or shared with other routes.
#[derive(Debug, Default)]
pub struct SharedBackendState {
    /// Results of recent connection attempts.
    pub health: Arc<Health>,
    /// Connections that wait for a request.
    pub idle: Arc<IdleConnections>,
    /// Metrics of the backend.
    pub counts: Arc<BackendCounts>,
    /// Drain and weight set by an operator.
    pub admin_override: Arc<AdminOverride>,
}

impl Backend {
    /// The weight used for selection: the operator's, or else the configured one.
    pub fn effective_weight(&self) -> NonZeroU32 {
        self.admin_override.weight().unwrap_or(self.weight)
    }

    /// Whether an operator has drained this backend.
    pub fn is_draining(&self) -> bool {
        self.admin_override.drain.is_draining()
    }

    /// What connection attempts showed, unless an operator has drained it.
    pub fn state(&self) -> BackendState {
        if self.is_draining() { BackendState::Drained } else { self.health.state() }
    }

    /// Records an accepted connection, and logs that an ejected backend is back.
    pub fn record_connection(&self) {
        if self.health.record_success(Instant::now()) {
            backend_recovered(&self.id, &self.counts.route.name);
        }
    }

    /// Records a failed connection attempt that started at `started`, and logs it together with the
    /// ejection it may cause.
    pub fn record_failure(&self, started: Instant, error: &dyn fmt::Display) {
        self.counts.connect_failures.inc();
        let is_ejected = self.health.record_failure(started, Instant::now());
        backend_connect_failed(&self.id, &self.counts.route.name, error, is_ejected);
    }
}

impl Pool {
    /// Builds a pool. `state` is that of the same pool in other routes and in the previous snapshot; `carried`
    /// returns the state of a backend that already exists in another route or in the previous snapshot.
    pub fn new(
        settings: &PoolSettings,
        state: Arc<ChoiceState>,
        pins: Option<Arc<PinCookies>>,
        mut carried: impl FnMut(&BackendSettings) -> SharedBackendState,
    ) -> Self {
        let build = |settings: &BackendSettings| {
            let SharedBackendState { health, idle, counts, admin_override } = carried(settings);
            Arc::new(Backend {
                id: Arc::clone(&settings.id),
                address: settings.address.clone(),
                weight: settings.weight,
                is_backup: settings.is_backup,
                load: state.load_of(&settings.id),
                admin_override,
                health,
                counts,
                idle,
                resolver: CachedResolver::default(),
            })
        };
        let backends = settings.backends.iter().map(build).collect();
        let is_counting = settings.choice.hash_balance_factor.is_some()
            || matches!(settings.choice.balance, Balance::LeastConnections | Balance::RandomTwo);
        let (name, choice) = (settings.name.clone(), Arc::new(settings.choice.clone()));
        Self { name, backends, settings: choice, state, pins, is_counting }
    }

    /// The configuration key that lists the backends.
    pub fn backends_key(&self) -> &'static str {
        if self.name.is_some() { "pool.backends" } else { "route.backends" }
    }

    /// All backends in configuration order.
    pub fn backends(&self) -> &[Arc<Backend>] {
        &self.backends
    }

    /// Reads what a request says about its backend.
    pub fn read_request(&self, head: &Parts, path: &RoutePath, client: ClientKey) -> ChoiceRequest {
        ChoiceRequest {
            key: ChoiceKey::of_request(&self.settings.hash, head, path, client),
            pinned: self.pins.as_ref().and_then(|pins| pins.read(&head.headers)),
        }
    }

    /// Adds the pin cookie of the backend that answered a request to the response, if the client needs it.
    pub fn issue_pin(&self, request: &ChoiceRequest, backend: &Backend, response: &mut HeaderMap) {
        if let Some(pins) = &self.pins {
            pins.issue(request.pinned.as_ref(), &backend.id, response);
        }
    }

    /// The backends that a request tries, without those that are drained.
    pub fn choose(&self, request: &ChoiceRequest, net: &dyn Net) -> Choice {
        let method = match self.settings.balance {
            Balance::Hash => Method::Hash { balance_factor: self.balance_factor() },
            Balance::LeastConnections => Method::LeastConnections,
            Balance::RoundRobin => Method::RoundRobin(&self.state.turns),
            Balance::RandomTwo => {
                let mut random = [0; 8];
                net.fill_random(&mut random);
                Method::RandomTwo(KeyHash::of_text(&random))
            }
        };
        self.order(request, method)
    }

    /// What [`choose`](Self::choose) would return, without taking a turn.
    pub fn predict(&self, request: &ChoiceRequest, net: &dyn Net) -> Choice {
        if self.settings.balance == Balance::RoundRobin {
            self.order(request, Method::RoundRobin(&self.state.turns.copy()))
        } else {
            self.choose(request, net)
        }
    }

    /// Counts a tunnel or request at a backend until the guard is dropped, in pools that count.
    pub fn enter(&self, backend: &Backend, key: ChoiceKey) -> Option<LoadGuard> {
        if !self.is_counting {
            return None;
        }
        let guard = LoadGuard::new(&backend.load);
        Some(match self.balance_factor() {
            Some(_) => guard.keep_key(&self.state.affinity, key.hash, &backend.id),
            None => guard,
        })
    }

    /// How the pool chooses.
    pub fn settings(&self) -> &ChoiceSettings {
        &self.settings
    }

    /// The part of the pool that a reload keeps.
    pub fn state(&self) -> &Arc<ChoiceState> {
        &self.state
    }

    fn order(&self, request: &ChoiceRequest, method: Method<'_>) -> Choice {
        let now = Instant::now();
        let is_usable = |backend: &&Arc<Backend>| !backend.is_draining();
        let usable: Vec<_> = self.backends.iter().filter(is_usable).collect();
        let candidates: Vec<Candidate<'_>> =
            usable.iter().map(|backend| self.candidate(backend, now)).collect();
        let position = |id: &Arc<str>| usable.iter().position(|backend| backend.id == *id);
        let preferred = self.preferred(request);
        let preferred = preferred.and_then(|(id, reason)| Some((position(&id)?, reason)));
        let Order { indices, chosen_by } = order(&candidates, method, request.key.hash, preferred);
        let chosen = indices.iter().filter_map(|index| usable.get(*index));
        Choice { backends: chosen.map(|backend| Arc::clone(backend)).collect(), chosen_by }
    }

    /// The id of the backend that the client is pinned to, or where its key is in use.
    fn preferred(&self, request: &ChoiceRequest) -> Option<(Arc<str>, ChosenBy)> {
        if let Some(Pinned { id, reason, .. }) = &request.pinned {
            return Some((id.clone(), *reason));
        }
        self.balance_factor()?;
        Some((self.state.affinity.backend_of(request.key.hash)?, ChosenBy::Affinity))
    }

    fn candidate<'b>(&self, backend: &'b Backend, now: Instant) -> Candidate<'b> {
        Candidate {
            id: &backend.id,
            weight: self.weight_now(backend, now),
            load: backend.load.get(),
            is_backup: backend.is_backup,
            is_ejected: backend.health.is_ejected(),
        }
    }

    /// The weight of a backend, smaller than the effective one for some time after it has recovered.
    pub fn weight_now(&self, backend: &Backend, now: Instant) -> f64 {
        let weight = f64::from(backend.effective_weight().get());
        let Some(slow_start) = self.settings.slow_start else { return weight };
        let recovered = backend.health.recovered_at();
        ramped(weight, recovered.map(|at| now.saturating_duration_since(at)), slow_start)
    }

    fn balance_factor(&self) -> Option<f64> {
        self.settings.hash_balance_factor.map(|percent| f64::from(percent) / 100.0)
    }
}

/// The addresses of one name in the order in which this client tries them, whatever the order in which a
/// resolver lists them. The family that the resolver prefers comes first, since the other one may not be
/// reachable (RFC 6724).
pub fn address_order(key: ClientKey, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let prefers_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let rank = |address: &SocketAddr| {
        let ip = match address.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        (address.is_ipv6() != prefers_v6, KeyHash::of_client(key).with(&ip.octets()))
    };
    let mut order = addresses.to_vec();
    order.sort_by_cached_key(rank);
    order
}

#[cfg(test)]
mod tests;
