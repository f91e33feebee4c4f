//! What each backend is in use for: open tunnels and requests, in total and by key.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::queue::{TunnelCount, TunnelPlace};
use super::rendezvous::KeyHash;
use super::round_robin::TurnCredit;

/// The number of open tunnels and requests of one backend, and its turns.
#[derive(Debug, Default)]
pub struct BackendLoad {
    open: AtomicUsize,
    /// The tunnels alone.
    pub tunnels: Arc<TunnelCount>,
    /// Its turns, with `balance = "round-robin"`.
    pub credit: TurnCredit,
}

impl BackendLoad {
    /// The number now.
    pub fn get(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// Counts a tunnel or request of a backend until it is dropped.
#[derive(Debug)]
pub struct LoadGuard {
    load: Arc<BackendLoad>,
    _place: Option<TunnelPlace>,
    /// Present in pools that keep keys together.
    affinity: Option<AffinityEntry>,
}

impl LoadGuard {
    /// Counts one more; a tunnel has a place.
    pub fn new(load: &Arc<BackendLoad>, place: Option<TunnelPlace>) -> Self {
        load.open.fetch_add(1, Ordering::Relaxed);
        Self { load: load.clone(), _place: place, affinity: None }
    }

    /// Whether it counts at this backend.
    pub fn is_of(&self, load: &Arc<BackendLoad>) -> bool {
        Arc::ptr_eq(&self.load, load)
    }

    /// Keeps other requests with the same key at the backend with this id as long as this one is open.
    pub fn keep_key(mut self, affinity: &Arc<Affinity>, key: KeyHash, id: &Arc<str>) -> Self {
        self.affinity = affinity.enter(key, id);
        self
    }
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        self.load.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The backends that keys are in use at. The open tunnels and requests bound the size of the table.
#[derive(Debug, Default)]
pub struct Affinity(Mutex<HashMap<KeyHash, KeyUse>>);

#[derive(Debug)]
struct KeyUse {
    id: Arc<str>,
    count: usize,
}

/// One use of a key, which ends when it is dropped.
#[derive(Debug)]
struct AffinityEntry {
    affinity: Arc<Affinity>,
    key: KeyHash,
}

impl Affinity {
    /// The backend that the key is in use at.
    pub fn backend_of(&self, key: KeyHash) -> Option<Arc<str>> {
        self.lock().get(&key).map(|of| of.id.clone())
    }

    /// Counts a use of the key, unless it is in use at another backend: a later use does not move it.
    fn enter(self: &Arc<Self>, key: KeyHash, id: &Arc<str>) -> Option<AffinityEntry> {
        let mut uses = self.lock();
        let of = uses.entry(key).or_insert_with(|| KeyUse { id: id.clone(), count: 0 });
        if of.id != *id {
            return None;
        }
        of.count += 1;
        Some(AffinityEntry { affinity: self.clone(), key })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<KeyHash, KeyUse>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AffinityEntry {
    fn drop(&mut self) {
        if let Entry::Occupied(mut of) = self.affinity.lock().entry(self.key) {
            of.get_mut().count -= 1;
            if of.get().count == 0 {
                of.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_counts_open_guards() {
        let load = Arc::<BackendLoad>::default();
        let guards = [LoadGuard::new(&load, None), LoadGuard::new(&load, None)];
        assert_eq!(load.get(), 2);
        drop(guards);
        assert_eq!(load.get(), 0);
    }

    #[test]
    fn key_stays_where_it_is_in_use() {
        let (load, affinity) = (Arc::<BackendLoad>::default(), Arc::<Affinity>::default());
        let (key, [a, b]) = (KeyHash::of_text(b"k"), ["a", "b"].map(Arc::<str>::from));
        let open = |id| LoadGuard::new(&load, None).keep_key(&affinity, key, id);
        let (first, elsewhere, second) = (open(&a), open(&b), open(&a));
        assert_eq!(affinity.backend_of(key), Some(a.clone()));
        drop(first);
        assert_eq!(affinity.backend_of(key), Some(a.clone()));
        drop(second);
        assert_eq!(affinity.backend_of(key), None);
        drop(elsewhere);
        assert!(affinity.lock().is_empty());
        let moved = open(&b);
        assert_eq!(affinity.backend_of(key), Some(b.clone()));
        drop(moved);
    }
}
