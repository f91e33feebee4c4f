//! Drains that go on beside everything else: of some sessions, by order or because their backend is
//! lost. They can be looked at, and ended before their time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::{AbortHandle, JoinHandle};
use tracing::info;

use super::drain_plan::{DrainOutcome, DrainPlan};
use super::registry::SessionHandle;
use crate::protocol::{DrainScope, Selection};

/// All that are under way.
#[derive(Debug, Default)]
pub struct RunningDrains(Mutex<Vec<RunningDrain>>);

/// One of them.
#[derive(Clone, Debug)]
pub struct RunningDrain {
    /// Of what.
    pub of: Selection,
    /// Sessions open at its beginning.
    pub sessions: usize,
    /// Those that are left.
    left: Arc<Vec<std::sync::Weak<SessionHandle>>>,
    task: AbortHandle,
}

impl RunningDrain {
    /// How many are still open.
    pub fn left(&self) -> usize {
        self.left.iter().filter(|line| line.strong_count() > 0).count()
    }
}

impl RunningDrains {
    /// Whether one more may begin.
    pub fn have_room(&self) -> bool {
        self.lock().len() < RUNNING_MAX
    }

    /// Begins one; `None`: there are as many as anybody can follow.
    pub fn begin(
        &self,
        of: Selection,
        course: DrainPlan,
        lines: &[Arc<SessionHandle>],
    ) -> Option<JoinHandle<DrainOutcome>> {
        let mut running = self.lock();
        if running.len() >= RUNNING_MAX {
            return None;
        }
        let left: Arc<Vec<_>> = Arc::new(lines.iter().map(Arc::downgrade).collect());
        let (shown, lines) = (of.to_string(), left.clone());
        #[expect(clippy::disallowed_methods, reason = "it ends by its own deadline")]
        let task = tokio::spawn(async move {
            let drained = course.drain(&lines).await;
            let DrainOutcome { sessions, cut, .. } = drained;
            info!(of = shown, tunnels = sessions, cut, "drained");
            drained
        });
        running.push(RunningDrain { of, sessions: left.len(), left, task: task.abort_handle() });
        Some(task)
    }

    /// Ends those of a place, or all; how many sessions are spared by that.
    pub fn stop(&self, place: &DrainScope) -> usize {
        let mut spared = 0;
        self.lock().retain(|running| {
            let ends = match place {
                DrainScope::All => true,
                DrainScope::Route(name) => running.of.route.as_ref() == Some(name),
                DrainScope::Backend(id) => running.of.backend.as_ref() == Some(id),
            };
            if ends {
                let open = running.left.iter().filter_map(std::sync::Weak::upgrade);
                spared += open.filter(|line| !line.is_leaving()).count();
                running.task.abort();
            }
            !ends
        });
        spared
    }

    /// Those under way.
    pub fn running(&self) -> Vec<RunningDrain> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<RunningDrain>> {
        // Whole entries only are put in and taken out.
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|running| !running.task.is_finished());
        running
    }
}

const RUNNING_MAX: usize = 16;
