//! How much of a worker's time one kind of work uses before the worker looks at its sockets again.
//!
//! A worker runs the tasks that are ready in their order, and looks at its sockets only in between. A task
//! whose socket becomes ready therefore waits for all tasks before it. Tasks that may each take long share
//! a limited time per round; those that get none of it are deferred until the next round.

use std::cell::Cell;
use std::future::Future;
use std::num::NonZeroU8;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::yield_now;

/// The time that one kind of work has used since the worker last looked at its sockets. Belongs to a worker
/// thread.
#[derive(Debug)]
pub struct WorkerShare {
    max: Duration,
    state: Cell<ShareState>,
}

#[derive(Clone, Copy, Debug)]
struct ShareState {
    used: Duration,
    /// Changes each time the worker has looked at its sockets.
    round: NonZeroU8,
    /// Changes when every deferred task has worked, so that all have the same number of turns.
    lap: NonZeroU8,
    /// Tasks that have not worked in this lap were deferred in this round, or in the one before.
    waiting: [bool; 2],
}

/// What a task remembers about its share, in two bytes: numbers that occur again mean at most an early look at the
/// sockets, or one turn less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShareTurn {
    /// The round in which the task was deferred: when it runs again, that round is over.
    deferred: Option<NonZeroU8>,
    /// The lap in which it last worked.
    worked: Option<NonZeroU8>,
}

impl WorkerShare {
    /// A share of `max` per round. The task that exceeds it completes its step.
    pub const fn new(max: Duration) -> Self {
        let (round, lap) = (NonZeroU8::MIN, NonZeroU8::MIN);
        let state = ShareState { used: Duration::ZERO, round, lap, waiting: [false; 2] };
        Self { max, state: Cell::new(state) }
    }

    /// The time left in this round.
    pub fn left(&self) -> Duration {
        self.max.saturating_sub(self.state.get().used)
    }

    /// Ready if the task may work now. Otherwise it is deferred.
    pub fn poll_turn(&self, turn: &mut ShareTurn, cx: &mut Context<'_>) -> Poll<()> {
        if self.admit(turn) {
            return Poll::Ready(());
        }
        self.defer(turn, cx);
        Poll::Pending
    }

    fn admit(&self, turn: &mut ShareTurn) -> bool {
        let mut state = self.state.get();
        if turn.deferred.take() == Some(state.round) {
            state.begin_round();
        }
        let has_worked = turn.worked == Some(state.lap);
        let is_admitted = state.used < self.max && !(has_worked && state.waiting != [false; 2]);
        state.waiting[0] |= !is_admitted && !has_worked;
        self.state.set(state);
        is_admitted
    }

    /// Wakes the task after the worker has looked at its sockets, and behind the tasks that are ready by
    /// then.
    pub fn defer(&self, turn: &mut ShareTurn, cx: &mut Context<'_>) {
        turn.deferred = Some(self.state.get().round);
        let _ = pin!(yield_now()).poll(cx);
    }

    /// Charges the time that a task has worked.
    pub fn charge(&self, turn: &mut ShareTurn, time: Duration) {
        let mut state = self.state.get();
        state.used = state.used.saturating_add(time);
        turn.worked = Some(state.lap);
        self.state.set(state);
    }
}

impl ShareTurn {
    /// Whether the task has worked since this value was created.
    pub fn has_worked(&self) -> bool {
        self.worked.is_some()
    }
}

impl ShareState {
    fn begin_round(&mut self) {
        let [waiting, _] = self.waiting;
        if !waiting {
            self.lap = next(self.lap);
        }
        self.round = next(self.round);
        self.used = Duration::ZERO;
        self.waiting = [false, waiting];
    }
}

fn next(number: NonZeroU8) -> NonZeroU8 {
    number.checked_add(1).unwrap_or(NonZeroU8::MIN)
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    const MAX: Duration = Duration::from_millis(2);
    const WORK: Duration = Duration::from_micros(500);

    /// Polls the tasks like a worker whose queue they fill, in an order that is reversed each time, as that
    /// of deferred tasks is. Returns how often each has worked.
    fn run(share: &WorkerShare, tasks: usize, rounds: usize) -> Vec<usize> {
        let mut worked = vec![0; tasks];
        let mut queue: Vec<_> = (0..tasks).map(|task| (task, ShareTurn::default())).collect();
        for _ in 0..rounds {
            let mut used = Duration::ZERO;
            for (task, turn) in &mut queue {
                let mut cx = Context::from_waker(Waker::noop());
                if share.poll_turn(turn, &mut cx).is_ready() {
                    share.charge(turn, WORK);
                    used += WORK;
                    worked[*task] += 1;
                    share.defer(turn, &mut cx);
                }
            }
            assert!(used <= MAX, "{used:?} in a round");
            queue.reverse();
        }
        worked
    }

    #[test]
    fn single_task_works_in_every_round() {
        assert_eq!(run(&WorkerShare::new(MAX), 1, 10), [10]);
        assert_eq!(run(&WorkerShare::new(MAX), 4, 10), [10; 4]);
    }

    #[test]
    fn all_tasks_have_as_many_turns() {
        for tasks in [5, 8, 13, 50] {
            let worked = run(&WorkerShare::new(MAX), tasks, 1000);
            let (least, most) = (worked.iter().min().unwrap(), worked.iter().max().unwrap());
            assert!(most - least <= 1, "{worked:?}");
            // Four fit into a round; the last round of a lap may have room left.
            assert!(*least >= 1000 / tasks.div_ceil(4) - 1, "{worked:?}");
        }
    }

    #[test]
    fn task_that_ends_while_deferred_delays_no_others() {
        let share = WorkerShare::new(MAX);
        let (mut first, mut second, mut gone) = <(ShareTurn, ShareTurn, ShareTurn)>::default();
        assert!(share.admit(&mut first) && share.admit(&mut second));
        share.charge(&mut first, MAX);
        share.charge(&mut second, WORK);
        assert!(!share.admit(&mut gone), "nothing is left");
        share.defer(&mut first, &mut Context::from_waker(Waker::noop()));
        let mut cx = Context::from_waker(Waker::noop());
        let deferred = (0..4).take_while(|_| share.poll_turn(&mut first, &mut cx).is_pending());
        assert!(deferred.count() <= 2);
    }
}
