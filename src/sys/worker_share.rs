//! How much of a worker's time long steps of tasks take before its other tasks run.
//!
//! A worker runs the tasks that are ready in their order, and looks at its sockets after some of them. If all
//! tasks with much to do were in that queue, each task behind them would wait for all. So only those are in it
//! that fit into a share of the worker's time; the others wait here. The kinds take turns, and within a kind the owners
//! of the tasks, so that a client with many connections does not delay the others; the tasks of one owner keep the order in
//! which they asked.
//!
//! | state | event | next |
//! | --- | --- | --- |
//! | time is left | a task asks, and none waits | it works at once |
//! | time is left | a task has worked | the next one that waits works |
//! | spent | a task asks or waits | a new share begins after the next look at the sockets, behind the tasks that are ready then |
//! | any | the worker has nothing to do, and no task waits | a new share begins |

use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::yield_now;

use super::fair_queue::FairQueue;
use super::worker_step::WorkerStep;

/// What a task works on: a kind with many tasks does not delay the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkKind {
    /// A connection before its first response.
    Opening,
    /// Requests and responses of a connection after that.
    Http,
    /// A tunnel whose last wake was long.
    Tunnel,
}

/// The time that long steps have taken, and the tasks that wait. Belongs to a worker thread.
#[derive(Debug, Default)]
pub struct WorkerShare(Mutex<ShareState>);

#[derive(Debug, Default)]
struct ShareState {
    used: Duration,
    /// A new share begins soon.
    is_renewing: bool,
    /// A task that waited may work, and has not finished.
    is_granted: bool,
    waiting: [FairQueue<u64, oneshot::Sender<ShareWork>>; WORK_KINDS],
    /// The kind whose turn it is.
    next: usize,
}

/// The right of a task to work once. Its time is charged when it is dropped.
#[derive(Debug)]
pub struct ShareWork {
    /// `None` if the work is not charged.
    share: Option<Arc<WorkerShare>>,
    /// `None` until the task knows about it.
    step: Option<WorkerStep>,
    was_waiting: bool,
}

/// The place of a task among those that wait, if it waits. By default it has the same owner as all others.
#[derive(Debug, Default)]
pub struct ShareTurn {
    owner: u64,
    place: Option<oneshot::Receiver<ShareWork>>,
}

impl ShareTurn {
    /// For a task of this owner.
    pub fn of(owner: u64) -> Self {
        Self { owner, place: None }
    }

    /// Ready when the task may work. It is woken then.
    pub fn poll(&mut self, kind: WorkKind, cx: &mut Context<'_>) -> Poll<ShareWork> {
        let receiver = match &mut self.place {
            Some(receiver) => receiver,
            None => match SHARE.with(|share| share.request(kind, self.owner)) {
                Ok(work) => return Poll::Ready(work),
                Err(receiver) => self.place.insert(receiver),
            },
        };
        let work = ready!(Pin::new(receiver).poll(cx));
        self.place = None;
        // The sender is dropped only with its worker.
        let share = work.ok().and_then(|mut work| work.share.take());
        let step = Some(WorkerStep::begin());
        Poll::Ready(ShareWork { share, step, was_waiting: true })
    }
}

/// Charges work that nothing was asked for, because it was expected to be short.
pub fn charge(time: Duration) {
    SHARE.with(|share| share.state().charge(time));
}

/// Begins a new share if no task waits: this worker has nothing to do until it has looked at its sockets. Otherwise many
/// short steps, far apart, would spend a share as well, and one of their tasks would wait for nothing.
pub fn rest() {
    SHARE.with(|share| {
        let mut state = share.state();
        if !state.is_renewing && !state.has_waiting() {
            state.used = Duration::ZERO;
        }
    });
}

impl WorkerShare {
    fn request(
        self: &Arc<Self>,
        kind: WorkKind,
        owner: u64,
    ) -> Result<ShareWork, oneshot::Receiver<ShareWork>> {
        let mut state = self.state();
        if state.used < SHARE_MAX && !state.has_waiting() {
            drop(state);
            let (share, step) = (Some(self.clone()), Some(WorkerStep::begin()));
            return Ok(ShareWork { share, step, was_waiting: false });
        }
        let (sender, receiver) = oneshot::channel();
        state.waiting[kind as usize].push(owner, sender);
        drop(state);
        self.grant_next();
        Err(receiver)
    }

    /// Lets the next task work, or begins a new share.
    fn grant_next(self: &Arc<Self>) {
        loop {
            let mut state = self.state();
            if state.is_granted || state.is_renewing || !state.has_waiting() {
                return;
            }
            if state.used >= SHARE_MAX {
                // Not while the runtime ends.
                if let Ok(runtime) = Handle::try_current() {
                    state.is_renewing = true;
                    drop(state);
                    runtime.spawn(self.clone().renew());
                }
                return;
            }
            let Some(next) = state.pop() else { return };
            state.is_granted = true;
            drop(state);
            let share = Some(self.clone());
            match next.send(ShareWork { share, step: None, was_waiting: true }) {
                Ok(()) => return,
                // It no longer waits.
                Err(mut work) => {
                    work.share = None;
                    self.state().is_granted = false;
                }
            }
        }
    }

    async fn renew(self: Arc<Self>) {
        yield_now().await;
        // The worker has looked at its sockets. The tasks that are ready now come first.
        let mut is_behind = false;
        poll_fn(|cx| {
            if mem::replace(&mut is_behind, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        let mut state = self.state();
        (state.used, state.is_renewing) = (Duration::ZERO, false);
        drop(state);
        self.grant_next();
    }

    fn state(&self) -> MutexGuard<'_, ShareState> {
        // No code that can panic runs while the lock is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ShareState {
    fn charge(&mut self, time: Duration) {
        self.used = self.used.saturating_add(time);
    }

    fn has_waiting(&self) -> bool {
        self.waiting.iter().any(|queue| !queue.is_empty())
    }

    fn pop(&mut self) -> Option<oneshot::Sender<ShareWork>> {
        let kinds = (0..WORK_KINDS).map(|offset| (self.next + offset) % WORK_KINDS);
        let kind = { kinds }.find(|kind| !self.waiting[*kind].is_empty())?;
        self.next = kind + 1;
        self.waiting[kind].pop()
    }
}

impl Drop for ShareWork {
    fn drop(&mut self) {
        let Some(share) = self.share.take() else { return };
        let time = self.step.take().map_or(Duration::ZERO, |step| step.elapsed());
        let mut state = share.state();
        state.charge(time);
        state.is_granted &= !self.was_waiting;
        let has_waiting = state.has_waiting();
        drop(state);
        if has_waiting {
            share.grant_next();
        }
    }
}

thread_local! {
    static SHARE: Arc<WorkerShare> = Arc::default();
}

/// Time of one share: how long these steps together delay the other tasks. The one that exceeds it is completed, such as
/// an RSA-4096 signature of 2 ms.
pub const SHARE_MAX: Duration = Duration::from_millis(1);

const WORK_KINDS: usize = 3;

#[cfg(test)]
mod tests;
