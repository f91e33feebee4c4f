//! The registry of open sessions, through which they are listed and receive commands. It is
//! sharded, so that listing all sessions blocks only a few that start or end meanwhile.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;
use ws::{FrameTrace, SessionClose, Summary};

use super::info::SessionInfo;
use super::repeated_ends::RepeatedEnds;
use super::stats::{LastCounted, SessionRef, SessionStats};
use crate::telemetry::record::SessionStart;
use crate::tunnel::progress::WakeProgress;
use crate::tunnel::{Command, SessionControl};

/// All open sessions, by their number.
#[derive(Debug, Default)]
pub struct Registry {
    shards: [RegistryShard; SHARDS],
    last: AtomicU64,
    repeated_ends: RepeatedEnds,
}

/// The shared part of one session: pending commands, the waker of its task, and statistics.
#[derive(Debug)]
pub struct SessionHandle {
    /// Bits [`CLOSE`], [`ABORT`] and [`TRACE`] for commands, and [`ENDED`].
    flags: AtomicU8,
    waker: AtomicWaker,
    mailbox: Mutex<Mailbox>,
    /// Traffic and round-trip times.
    pub stats: SessionStats,
    /// Unique in this process, counted from 1.
    pub number: u64,
    /// Client, route and backend.
    pub info: SessionInfo,
}

/// The arguments of pending commands.
#[derive(Debug, Default)]
struct Mailbox {
    close: Option<Arc<SessionClose>>,
    trace: Option<Box<FrameTrace>>,
}

/// The registry entry of a session; dropping it removes the entry.
#[derive(Debug)]
pub struct Registration {
    registry: Arc<Registry>,
    /// The handle that the registry shares.
    pub handle: Arc<SessionHandle>,
}

/// The tunnel's side of a [`SessionHandle`]: receives commands and records progress.
#[derive(Debug)]
pub struct CommandReceiver {
    handle: Arc<SessionHandle>,
    handled: u8,
    counted: LastCounted,
}

impl Registry {
    /// Adds a session and assigns its number.
    pub fn register(self: &Arc<Self>, info: SessionInfo) -> Registration {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (flags, waker, mailbox, stats) = Default::default();
        let handle = Arc::new(SessionHandle { flags, waker, mailbox, stats, number, info });
        self.shard(number).insert(number, handle.clone());
        Registration { registry: self.clone(), handle }
    }

    /// All open sessions, in no particular order.
    pub fn sessions(&self) -> Vec<Arc<SessionHandle>> {
        let mut sessions = Vec::new();
        for shard in &self.shards {
            sessions.extend(lock(shard).values().cloned());
        }
        sessions
    }

    /// Number of open sessions.
    pub fn count(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// The session with this number, if it is open.
    pub fn session(&self, number: u64) -> Option<Arc<SessionHandle>> {
        self.shard(number).get(&number).cloned()
    }

    fn shard(&self, number: u64) -> MutexGuard<'_, HashMap<u64, Arc<SessionHandle>>> {
        lock(&self.shards[number as usize % SHARDS])
    }
}

impl SessionHandle {
    /// Starts the closing handshake on both sides. If called repeatedly, the first reason counts.
    pub fn close(&self, close: &Arc<SessionClose>) {
        self.mailbox().close.get_or_insert_with(|| close.clone());
        self.send(CLOSE);
    }

    /// Aborts both connections without a closing handshake.
    pub fn abort(&self) {
        self.send(ABORT);
    }

    /// Passes frame headers to this trace from now on, replacing a previous one.
    pub fn trace(&self, trace: FrameTrace) {
        self.mailbox().trace = Some(Box::new(trace));
        self.send(TRACE);
    }

    /// Whether a command to close or abort was sent.
    pub fn is_closing(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & (CLOSE | ABORT) != 0
    }

    /// Whether the session has ended.
    pub fn has_ended(&self) -> bool {
        self.flags.load(Ordering::Acquire) & ENDED != 0
    }

    fn send(&self, command: u8) {
        self.flags.fetch_or(command, Ordering::Release);
        self.waker.wake();
    }

    fn mailbox(&self) -> MutexGuard<'_, Mailbox> {
        // Each field is written as a whole, so the content is valid after a panic.
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The most urgent command that is not in `handled`.
    fn next(&self, handled: &mut u8) -> Option<Command> {
        let pending = self.flags.load(Ordering::Acquire) & !*handled;
        if pending & ABORT != 0 {
            *handled |= ABORT;
            return Some(Command::Abort);
        }
        if pending & CLOSE != 0 {
            *handled |= CLOSE;
            return self.mailbox().close.clone().map(Command::Close);
        }
        if pending & TRACE != 0 {
            self.flags.fetch_and(!TRACE, Ordering::AcqRel);
            return self.mailbox().trace.take().map(Command::Trace);
        }
        None
    }

    /// The start record of this session.
    pub fn start_record(&self) -> SessionStart<'_> {
        self.info.start_record(self.number)
    }

    fn reference(&self) -> SessionRef<'_> {
        SessionRef { number: self.number, client: self.info.client(), counts: &self.info.counts }
    }
}

impl Registration {
    /// Counts how the session ended, and warns if its client's sessions keep ending like this.
    pub fn count_repeated_end(&self, summary: &Summary) {
        self.registry.repeated_ends.note(&self.handle.info, summary);
    }

    /// The receiver for the session's tunnel.
    pub fn commands(&self) -> CommandReceiver {
        let handle = self.handle.clone();
        CommandReceiver { handle, handled: 0, counted: LastCounted::default() }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut sessions = self.registry.shard(self.handle.number);
        sessions.remove(&self.handle.number);
        if sessions.is_empty() {
            sessions.shrink_to_fit();
        }
        self.handle.flags.fetch_or(ENDED, Ordering::Release);
    }
}

impl SessionControl for CommandReceiver {
    fn handle_progress(&mut self, progress: &WakeProgress<'_>) {
        self.handle.stats.record(self.handle.reference(), &mut self.counted, progress);
    }

    fn poll_command(&mut self, cx: &mut Context<'_>) -> Poll<Command> {
        if let Some(command) = self.handle.next(&mut self.handled) {
            return Poll::Ready(command);
        }
        self.handle.waker.register(cx.waker());
        // A command may have been sent before the waker was registered.
        match self.handle.next(&mut self.handled) {
            Some(command) => Poll::Ready(command),
            None => Poll::Pending,
        }
    }
}

fn lock(shard: &RegistryShard) -> MutexGuard<'_, HashMap<u64, Arc<SessionHandle>>> {
    // Entries are inserted and removed as a whole, so the map is valid after a panic.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

type RegistryShard = Mutex<HashMap<u64, Arc<SessionHandle>>>;

const SHARDS: usize = 16;
const CLOSE: u8 = 1;
const ABORT: u8 = 2;
const TRACE: u8 = 4;
const ENDED: u8 = 8;

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use ws::TerminationReason;

    use super::*;

    /// The cost of a registration in addition to its key in the map.
    #[test]
    fn handle_stays_small() {
        assert!(size_of::<SessionHandle>() <= 176, "{} B", size_of::<SessionHandle>());
        assert!(size_of::<CommandReceiver>() <= 32, "{} B", size_of::<CommandReceiver>());
    }

    #[test]
    fn commands_are_received_once_and_the_first_close_counts() {
        let registry = Arc::new(Registry::default());
        let entry = registry.register(SessionInfo::sample());
        let mut commands = entry.commands();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(commands.poll_command(&mut cx).is_pending());
        let [first, second] = [TerminationReason::Killed, TerminationReason::Drained]
            .map(|reason| Arc::new(SessionClose::new(reason)));
        let session = registry.session(entry.handle.number).unwrap();
        session.close(&first);
        session.close(&second);
        assert!(matches!(
            commands.poll_command(&mut cx),
            Poll::Ready(Command::Close(notice)) if notice.reason == TerminationReason::Killed
        ));
        assert!(commands.poll_command(&mut cx).is_pending());
        session.abort();
        session.close(&second);
        assert!(matches!(commands.poll_command(&mut cx), Poll::Ready(Command::Abort)));
        assert!(commands.poll_command(&mut cx).is_pending());
        assert!(session.is_closing() && !session.has_ended());
        drop(entry);
        assert!(session.has_ended() && registry.count() == 0);
    }

    #[test]
    fn trace_can_be_replaced() {
        let registry = Arc::new(Registry::default());
        let entry = registry.register(SessionInfo::sample());
        let mut commands = entry.commands();
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..2 {
            entry.handle.trace(FrameTrace::new(|_| true));
            assert!(matches!(commands.poll_command(&mut cx), Poll::Ready(Command::Trace(_))));
            assert!(commands.poll_command(&mut cx).is_pending());
        }
    }
}
