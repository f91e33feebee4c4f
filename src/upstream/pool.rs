//! The backends of a route. [`choosing`] says which one a request goes to.

pub(crate) mod choosing;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;

use tokio::time::Instant;

use super::admin_override::AdminOverride;
use super::backend_tls::{BackendKey, BackendTls};
use super::choice::load::BackendLoad;
use super::choice::pin::PinCookies;
use super::choice::rendezvous::KeyHash;
use super::choice::state::ChoiceState;
use super::ejection::ResponseHealth;
use super::health::Health;
use super::http1::idle_connections::IdleConnections;
use super::probe::health::{ProbeHealth, ProbeState};
use super::resolve::CachedResolver;
use crate::client::ClientKey;
use crate::config::settings::choice::{Balance, ChoiceSettings};
use crate::config::settings::pool::{BackendSettings, PoolSettings, PoolTlsSettings};
use crate::config::values::backend_address::BackendAddress;
use crate::sys::clock::now;
use crate::telemetry::events::{backend_connect_failed, backend_held, backend_recovered};
use crate::telemetry::metrics::backend_state::BackendState;
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
    /// Whether it serves only canary requests.
    pub is_canary: bool,
    /// Maximum number of its tunnels.
    pub max_tunnels: Option<usize>,
    /// Its tunnels and requests, of all routes that use its pool, if the pool counts them; kept across reloads.
    pub load: Arc<BackendLoad>,
    /// What responses show; kept across reloads.
    pub responses: Arc<ResponseHealth>,
    /// What `[pool.probe]` shows, if there is one; kept across reloads.
    pub probe: Option<Arc<ProbeHealth>>,
    /// Metrics; kept across reloads.
    pub counts: Arc<BackendCounts>,
    /// Connections for further requests; kept across reloads.
    pub idle: Arc<IdleConnections>,
    /// How connections are encrypted; `None` if they are not.
    pub tls: Option<Arc<BackendTls>>,
    pub(super) resolver: CachedResolver,
}

/// The backends of a route, with its own metrics and overrides even if the settings are those of several
/// routes.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Name of the `[[pool]]`; `None` if the route lists the backends itself.
    pub name: Option<Arc<str>>,
    /// TLS to the backends, if they have any.
    pub tls: Option<Arc<PoolTlsSettings>>,
    backends: Arc<[Arc<Backend>]>,
    settings: Arc<ChoiceSettings>,
    state: Arc<ChoiceState>,
    pins: Option<Arc<PinCookies>>,
    /// Whether something depends on the number of tunnels and requests; otherwise they are not counted.
    is_counting: bool,
}

/// State of a backend that is carried over from the previous snapshot or shared with other routes.
#[derive(Debug, Default)]
pub struct SharedBackendState {
    /// Results of recent connection attempts.
    pub health: Arc<Health>,
    /// Results of recent responses.
    pub responses: Arc<ResponseHealth>,
    /// Results of probes.
    pub probe: Option<Arc<ProbeHealth>>,
    /// Connections that wait for a request.
    pub idle: Arc<IdleConnections>,
    /// Metrics of the backend.
    pub counts: Arc<BackendCounts>,
    /// Drain and weight set by an operator.
    pub admin_override: Arc<AdminOverride>,
    /// How connections are encrypted.
    pub tls: Option<Arc<BackendTls>>,
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

    /// What connection attempts, responses and probes showed, unless an operator has drained it.
    pub fn state(&self) -> BackendState {
        if self.is_draining() { BackendState::Drained } else { self.shown_state() }
    }

    /// What connection attempts, responses and probes showed; never [`BackendState::Drained`].
    pub fn shown_state(&self) -> BackendState {
        let probed = self.probe.as_ref().map(|probe| probe.state());
        let state = self.health.state();
        match (probed, state) {
            (Some(ProbeState::Down), _) => BackendState::Down,
            (_, _) if self.is_ejected() => BackendState::Down,
            // A connection that fails between two probes is one failure.
            (Some(ProbeState::Up), _) => BackendState::Up,
            (_, BackendState::Up) if self.responses.is_returning() => BackendState::Untried,
            (_, state) => state,
        }
    }

    /// Whether its probes have failed, so that it gets no requests.
    pub fn is_down_by_probe(&self) -> bool {
        self.probe.as_ref().is_some_and(|probe| probe.state() == ProbeState::Down)
    }

    /// Whether it is tried after the others of its pool: connection attempts or responses failed.
    pub fn is_ejected(&self) -> bool {
        self.responses.is_ejected() || self.health.is_ejected()
    }

    /// When it last came back, after failed connection attempts, responses or probes.
    pub fn recovered_at(&self) -> Option<Instant> {
        let probed = self.probe.as_ref().and_then(|probe| probe.recovered_at());
        self.health.recovered_at().max(self.responses.recovered_at()).max(probed)
    }

    /// Why it is not up, as far as known: what failed, and what ends it.
    pub fn problem(&self) -> Option<String> {
        if let Some((probe, cause)) = self.probe.as_ref().and_then(|p| Some((p, p.cause()?))) {
            return Some(format!("{} probe failed: {cause}", probe.settings.kind.as_str()));
        }
        if let Some(ejection) = self.responses.ejection() {
            let left = ejection.until.saturating_duration_since(Instant::now()).as_secs() + 1;
            return Some(format!("ejected for another {left}s: {}", ejection.cause));
        }
        let text = match self.health.is_ejected() {
            true => "connection attempts failed in a row; it is tried last until one succeeds",
            false if self.shown_state() == BackendState::Down => {
                "the last connection attempt failed"
            }
            false => return None,
        };
        Some(text.to_owned())
    }

    /// What identifies the backend beyond its pool.
    pub fn key(&self) -> BackendKey {
        let tls = self.tls.as_ref().map(|tls| tls.settings.clone());
        BackendKey { id: self.id.clone(), address: self.address.clone(), tls }
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

    /// Counts a connection attempt that timed out while exchanges on this many other connections wait for request
    /// bodies. It does not show that the backend is down: clients that send slowly may hold all of its workers.
    pub fn record_held(&self, uploads: u64) {
        self.counts.connect_failures.inc();
        if self.health.held_logged.is_due(now()) {
            backend_held(&self.id, &self.counts.route.name, uploads);
        }
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
            let of: SharedBackendState = carried(settings);
            of.responses.add_route(&of.counts);
            Arc::new(Backend {
                id: Arc::clone(&settings.id),
                address: settings.address.clone(),
                weight: settings.weight,
                is_backup: settings.is_backup,
                is_canary: settings.is_canary,
                max_tunnels: settings.max_tunnels,
                load: state.load_of(&settings.id),
                admin_override: of.admin_override,
                health: of.health,
                responses: of.responses,
                probe: of.probe,
                counts: of.counts,
                idle: of.idle,
                tls: of.tls,
                resolver: CachedResolver::default(),
            })
        };
        let backends = settings.backends.iter().map(build).collect();
        state.canary.settle(&settings.choice.canary);
        let has_maximum = |backend: &BackendSettings| backend.max_tunnels.is_some();
        let is_counting = settings.choice.hash_balance_factor.is_some()
            || matches!(settings.choice.balance, Balance::LeastConnections | Balance::RandomTwo)
            || settings.backends.iter().any(has_maximum);
        let (name, choice) = (settings.name.clone(), Arc::new(settings.choice.clone()));
        let tls = settings.tls.clone();
        Self { name, tls, backends, settings: choice, state, pins, is_counting }
    }

    /// The configuration key that lists the backends.
    pub fn backends_key(&self) -> &'static str {
        if self.name.is_some() { "pool.backends" } else { "route.backends" }
    }

    /// Whether certificates of the backends are verified; `None` without TLS.
    pub fn is_verified(&self) -> Option<bool> {
        self.tls.as_ref().map(|tls| !tls.insecure_skip_verify)
    }

    /// The configuration key that limits the tunnels of a backend.
    pub fn max_tunnels_key(&self) -> &'static str {
        match self.name {
            Some(_) => "pool.backends.max_tunnels",
            None => "route.backends.max_tunnels",
        }
    }

    /// All backends in configuration order.
    pub fn backends(&self) -> &[Arc<Backend>] {
        &self.backends
    }

    /// How the pool chooses.
    pub fn settings(&self) -> &ChoiceSettings {
        &self.settings
    }

    /// The part of the pool that a reload keeps.
    pub fn state(&self) -> &Arc<ChoiceState> {
        &self.state
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
