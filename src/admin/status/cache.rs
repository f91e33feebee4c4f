//! Caches the status document, so that its cost does not depend on the number of readers.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;

use super::document::status;
use super::top_lists::{Ranking, rank};
use crate::proxy::state::ProxyState;
use crate::sys::clock::now;

/// The latest status document. Per-tunnel rates are measured between two documents, which are made
/// at most twice a second; nothing is kept while no one reads the status.
#[derive(Debug, Default)]
pub struct StatusCache(Mutex<Option<CachedStatus>>);

#[derive(Debug)]
struct CachedStatus {
    at: Instant,
    json: Bytes,
    ranking: Ranking,
}

impl StatusCache {
    /// The current status as a value. Only the lists of top clients and tunnels may be up to 500 ms
    /// old.
    pub fn fresh_status(&self, state: &ProxyState) -> Value {
        self.refresh(state);
        let lists = self.lock().as_ref().map(|cached| cached.ranking.lists.clone());
        status(state, &lists.unwrap_or_default())
    }

    /// The content of `/status.json`, up to 500 ms old.
    pub fn cached_json(&self, state: &ProxyState) -> Bytes {
        self.refresh(state)
    }

    /// Computes the document unless it is recent, and returns it.
    fn refresh(&self, state: &ProxyState) -> Bytes {
        let mut cached = self.lock();
        let now = now();
        if let Some(cached) = &*cached
            && now.duration_since(cached.at) < REFRESH_INTERVAL
        {
            return cached.json.clone();
        }
        let previous = cached
            .as_ref()
            .map(|cached| (&cached.ranking.totals, now.duration_since(cached.at).as_secs_f64()));
        let ranking = rank(&state.registry.sessions(), previous, now);
        let json = Bytes::from(format!("{}\n", status(state, &ranking.lists)));
        *cached = Some(CachedStatus { at: now, json: json.clone(), ranking });
        json
    }

    /// Drops a document that is older than 10 s.
    pub fn drop_stale(&self) {
        let mut cached = self.lock();
        if cached.as_ref().is_some_and(|cached| now().duration_since(cached.at) > AGE_MAX) {
            *cached = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<CachedStatus>> {
        // The value is replaced as a whole, so a panic cannot leave it inconsistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const REFRESH_INTERVAL: Duration = Duration::from_millis(500);
const AGE_MAX: Duration = Duration::from_secs(10);
