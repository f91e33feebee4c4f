//! The sessions that are open: for looking, and for telling each of them to close. They lie in
//! shards, so that whoever looks at all of them holds up few who come and go.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;

use super::facts::Facts;
use super::live::{Live, Owner, Seen};
use crate::tunnel::{Control, Order, Progress};

/// All open sessions, by their number.
#[derive(Debug, Default)]
pub struct Registry {
    shards: [Shard; SHARDS],
    last: AtomicU64,
}

/// The line to one session: the order it has not yet read, how to wake it, and its figures.
#[derive(Debug)]
pub struct Line {
    order: AtomicU8,
    waker: AtomicWaker,
    /// What it relayed.
    pub live: Live,
    /// Counts up from 1.
    pub session: u64,
    /// What was known of it when it began.
    pub facts: Facts,
}

/// A session's entry; it leaves the registry when dropped.
#[derive(Debug)]
pub struct Registration {
    registry: Arc<Registry>,
    /// As all others see it.
    pub line: Arc<Line>,
}

/// The session's end of its line.
#[derive(Debug)]
pub struct Orders {
    line: Arc<Line>,
    obeyed: u8,
    seen: Seen,
}

impl Registry {
    /// Enters a new session.
    pub fn register(self: &Arc<Self>, facts: Facts) -> Registration {
        let session = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (order, waker, live) = Default::default();
        let line = Arc::new(Line { order, waker, live, session, facts });
        self.shard(session).insert(session, line.clone());
        Registration { registry: self.clone(), line }
    }

    /// The lines to all sessions open now, in no particular order.
    pub fn lines(&self) -> Vec<Arc<Line>> {
        let mut lines = Vec::new();
        for shard in &self.shards {
            lines.extend(lock(shard).values().cloned());
        }
        lines
    }

    /// How many sessions are open.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Gives every session this order.
    pub fn order_all(&self, order: Order) {
        for line in self.lines() {
            line.order(order);
        }
    }

    fn shard(&self, session: u64) -> MutexGuard<'_, HashMap<u64, Arc<Line>>> {
        lock(&self.shards[session as usize % SHARDS])
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

    fn owner(&self) -> Owner<'_> {
        Owner { session: self.session, client: self.facts.client(), counts: &self.facts.counts }
    }
}

impl Registration {
    /// What the session's tunnel listens to.
    pub fn orders(&self) -> Orders {
        Orders { line: self.line.clone(), obeyed: 0, seen: Seen::default() }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut sessions = self.registry.shard(self.line.session);
        sessions.remove(&self.line.session);
        if sessions.is_empty() {
            sessions.shrink_to_fit();
        }
    }
}

impl Control for Orders {
    fn relayed(&mut self, progress: &Progress<'_>) {
        self.line.live.relayed(self.line.owner(), &mut self.seen, progress);
    }

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

fn lock(shard: &Shard) -> MutexGuard<'_, HashMap<u64, Arc<Line>>> {
    // Whole entries only are put in and taken out.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A share of the sessions.
type Shard = Mutex<HashMap<u64, Arc<Line>>>;

const SHARDS: usize = 16;
const DRAIN: u8 = 1;
const CUT: u8 = 2;

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// What a registration costs beside its key in the map.
    #[test]
    fn a_line_is_small() {
        assert!(size_of::<Line>() <= 144, "{} B", size_of::<Line>());
        assert!(size_of::<Orders>() <= 32, "{} B", size_of::<Orders>());
    }

    #[test]
    fn an_order_is_read_once_and_cut_outranks_drain() {
        let registry = Arc::new(Registry::default());
        let entry = registry.register(Facts::sample());
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
