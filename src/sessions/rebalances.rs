//! Rebalances in progress, which close tunnels whose clients have another backend now. They can be listed and stopped.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

/// The rebalances in progress, at most one of each pool.
#[derive(Debug, Default)]
pub struct RunningRebalances(Mutex<Vec<RunningRebalance>>);

/// A rebalance in progress.
#[derive(Clone, Debug)]
pub struct RunningRebalance {
    /// Name of the pool, or of the route that lists its backends itself.
    pub pool: Arc<str>,
    /// How many tunnels it closes per second.
    pub per_second: u32,
    /// How far it is.
    pub progress: Arc<RebalanceProgress>,
    task: AbortHandle,
}

/// How far a rebalance is.
#[derive(Debug, Default)]
pub struct RebalanceProgress {
    closed: AtomicUsize,
    left: AtomicUsize,
}

impl RebalanceProgress {
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
}

impl RunningRebalances {
    /// Starts a rebalance of this pool, in place of another that is in progress.
    pub fn start<F>(
        &self,
        pool: Arc<str>,
        per_second: u32,
        rebalance: impl FnOnce(Arc<RebalanceProgress>) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut running = self.lock();
        running.retain(|other| {
            let is_other = other.pool != pool;
            if !is_other {
                other.task.abort();
            }
            is_other
        });
        let progress = Arc::<RebalanceProgress>::default();
        #[expect(
            clippy::disallowed_methods,
            reason = "ends when no tunnel remains, and can be stopped"
        )]
        let task = tokio::spawn(rebalance(progress.clone())).abort_handle();
        running.push(RunningRebalance { pool, per_second, progress, task });
    }

    /// Stops the rebalance of this pool, or all. The tunnels that were not closed yet stay open. Returns those that were
    /// in progress.
    pub fn stop(&self, pool: Option<&str>) -> Vec<RunningRebalance> {
        let is_meant =
            |running: &mut RunningRebalance| pool.is_none_or(|pool| *running.pool == *pool);
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
