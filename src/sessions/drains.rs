//! Drains of some sessions in the background, started by `tidegate ctl drain` or for a lost
//! backend. They can be listed and cancelled.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::task::{AbortHandle, JoinHandle};
use tracing::info;

use super::drain_plan::{DrainOutcome, DrainPlan};
use super::registry::SessionHandle;
use crate::control_protocol::{DrainScope, Selection};

/// The drains in progress, at most 16.
#[derive(Debug, Default)]
pub struct RunningDrains(Mutex<Vec<RunningDrain>>);

/// A drain in progress.
#[derive(Clone, Debug)]
pub struct RunningDrain {
    /// The tunnels it applies to.
    pub selection: Selection,
    /// Sessions open at its start.
    pub sessions: usize,
    selected: Arc<Vec<Weak<SessionHandle>>>,
    task: AbortHandle,
}

impl RunningDrain {
    /// Number of its sessions that are still open.
    pub fn remaining(&self) -> usize {
        self.selected.iter().filter(|session| session.strong_count() > 0).count()
    }
}

impl RunningDrains {
    /// Whether another drain of this selection can be started.
    pub fn has_capacity_for(&self, selection: &Selection) -> bool {
        self.lock().iter().filter(|running| running.selection != *selection).count() < RUNNING_MAX
    }

    /// Starts a drain of the sessions, in place of one of the same selection; `None` if 16 others are in progress.
    pub fn start(
        &self,
        selection: Selection,
        plan: DrainPlan,
        sessions: &[Arc<SessionHandle>],
    ) -> Option<JoinHandle<DrainOutcome>> {
        let mut running = self.lock();
        for replaced in running.extract_if(.., |running| running.selection == selection) {
            replaced.task.abort();
        }
        if running.len() >= RUNNING_MAX {
            return None;
        }
        let selected: Arc<Vec<_>> = Arc::new(sessions.iter().map(Arc::downgrade).collect());
        let (scope, sessions) = (selection.to_string(), selected.clone());
        #[expect(clippy::disallowed_methods, reason = "a drain ends at its deadline")]
        let task = tokio::spawn(async move {
            let outcome = plan.drain(&sessions).await;
            let DrainOutcome { sessions, aborted, .. } = outcome;
            info!(scope, tunnels = sessions, aborted, "drain finished");
            outcome
        });
        running.push(RunningDrain {
            selection,
            sessions: selected.len(),
            selected,
            task: task.abort_handle(),
        });
        Some(task)
    }

    /// Cancels the drains of a scope. Returns the number of open sessions that stay open.
    pub fn cancel(&self, scope: &DrainScope) -> usize {
        let mut kept = 0;
        self.lock().retain(|running| {
            let cancelled = match scope {
                DrainScope::All => true,
                DrainScope::Route(name) => running.selection.route.as_ref() == Some(name),
                DrainScope::Backend(id) => running.selection.backend.as_ref() == Some(id),
            };
            if cancelled {
                let open = running.selected.iter().filter_map(Weak::upgrade);
                kept += open.filter(|session| !session.is_closing()).count();
                running.task.abort();
            }
            !cancelled
        });
        kept
    }

    /// The drains in progress.
    pub fn running(&self) -> Vec<RunningDrain> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<RunningDrain>> {
        // Entries are added and removed as a whole, so the list is valid after a panic.
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|running| !running.task.is_finished());
        running
    }
}

const RUNNING_MAX: usize = 16;
