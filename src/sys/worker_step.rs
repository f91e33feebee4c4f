//! How long one poll of a connection takes. What goes on for as long as bytes come, such as a download, is
//! interrupted when the poll has taken its time, and continues after the worker has looked at its sockets.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::Instant;

/// A poll of a task. Parts of it, however deep, end when its time is over.
#[derive(Debug)]
pub struct WorkerStep {
    started: Instant,
}

#[derive(Clone, Copy)]
struct StepState {
    /// `None` outside of a step, whose parts are not limited.
    started: Option<Instant>,
    /// The cost since the clock was read, in bytes copied, which take about a nanosecond each.
    cost: usize,
    is_over: bool,
    /// A part was charged that has not been interrupted.
    was_charged: bool,
}

/// The parts of a step that continue after it.
#[derive(Debug, Default)]
struct Interrupted {
    /// Those that did nothing in it come first.
    idle: Vec<Waker>,
    worked: Vec<Waker>,
}

/// Wakes several parts in their order. The runtime wakes those that it defers in the reverse order, so that the ones in the
/// middle would wait for all others.
struct InOrder(Vec<Waker>);

impl Wake for InOrder {
    fn wake(self: Arc<Self>) {
        self.0.iter().for_each(Waker::wake_by_ref);
    }
}

impl WorkerStep {
    /// Begins a step of this thread, which ends when the value is dropped.
    pub fn begin() -> Self {
        let started = Instant::now();
        STEP.set(StepState { started: Some(started), ..NO_STEP });
        Self { started }
    }

    /// The time since the begin.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for WorkerStep {
    fn drop(&mut self) {
        STEP.set(NO_STEP);
        let Interrupted { idle, worked } = INTERRUPTED.take();
        let mut wakers = [idle, worked].concat();
        let waker = match wakers.len() {
            0 | 1 => wakers.pop(),
            _ => Some(Waker::from(Arc::new(InOrder(wakers)))),
        };
        if let Some(waker) = waker {
            defer(&mut Context::from_waker(&waker));
        }
    }
}

/// Wakes a task after the worker has looked at its sockets.
pub fn defer(cx: &mut Context<'_>) {
    let _ = pin!(yield_now()).poll(cx);
}

/// Ready while the current step has time left. Otherwise, the task is woken after the worker has looked at its sockets.
pub fn poll_step(cx: &mut Context<'_>) -> Poll<()> {
    let step = STEP.get();
    if !step.is_over {
        return Poll::Ready(());
    }
    STEP.set(StepState { was_charged: false, ..step });
    INTERRUPTED.with_borrow_mut(|Interrupted { idle, worked }| {
        let is_known = [&*idle, &*worked]
            .into_iter()
            .any(|parts| parts.last().is_some_and(|last| last.will_wake(cx.waker())));
        if !is_known {
            let parts = if step.was_charged { worked } else { idle };
            parts.push(cx.waker().clone());
        }
    });
    Poll::Pending
}

/// Charges a part of the current step that passed `bytes`.
pub fn charge_part(bytes: usize) {
    let mut step = STEP.get();
    step.was_charged = true;
    step.cost = step.cost.saturating_add(PART_COST + bytes);
    if step.cost >= CLOCK_COST {
        step.cost = 0;
        step.is_over |= step.started.is_some_and(|started| started.elapsed() >= STEP_MAX);
    }
    STEP.set(step);
}

/// Ends the current step: none of its parts continues.
pub fn end_step() {
    let step = STEP.get();
    STEP.set(StepState { is_over: step.started.is_some(), ..step });
}

thread_local! {
    static STEP: Cell<StepState> = const { Cell::new(NO_STEP) };
    static INTERRUPTED: RefCell<Interrupted> = RefCell::default();
}

const NO_STEP: StepState = StepState { started: None, cost: 0, is_over: false, was_charged: false };

/// Time of one step. The part that exceeds it is completed.
const STEP_MAX: Duration = Duration::from_micros(250);

/// Cost after which the clock is read, in bytes copied.
const CLOCK_COST: usize = 16 * 1024;

/// Cost of a part, such as a chunk of a body, in bytes copied.
const PART_COST: usize = 512;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::thread;

    use super::*;

    fn is_over() -> bool {
        poll_step(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    #[test]
    fn step_ends_after_its_time() {
        let step = WorkerStep::begin();
        charge_part(0);
        assert!(!is_over());
        thread::sleep(STEP_MAX);
        charge_part(0);
        assert!(!is_over(), "the clock is read after more parts");
        charge_part(CLOCK_COST);
        assert!(is_over());
        drop(step);
        assert!(!is_over());
    }

    #[test]
    fn step_of_many_small_parts_ends() {
        let step = WorkerStep::begin();
        thread::sleep(STEP_MAX);
        let parts = (0..1000).take_while(|_| {
            charge_part(1);
            !is_over()
        });
        assert!(parts.count() < 40);
        drop(step);
    }

    /// A part of a step, which notes its number when it is woken.
    struct Part(usize, Arc<Mutex<Vec<usize>>>);

    impl Wake for Part {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    #[test]
    fn interrupted_parts_continue_in_their_order_behind_those_that_waited() {
        for (count, expected) in [(1, vec![0]), (4, vec![1, 2, 3, 0])] {
            let woken = Arc::<Mutex<Vec<usize>>>::default();
            let step = WorkerStep::begin();
            end_step();
            charge_part(1);
            for number in 0..count {
                let waker = Waker::from(Arc::new(Part(number, woken.clone())));
                for _ in 0..2 {
                    assert!(poll_step(&mut Context::from_waker(&waker)).is_pending());
                }
            }
            assert!(woken.lock().unwrap().is_empty());
            drop(step);
            assert_eq!(*woken.lock().unwrap(), expected);
        }
    }

    #[test]
    fn parts_outside_of_a_step_have_no_limit() {
        end_step();
        charge_part(CLOCK_COST);
        assert!(!is_over());
        let step = WorkerStep::begin();
        end_step();
        assert!(is_over());
        drop(step);
    }
}
