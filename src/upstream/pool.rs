//! Which backend a client meets: weighted rendezvous hashing over a route's backends.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use tokio::time::Instant;

use super::admin_override::AdminOverride;
use super::health::Health;
use super::resolve::ResolvedNames;
use crate::client::ClientKey;
use crate::config::settings::BackendSettings;
use crate::config::values::patterns::BackendAddress;
use crate::telemetry::events::{backend_connect_failed, backend_recovered};
use crate::telemetry::metrics::handles::BackendCounts;

/// One place to connect to.
#[derive(Debug)]
pub struct Backend {
    /// What the choice hangs on; unique in its pool.
    pub id: Arc<str>,
    /// Where it listens.
    pub address: BackendAddress,
    /// Its share of the clients as the file says, relative to its siblings.
    pub weight: NonZeroU32,
    /// What an operator says of that; outlives this configuration.
    pub standing: Arc<AdminOverride>,
    /// Outlives this configuration.
    pub health: Arc<Health>,
    /// Outlives it, too.
    pub counts: Arc<BackendCounts>,
    pub(super) names: ResolvedNames,
}

/// The backends of one route.
#[derive(Clone, Debug)]
pub struct Pool {
    backends: Arc<[Arc<Backend>]>,
}

/// What is known of a backend from elsewhere, and from before.
#[derive(Debug, Default)]
pub struct Carried {
    /// Whether it is up.
    pub health: Arc<Health>,
    /// What is counted of it.
    pub counts: Arc<BackendCounts>,
    /// What an operator decided.
    pub standing: Arc<AdminOverride>,
}

impl Backend {
    /// Its share of the clients, relative to its siblings.
    pub fn share(&self) -> NonZeroU32 {
        self.standing.weight().unwrap_or(self.weight)
    }

    /// Whether new sessions should go there.
    pub fn takes(&self, now: Instant) -> bool {
        self.health.is_up(now) && !self.standing.away.is_away()
    }

    /// It gave a lawful answer.
    pub fn answered(&self) {
        if self.health.succeeded() {
            backend_recovered(&self.id, &self.counts.route.name);
        }
    }

    /// It did not take a connection.
    pub fn failed(&self, why: &dyn fmt::Display) {
        self.counts.connect_failures.inc();
        let left_out = self.health.failed(Instant::now());
        backend_connect_failed(&self.id, &self.counts.route.name, why, left_out);
    }
}

impl Pool {
    /// Builds a pool. `known` gives what is known of a backend, from other routes and from
    /// earlier generations.
    pub fn new(
        settings: &[BackendSettings],
        mut known: impl FnMut(&BackendSettings) -> Carried,
    ) -> Self {
        let build = |settings: &BackendSettings| {
            let Carried { health, counts, standing } = known(settings);
            Arc::new(Backend {
                id: Arc::clone(&settings.id),
                address: settings.address.clone(),
                weight: settings.weight,
                standing,
                health,
                counts,
                names: ResolvedNames::default(),
            })
        };
        Self { backends: settings.iter().map(build).collect() }
    }

    /// All backends, as configured.
    pub fn backends(&self) -> &[Arc<Backend>] {
        &self.backends
    }

    /// Every backend that is not away, in the order in which this client tries them: by hash, the
    /// ejected ones behind all others as a last resort. The same key meets the same order in every process
    /// that has the same ids and weights; taking one backend out moves only its own clients.
    pub fn order(&self, key: ClientKey, now: Instant) -> Vec<Arc<Backend>> {
        let mut order: Vec<(bool, f64, &Arc<Backend>)> = self
            .backends
            .iter()
            .filter(|backend| !backend.standing.away.is_away())
            .map(|backend| (backend.health.is_up(now), score(key, backend), backend))
            .collect();
        order.sort_by(|(up, score, backend), (other_up, other_score, other)| {
            let by_health = other_up.cmp(up);
            let by_score = other_score.total_cmp(score);
            by_health.then(by_score).then_with(|| backend.id.cmp(&other.id))
        });
        order.into_iter().map(|(_, _, backend)| Arc::clone(backend)).collect()
    }
}

/// Weighted rendezvous: `-w / ln(u)`, the highest wins, gives each backend the share `w / sum(w)`
/// of all keys (Schindelhauer and Schomaker 2005).
fn score(key: ClientKey, backend: &Backend) -> f64 {
    let hash = hash(&[&key.to_bytes(), backend.id.as_bytes()]);
    // The upper 53 bits as a number strictly between 0 and 1.
    let u = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(backend.share().get()) / u.ln()
}

/// FNV-1a (64 bits) over the key's bytes and the id's, then MurmurHash3's 64-bit finaliser,
/// because FNV alone leaves neighbours near each other in the upper bits.
///
/// This is a promise to every running deployment: another function, or other constants, would
/// send every client to another backend. It may never change.
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
