//! The sessions that are open: for looking, and for telling each of them to close. They lie in
//! shards, so that whoever looks at all of them holds up few who come and go.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;
use ws::{FrameTrace, SessionClose};

use super::info::SessionInfo;
use super::stats::{LastCounted, SessionRef, SessionStats};
use crate::tunnel::progress::WakeProgress;
use crate::tunnel::{Command, SessionControl};

/// All open sessions, by their number.
#[derive(Debug, Default)]
pub struct Registry {
    shards: [RegistryShard; SHARDS],
    last: AtomicU64,
}

/// The line to one session: the orders it has not yet read, how to wake it, and its figures.
#[derive(Debug)]
pub struct SessionHandle {
    /// What there is: [`LEAVE`], [`CUT`], [`WATCH`]; and [`GONE`].
    orders: AtomicU8,
    waker: AtomicWaker,
    mail: Mutex<Mailbox>,
    /// What it relayed.
    pub live: SessionStats,
    /// Counts up from 1.
    pub session: u64,
    /// What was known of it when it began.
    pub facts: SessionInfo,
}

/// What belongs to the orders; most sessions never get any.
#[derive(Debug, Default)]
struct Mailbox {
    notice: Option<Arc<SessionClose>>,
    trace: Option<Box<FrameTrace>>,
}

/// A session's entry; it leaves the registry when dropped.
#[derive(Debug)]
pub struct Registration {
    registry: Arc<Registry>,
    /// As all others see it.
    pub line: Arc<SessionHandle>,
}

/// The session's end of its line.
#[derive(Debug)]
pub struct CommandReceiver {
    line: Arc<SessionHandle>,
    obeyed: u8,
    seen: LastCounted,
}

impl Registry {
    /// Enters a new session.
    pub fn register(self: &Arc<Self>, facts: SessionInfo) -> Registration {
        let session = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (orders, waker, mail, live) = Default::default();
        let line = Arc::new(SessionHandle { orders, waker, mail, live, session, facts });
        self.shard(session).insert(session, line.clone());
        Registration { registry: self.clone(), line }
    }

    /// The lines to all sessions open now, in no particular order.
    pub fn lines(&self) -> Vec<Arc<SessionHandle>> {
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
    pub fn line(&self, session: u64) -> Option<Arc<SessionHandle>> {
        self.shard(session).get(&session).cloned()
    }

    fn shard(&self, session: u64) -> MutexGuard<'_, HashMap<u64, Arc<SessionHandle>>> {
        lock(&self.shards[session as usize % SHARDS])
    }
}

impl SessionHandle {
    /// Tells the session to leave, unless it was told before; the first to tell it says why.
    pub fn leave(&self, notice: &Arc<SessionClose>) {
        self.mail().notice.get_or_insert_with(|| notice.clone());
        self.order(LEAVE);
    }

    /// Cuts it.
    pub fn cut(&self) {
        self.order(CUT);
    }

    /// Has its frames told of from now on, instead of to whoever was told before.
    pub fn watch(&self, trace: FrameTrace) {
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

    fn mail(&self) -> MutexGuard<'_, Mailbox> {
        // Each field is put in whole.
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next order that is not obeyed yet, the most urgent first.
    fn next(&self, obeyed: &mut u8) -> Option<Command> {
        let orders = self.orders.load(Ordering::Acquire) & !*obeyed;
        if orders & CUT != 0 {
            *obeyed |= CUT;
            return Some(Command::Abort);
        }
        if orders & LEAVE != 0 {
            *obeyed |= LEAVE;
            return self.mail().notice.clone().map(Command::Close);
        }
        if orders & WATCH != 0 {
            self.orders.fetch_and(!WATCH, Ordering::AcqRel);
            return self.mail().trace.take().map(Command::Trace);
        }
        None
    }

    fn owner(&self) -> SessionRef<'_> {
        SessionRef {
            session: self.session,
            client: self.facts.client(),
            counts: &self.facts.counts,
        }
    }
}

impl Registration {
    /// What the session's tunnel listens to.
    pub fn orders(&self) -> CommandReceiver {
        CommandReceiver { line: self.line.clone(), obeyed: 0, seen: LastCounted::default() }
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

impl SessionControl for CommandReceiver {
    fn handle_progress(&mut self, progress: &WakeProgress<'_>) {
        self.line.live.relayed(self.line.owner(), &mut self.seen, progress);
    }

    fn poll_command(&mut self, cx: &mut Context<'_>) -> Poll<Command> {
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

fn lock(shard: &RegistryShard) -> MutexGuard<'_, HashMap<u64, Arc<SessionHandle>>> {
    // Whole entries only are put in and taken out.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A share of the sessions.
type RegistryShard = Mutex<HashMap<u64, Arc<SessionHandle>>>;

const SHARDS: usize = 16;
const LEAVE: u8 = 1;
const CUT: u8 = 2;
const WATCH: u8 = 4;
const GONE: u8 = 8;

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use ws::TerminationReason;

    use super::*;

    /// What a registration costs beside its key in the map.
    #[test]
    fn a_line_is_small() {
        assert!(size_of::<SessionHandle>() <= 176, "{} B", size_of::<SessionHandle>());
        assert!(size_of::<CommandReceiver>() <= 32, "{} B", size_of::<CommandReceiver>());
    }

    #[test]
    fn an_order_is_read_once_and_the_first_notice_counts() {
        let registry = Arc::new(Registry::default());
        let entry = registry.register(SessionInfo::sample());
        let mut orders = entry.orders();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(orders.poll_command(&mut cx).is_pending());
        let [first, second] = [TerminationReason::Killed, TerminationReason::Drained]
            .map(|reason| Arc::new(SessionClose::new(reason)));
        let line = registry.line(entry.line.session).unwrap();
        line.leave(&first);
        line.leave(&second);
        assert!(matches!(
            orders.poll_command(&mut cx),
            Poll::Ready(Command::Close(notice)) if notice.reason == TerminationReason::Killed
        ));
        assert!(orders.poll_command(&mut cx).is_pending());
        line.cut();
        line.leave(&second);
        assert!(matches!(orders.poll_command(&mut cx), Poll::Ready(Command::Abort)));
        assert!(orders.poll_command(&mut cx).is_pending());
        assert!(line.is_leaving() && !line.is_gone());
        drop(entry);
        assert!(line.is_gone() && registry.len() == 0);
    }

    #[test]
    fn who_watches_last_is_told() {
        let registry = Arc::new(Registry::default());
        let entry = registry.register(SessionInfo::sample());
        let mut orders = entry.orders();
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..2 {
            entry.line.watch(FrameTrace::new(|_| true));
            assert!(matches!(orders.poll_command(&mut cx), Poll::Ready(Command::Trace(_))));
            assert!(orders.poll_command(&mut cx).is_pending());
        }
    }
}
