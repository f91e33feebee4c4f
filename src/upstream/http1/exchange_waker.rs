//! Wakes the task of an exchange only for what happens outside its polls.
//!
//! In hyper's client, a body wakes the task of the connection when a part was taken from it. Here one task polls both, so
//! that it would wake itself while it runs, and be polled once more for nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use atomic_waker::AtomicWaker;

/// The waker with which an exchange is polled.
#[derive(Debug, Default)]
pub(super) struct ExchangeWaker {
    task: AtomicWaker,
    /// One of the constants below.
    state: AtomicU8,
}

impl ExchangeWaker {
    /// Calls `poll` for the task of `cx`. The task is woken if this happened meanwhile and the result is pending:
    /// the caller polls again after a result.
    pub(super) fn poll<T>(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.task.register(cx.waker());
        self.state.store(POLLING, Ordering::Release);
        let polled = poll(&mut Context::from_waker(&Waker::from(self.clone())));
        if self.state.swap(IDLE, Ordering::AcqRel) == WOKEN && polled.is_pending() {
            cx.waker().wake_by_ref();
        }
        polled
    }
}

impl Wake for ExchangeWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let (acquire, release) = (Ordering::Acquire, Ordering::AcqRel);
        if self.state.compare_exchange(POLLING, WOKEN, release, acquire) == Err(IDLE) {
            self.task.wake();
        }
    }
}

/// The task does not poll the exchange.
const IDLE: u8 = 0;
/// It does, and was not woken.
const POLLING: u8 = 1;
/// It does, and was woken.
const WOKEN: u8 = 2;

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[derive(Default)]
    struct WakeCounter(AtomicU32);

    impl Wake for WakeCounter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_result_takes_the_place_of_a_wake() {
        let (waker, counter) = (Arc::<ExchangeWaker>::default(), Arc::<WakeCounter>::default());
        let task = Waker::from(counter.clone());
        let mut cx = Context::from_waker(&task);
        let count = || counter.0.load(Ordering::Relaxed);
        let mut kept = None;
        for (wakes, result, counted) in [
            (0, Poll::Pending, 0),
            (1, Poll::Ready(()), 0),
            (0, Poll::Pending, 0),
            (2, Poll::Pending, 1),
            (0, Poll::Pending, 1),
        ] {
            let polled = waker.poll(&mut cx, |cx| {
                (0..wakes).for_each(|_| cx.waker().wake_by_ref());
                kept = Some(cx.waker().clone());
                result
            });
            assert_eq!((polled, count()), (result, counted), "{wakes}");
        }
        kept.unwrap().wake();
        assert_eq!(count(), 2);
    }
}
