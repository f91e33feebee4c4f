//! The sessions that are open: for looking, and for telling each of them to close. They lie in
//! shards, so that whoever looks at all of them holds up few who come and go.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;
use ws::Trace;

use super::info::Facts;
use super::stats::{Live, Owner, Seen};
use crate::tunnel::progress::Progress;
use crate::tunnel::{Control, Notice, Order};

/// All open sessions, by their number.
#[derive(Debug, Default)]
pub struct Registry {
    shards: [Shard; SHARDS],
    last: AtomicU64,
}

/// The line to one session: the orders it has not yet read, how to wake it, and its figures.
#[derive(Debug)]
pub struct Line {
    /// What there is: [`LEAVE`], [`CUT`], [`WATCH`]; and [`GONE`].
    orders: AtomicU8,
    waker: AtomicWaker,
    mail: Mutex<Mail>,
    /// What it relayed.
    pub live: Live,
    /// Counts up from 1.
    pub session: u64,
    /// What was known of it when it began.
    pub facts: Facts,
}

/// What belongs to the orders; most sessions never get any.
#[derive(Debug, Default)]
struct Mail {
    notice: Option<Arc<Notice>>,
    trace: Option<Box<Trace>>,
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
        let (orders, waker, mail, live) = Default::default();
        let line = Arc::new(Line { orders, waker, mail, live, session, facts });
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

    /// The line to the session of this number, if it is open.
    pub fn line(&self, session: u64) -> Option<Arc<Line>> {
        self.shard(session).get(&session).cloned()
    }

    fn shard(&self, session: u64) -> MutexGuard<'_, HashMap<u64, Arc<Line>>> {
        lock(&self.shards[session as usize % SHARDS])
    }
}

impl Line {
    /// Tells the session to leave, unless it was told before; the first to tell it says why.
    pub fn leave(&self, notice: &Arc<Notice>) {
        self.mail().notice.get_or_insert_with(|| notice.clone());
        self.order(LEAVE);
    }

    /// Cuts it.
    pub fn cut(&self) {
        self.order(CUT);
    }

    /// Has its frames told of from now on, instead of to whoever was told before.
    pub fn watch(&self, trace: Trace) {
        self.mail().trace = Some(Box::new(trace));
        self.order(WATCH);
    }

    /// Whether it was told to leave.
    pub fn is_leaving(&self) -> bool {
        self.orders.load(Ordering::Relaxed) & (LEAVE | CUT) != 0
    }

    /// Whether it is over.
    pub fn is_gone(&self) -> bool {
        self.orders.load(Ordering::Acquire) & GONE != 0
    }

    fn order(&self, order: u8) {
        self.orders.fetch_or(order, Ordering::Release);
        self.waker.wake();
    }

    fn mail(&self) -> MutexGuard<'_, Mail> {
        // Each field is put in whole.
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next order that is not obeyed yet, the most urgent first.
    fn next(&self, obeyed: &mut u8) -> Option<Order> {
        let orders = self.orders.load(Ordering::Acquire) & !*obeyed;
        if orders & CUT != 0 {
            *obeyed |= CUT;
            return Some(Order::Cut);
        }
        if orders & LEAVE != 0 {
            *obeyed |= LEAVE;
            return self.mail().notice.clone().map(Order::Leave);
        }
        if orders & WATCH != 0 {
            self.orders.fetch_and(!WATCH, Ordering::AcqRel);
            return self.mail().trace.take().map(Order::Watch);
        }
        None
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
        self.line.orders.fetch_or(GONE, Ordering::Release);
    }
}

impl Control for Orders {
    fn relayed(&mut self, progress: &Progress<'_>) {
        self.line.live.relayed(self.line.owner(), &mut self.seen, progress);
    }

    fn poll_order(&mut self, cx: &mut Context<'_>) -> Poll<Order> {
        if let Some(order) = self.line.next(&mut self.obeyed) {
            return Poll::Ready(order);
        }
        self.line.waker.register(cx.waker());
        // Again: an order may have come between the look and the registration.
        match self.line.next(&mut self.obeyed) {
            Some(order) => Poll::Ready(order),
            None => Poll::Pending,
        }
    }
}

fn lock(shard: &Shard) -> MutexGuard<'_, HashMap<u64, Arc<Line>>> {
    // Whole entries only are put in and taken out.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A share of the sessions.
type Shard = Mutex<HashMap<u64, Arc<Line>>>;

const SHARDS: usize = 16;
const LEAVE: u8 = 1;
const CUT: u8 = 2;
const WATCH: u8 = 4;
const GONE: u8 = 8;

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use ws::End;

    use super::*;

    /// What a registration costs beside its key in the map.
    #[test]
    fn a_line_is_small() {
        assert!(size_of::<Line>() <= 176, "{} B", size_of::<Line>());
        assert!(size_of::<Orders>() <= 32, "{} B", size_of::<Orders>());
    }

    #[test]
    fn an_order_is_read_once_and_the_first_notice_counts() {
        let registry = Arc::new(Registry::default());
        let entry = registry.register(Facts::sample());
        let mut orders = entry.orders();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(orders.poll_order(&mut cx).is_pending());
        let [first, second] =
            [End::Killed, End::Drained].map(|end| Arc::new(Notice { end, words: None }));
        let line = registry.line(entry.line.session).unwrap();
        line.leave(&first);
        line.leave(&second);
        assert!(matches!(
            orders.poll_order(&mut cx),
            Poll::Ready(Order::Leave(notice)) if notice.end == End::Killed
        ));
        assert!(orders.poll_order(&mut cx).is_pending());
        line.cut();
        line.leave(&second);
        assert!(matches!(orders.poll_order(&mut cx), Poll::Ready(Order::Cut)));
        assert!(orders.poll_order(&mut cx).is_pending());
        assert!(line.is_leaving() && !line.is_gone());
        drop(entry);
        assert!(line.is_gone() && registry.len() == 0);
    }

    #[test]
    fn who_watches_last_is_told() {
        let registry = Arc::new(Registry::default());
        let entry = registry.register(Facts::sample());
        let mut orders = entry.orders();
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..2 {
            entry.line.watch(Trace::new(|_| true));
            assert!(matches!(orders.poll_order(&mut cx), Poll::Ready(Order::Watch(_))));
            assert!(orders.poll_order(&mut cx).is_pending());
        }
    }
}
