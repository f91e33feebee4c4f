//! Rebalances in progress, which close tunnels whose clients have another backend now. They can be listed, joined and
//! stopped.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

use crate::upstream::backends_owner::BackendsOwner;

/// The rebalances in progress, at most one of each list of backends.
#[derive(Debug, Default)]
pub struct RunningRebalances(Mutex<Vec<RunningRebalance>>);

/// A rebalance in progress.
#[derive(Clone, Debug)]
pub struct RunningRebalance {
    /// What lists the backends.
    pub owner: BackendsOwner,
    /// How far it is.
    pub progress: Arc<RebalanceProgress>,
    task: AbortHandle,
}

/// What a rebalance closes, and how fast. Another one of the same backends joins it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RebalanceScope {
    /// Only tunnels of canary backends.
    pub only_canaries: bool,
    /// Tunnels closed per second.
    pub rate: NonZeroU32,
}

/// How far a rebalance is.
#[derive(Debug)]
pub struct RebalanceProgress {
    closed: AtomicUsize,
    left: AtomicUsize,
    state: Mutex<ScopeState>,
}

#[derive(Debug)]
struct ScopeState {
    scope: RebalanceScope,
    /// Counts those that have joined.
    version: usize,
    is_over: bool,
}

impl RebalanceProgress {
    fn new(scope: RebalanceScope) -> Self {
        let state = Mutex::new(ScopeState { scope, version: 0, is_over: false });
        Self { closed: AtomicUsize::new(0), left: AtomicUsize::new(0), state }
    }

    /// What it closes, and the version of that, which changes when another one joins.
    pub fn scope(&self) -> (RebalanceScope, usize) {
        let state = self.state();
        (state.scope, state.version)
    }

    /// Ends it, unless another one has joined since it had this version. Returns whether it has ended.
    pub fn end(&self, version: usize) -> bool {
        let mut state = self.state();
        state.is_over |= state.version == version;
        state.is_over
    }

    /// Tunnels closed so far.
    pub fn closed(&self) -> usize {
        self.closed.load(Ordering::Relaxed)
    }

    /// Tunnels that remain to be closed, as far as known.
    pub fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// Counts a tunnel that was closed.
    pub fn add_closed(&self) {
        self.closed.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets the number of tunnels that remain.
    pub fn set_left(&self, left: usize) {
        self.left.store(left, Ordering::Relaxed);
    }

    /// Adds another one, which has a rate of its own only if an operator has given it. Returns what is closed then, or
    /// `None` if this one has ended.
    fn join(&self, other: RebalanceScope, has_rate: bool) -> Option<RebalanceScope> {
        let mut state = self.state();
        if state.is_over {
            return None;
        }
        state.scope.only_canaries &= other.only_canaries;
        if has_rate {
            state.scope.rate = other.rate;
        }
        state.version += 1;
        Some(state.scope)
    }

    fn state(&self) -> MutexGuard<'_, ScopeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RunningRebalances {
    /// Starts a rebalance of these backends or, if one is in progress, lets it close these tunnels as well, at its rate
    /// unless `has_rate`. Returns what it closes, and whether it was in progress.
    pub fn start_or_join<F>(
        &self,
        owner: BackendsOwner,
        scope: RebalanceScope,
        has_rate: bool,
        rebalance: impl FnOnce(Arc<RebalanceProgress>) -> F,
    ) -> (RebalanceScope, bool)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut running = self.lock();
        let joined = running.iter().find(|other| other.owner == owner);
        if let Some(joined) = joined.and_then(|other| other.progress.join(scope, has_rate)) {
            return (joined, true);
        }
        running.retain(|other| other.owner != owner);
        let progress = Arc::new(RebalanceProgress::new(scope));
        #[expect(
            clippy::disallowed_methods,
            reason = "ends when no tunnel remains, and can be stopped"
        )]
        let task = tokio::spawn(rebalance(progress.clone())).abort_handle();
        running.push(RunningRebalance { owner, progress, task });
        (scope, false)
    }

    /// Stops the rebalance of the pool or route with this name, or all. The tunnels that were not closed yet stay open.
    /// Returns those that were in progress.
    pub fn stop(&self, name: Option<&str>) -> Vec<RunningRebalance> {
        let is_meant = |running: &mut RunningRebalance| {
            name.is_none_or(|name| **running.owner.name() == *name)
        };
        let stopped: Vec<_> = self.lock().extract_if(.., is_meant).collect();
        stopped.iter().for_each(|running| running.task.abort());
        stopped
    }

    /// The rebalances in progress.
    pub fn running(&self) -> Vec<RunningRebalance> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<RunningRebalance>> {
        // Entries are added and removed as a whole, so the list is valid after a panic.
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|running| !running.task.is_finished());
        running
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn scope(only_canaries: bool, rate: u32) -> RebalanceScope {
        RebalanceScope { only_canaries, rate: NonZeroU32::new(rate).unwrap() }
    }

    #[tokio::test]
    async fn second_one_joins_the_first() {
        let running = RunningRebalances::default();
        let [pool, route] = [BackendsOwner::Pool("a".into()), BackendsOwner::Route("a".into())];
        let start = |owner: &BackendsOwner, scope, has_rate| {
            running.start_or_join(owner.clone(), scope, has_rate, |_| pending())
        };
        assert_eq!(start(&pool, scope(true, 20), false), (scope(true, 20), false));
        assert_eq!(start(&route, scope(false, 30), false), (scope(false, 30), false));
        // It may become wider, but not narrower, and its rate is that which an operator gives.
        assert_eq!(start(&pool, scope(false, 50), false), (scope(false, 20), true));
        assert_eq!(start(&pool, scope(true, 5), true), (scope(false, 5), true));
        let progress = running.running()[0].progress.clone();
        assert_eq!(progress.scope(), (scope(false, 5), 2));
        assert!(!progress.end(1) && progress.end(2));
        assert_eq!(start(&pool, scope(true, 20), false), (scope(true, 20), false));
        assert_eq!(running.stop(Some("a")).len(), 2);
    }
}
