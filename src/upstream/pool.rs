//! Backend selection: weighted rendezvous hashing of the client key over the backends of a route.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;

use tokio::time::Instant;

use super::admin_override::AdminOverride;
use super::ejection::ResponseHealth;
use super::health::Health;
use super::http1::idle_connections::IdleConnections;
use super::probe::health::{ProbeHealth, ProbeState};
use super::resolve::CachedResolver;
use crate::client::ClientKey;
use crate::config::settings::pool::{BackendSettings, PoolSettings};
use crate::config::values::patterns::BackendAddress;
use crate::telemetry::events::{backend_connect_failed, backend_recovered};
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
    /// What responses show; kept across reloads.
    pub responses: Arc<ResponseHealth>,
    /// What `[pool.probe]` shows, if there is one; kept across reloads.
    pub probe: Option<Arc<ProbeHealth>>,
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
    /// Builds a pool. `carried` returns the state of a backend that already exists in another route or
    /// in the previous snapshot.
    pub fn new(
        settings: &PoolSettings,
        mut carried: impl FnMut(&BackendSettings) -> SharedBackendState,
    ) -> Self {
        let build = |settings: &BackendSettings| {
            let SharedBackendState { health, responses, probe, idle, counts, admin_override } =
                carried(settings);
            Arc::new(Backend {
                id: Arc::clone(&settings.id),
                address: settings.address.clone(),
                weight: settings.weight,
                admin_override,
                health,
                responses,
                probe,
                counts,
                idle,
                resolver: CachedResolver::default(),
            })
        };
        let backends = settings.backends.iter().map(build).collect();
        Self { name: settings.name.clone(), backends }
    }

    /// The configuration key that lists the backends.
    pub fn backends_key(&self) -> &'static str {
        if self.name.is_some() { "pool.backends" } else { "route.backends" }
    }

    /// All backends in configuration order.
    pub fn backends(&self) -> &[Arc<Backend>] {
        &self.backends
    }

    /// All backends that are neither drained nor down by their probe, in the order in which this client
    /// tries them: by hash, with the ejected ones last. The order for a key is the same in every process with the same ids and
    /// weights, and removing a backend moves only the clients that were assigned to it.
    pub fn order(&self, key: ClientKey) -> Vec<Arc<Backend>> {
        let mut order: Vec<(bool, f64, &Arc<Backend>)> = self
            .backends
            .iter()
            .filter(|backend| !backend.is_draining() && !backend.is_down_by_probe())
            .map(|backend| (backend.is_ejected(), score(key, backend), backend))
            .collect();
        order.sort_by(|(ejected, score, backend), (other_ejected, other_score, other)| {
            let by_health = ejected.cmp(other_ejected);
            let by_score = other_score.total_cmp(score);
            by_health.then(by_score).then_with(|| backend.id.cmp(&other.id))
        });
        order.into_iter().map(|(_, _, backend)| Arc::clone(backend)).collect()
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
        (address.is_ipv6() != prefers_v6, hash(&[&key.to_bytes(), &ip.octets()]))
    };
    let mut order = addresses.to_vec();
    order.sort_by_cached_key(rank);
    order
}

/// Weighted rendezvous hashing: the backend with the highest `-w / ln(u)` is selected, which gives each
/// backend the share `w / sum(w)` of all keys (Schindelhauer and Schomaker 2005).
fn score(key: ClientKey, backend: &Backend) -> f64 {
    let hash = hash(&[&key.to_bytes(), backend.id.as_bytes()]);
    // The upper 53 bits as a number strictly between 0 and 1.
    let u = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(backend.effective_weight().get()) / u.ln()
}

/// FNV-1a (64 bits) over the bytes of the key and of the id, followed by the 64-bit finalizer of
/// MurmurHash3, because FNV-1a alone gives similar upper bits for similar keys.
///
/// This function must never change: a different one would assign every client of every deployment to a
/// different backend.
fn hash(parts: &[&[u8]]) -> u64 {
    let mut hash = FNV_OFFSET;
    for byte in parts.iter().copied().flatten() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

#[cfg(test)]
mod tests;
