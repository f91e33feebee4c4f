//! The sessions that are open: for looking, and for telling each of them to close.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;

use crate::tunnel::{Control, Order};

/// All open sessions, by their number.
#[derive(Debug, Default)]
pub struct Registry {
    sessions: Mutex<HashMap<u64, Arc<Line>>>,
    last: AtomicU64,
}

/// The line to one session: the order it has not yet read, and how to wake it.
#[derive(Debug, Default)]
pub struct Line {
    order: AtomicU8,
    waker: AtomicWaker,
}

/// A session's entry; it leaves the registry when dropped.
#[derive(Debug)]
pub struct Registration {
    registry: Arc<Registry>,
    /// Counts up from 1.
    pub session: u64,
    line: Arc<Line>,
}

/// The session's end of its line.
#[derive(Debug)]
pub struct Orders {
    line: Arc<Line>,
    obeyed: u8,
}

impl Registry {
    /// Enters a new session.
    pub fn register(self: &Arc<Self>) -> Registration {
        let session = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let line = Arc::<Line>::default();
        self.lock().insert(session, line.clone());
        Registration { registry: self.clone(), session, line }
    }

    /// The lines to all sessions open now, in no particular order.
    pub fn lines(&self) -> Vec<Arc<Line>> {
        self.lock().values().cloned().collect()
    }

    /// How many sessions are open.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Gives every session this order.
    pub fn order_all(&self, order: Order) {
        for line in self.lines() {
            line.order(order);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Line>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// Leaves an order and wakes the session; a later order outranks an earlier one.
    pub fn order(&self, order: Order) {
        let rank = match order {
            Order::Drain => DRAIN,
            Order::Cut => CUT,
        };
        self.order.fetch_max(rank, Ordering::Release);
        self.waker.wake();
    }
}

impl Registration {
    /// What the session's tunnel listens to.
    pub fn orders(&self) -> Orders {
        Orders { line: self.line.clone(), obeyed: 0 }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut sessions = self.registry.lock();
        sessions.remove(&self.session);
        if sessions.is_empty() {
            sessions.shrink_to_fit();
        }
    }
}

impl Control for Orders {
    fn poll_order(&mut self, cx: &mut Context<'_>) -> Poll<Order> {
        let mut rank = self.line.order.load(Ordering::Acquire);
        if rank <= self.obeyed {
            self.line.waker.register(cx.waker());
            // Again: an order may have come between the look and the registration.
            rank = self.line.order.load(Ordering::Acquire);
        }
        if rank <= self.obeyed {
            return Poll::Pending;
        }
        self.obeyed = rank;
        Poll::Ready(if rank == CUT { Order::Cut } else { Order::Drain })
    }
}

const DRAIN: u8 = 1;
const CUT: u8 = 2;

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn an_order_is_read_once_and_cut_outranks_drain() {
        let registry = Arc::new(Registry::default());
        let entry = registry.register();
        let mut orders = entry.orders();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(orders.poll_order(&mut cx).is_pending());
        registry.order_all(Order::Drain);
        assert!(matches!(orders.poll_order(&mut cx), Poll::Ready(Order::Drain)));
        assert!(orders.poll_order(&mut cx).is_pending());
        registry.order_all(Order::Cut);
        registry.order_all(Order::Drain);
        assert!(matches!(orders.poll_order(&mut cx), Poll::Ready(Order::Cut)));
        assert!(orders.poll_order(&mut cx).is_pending());
        drop(entry);
        assert_eq!(registry.len(), 0);
    }
}
