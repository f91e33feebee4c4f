//! What a pool remembers about its choices, kept across reloads and shared by the routes that use the pool.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::canary::CanaryOverride;
use super::load::{Affinity, BackendLoad};
use super::moved_keys::MovedKeys;
use super::queue::WaitQueue;
use super::round_robin::RoundRobin;
use crate::upstream::backend_name::BackendNames;

/// The state of one pool.
#[derive(Debug, Default)]
pub struct ChoiceState {
    /// The turns of `balance = "round-robin"`.
    pub turns: RoundRobin,
    /// Where keys are in use.
    pub affinity: Arc<Affinity>,
    /// The share of canaries that an operator has set.
    pub canary: CanaryOverride,
    /// The keys whose tunnels were closed lately so that they move.
    pub moved: MovedKeys,
    /// Handshakes that wait for a place at a backend.
    pub queue: Arc<WaitQueue>,
    /// The names in its list, each address of which is a backend.
    pub names: BackendNames,
    loads: Mutex<HashMap<Arc<str>, Arc<BackendLoad>>>,
}

impl ChoiceState {
    /// The load of the backend with this id.
    pub fn load_of(&self, id: &Arc<str>) -> Arc<BackendLoad> {
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        forget_unused(&mut loads);
        loads.entry(id.clone()).or_default().clone()
    }

    /// Counts the backend with this id with another that is the same machine, unless it is counted already.
    pub fn share_load(&self, id: &Arc<str>, load: &Arc<BackendLoad>) {
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        forget_unused(&mut loads);
        loads.entry(id.clone()).or_insert_with(|| load.clone());
    }
}

/// Removes those of backends that are gone and have no tunnels left.
fn forget_unused(loads: &mut HashMap<Arc<str>, Arc<BackendLoad>>) {
    let mut ids: HashMap<*const BackendLoad, usize> = HashMap::new();
    for load in loads.values() {
        *ids.entry(Arc::as_ptr(load)).or_default() += 1;
    }
    loads.retain(|_, load| {
        ids.get(&Arc::as_ptr(load)).is_some_and(|ids| Arc::strong_count(load) > *ids)
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::choice::load::LoadGuard;

    #[test]
    fn load_is_kept_as_long_as_it_is_used() {
        let (state, [a, b]) = (ChoiceState::default(), ["a", "b"].map(Arc::<str>::from));
        let guard = LoadGuard::new(&state.load_of(&a), None);
        state.load_of(&b);
        assert_eq!(state.load_of(&a).get(), 1);
        // Another id of the same machine.
        let other = "c".into();
        state.share_load(&other, &state.load_of(&a));
        assert_eq!(state.load_of(&other).get(), 1);
        drop(guard);
        state.load_of(&b);
        assert_eq!(state.loads.lock().unwrap().len(), 1);
    }
}
