//! Backend selection: weighted rendezvous hashing of the client key over the backends of a route.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;

use tokio::time::Instant;

use super::admin_override::AdminOverride;
use super::backend_tls::{BackendKey, BackendTls};
use super::health::Health;
use super::http1::idle_connections::IdleConnections;
use super::resolve::CachedResolver;
use crate::client::ClientKey;
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

    /// What connection attempts showed, unless an operator has drained it.
    pub fn state(&self) -> BackendState {
        if self.is_draining() { BackendState::Drained } else { self.health.state() }
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
    /// Builds a pool. `carried` returns the state of a backend that already exists in another route or
    /// in the previous snapshot.
    pub fn new(
        settings: &PoolSettings,
        mut carried: impl FnMut(&BackendSettings) -> SharedBackendState,
    ) -> Self {
        let build = |settings: &BackendSettings| {
            let SharedBackendState { health, idle, counts, admin_override, tls } =
                carried(settings);
            Arc::new(Backend {
                id: Arc::clone(&settings.id),
                address: settings.address.clone(),
                weight: settings.weight,
                admin_override,
                health,
                counts,
                idle,
                tls,
                resolver: CachedResolver::default(),
            })
        };
        let backends = settings.backends.iter().map(build).collect();
        Self { name: settings.name.clone(), tls: settings.tls.clone(), backends }
    }

    /// The configuration key that lists the backends.
    pub fn backends_key(&self) -> &'static str {
        if self.name.is_some() { "pool.backends" } else { "route.backends" }
    }

    /// Whether certificates of the backends are verified; `None` without TLS.
    pub fn is_verified(&self) -> Option<bool> {
        self.tls.as_ref().map(|tls| !tls.insecure_skip_verify)
    }

    /// All backends in configuration order.
    pub fn backends(&self) -> &[Arc<Backend>] {
        &self.backends
    }

    /// All backends that are not drained, in the order in which this client tries them: by hash, with
    /// the ejected ones last. The order for a key is the same in every process with the same ids and
    /// weights, and removing a backend moves only the clients that were assigned to it.
    pub fn order(&self, key: ClientKey) -> Vec<Arc<Backend>> {
        let mut order: Vec<(bool, f64, &Arc<Backend>)> = self
            .backends
            .iter()
            .filter(|backend| !backend.is_draining())
            .map(|backend| (backend.health.is_ejected(), score(key, backend), backend))
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
