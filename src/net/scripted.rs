//! A [`Stream`] that does what a test tells it: hands out given slices one by one, takes what
//! its window allows, and records what was sent and how.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

use super::scratch::{RecvScratch, SendScratch};
use crate::net::{Recv, Stream};

/// The stream's end of a script.
pub struct ScriptedStream(Script);

/// The test's end.
#[derive(Clone)]
pub struct Script {
    state: Arc<Mutex<ScriptState>>,
    changed: Arc<Notify>,
}

/// What a test may look at.
#[derive(Default)]
pub struct ScriptState {
    inbox: VecDeque<ScriptStep>,
    /// All that the stream was given and that got out.
    pub sent: Vec<u8>,
    /// Lengths of the parts of each `send`.
    pub sends: Vec<Vec<usize>>,
    /// Given, but not out: the window was shut.
    pub waiting: Vec<u8>,
    /// Polls of `poll_recv`.
    pub reads: usize,
    /// `poll_close` came to its end.
    pub closed: bool,
    /// `abort` was called.
    pub aborted: bool,
    /// The stream was dropped.
    pub dropped: bool,
    window: usize,
    deaf: Option<io::ErrorKind>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

enum ScriptStep {
    Data(Vec<u8>),
    Closed,
    Truncated,
    Failed(io::ErrorKind),
}

/// A stream with nothing to read and an open window, and its script.
pub fn script() -> (ScriptedStream, Script) {
    let state = ScriptState { window: usize::MAX, ..ScriptState::default() };
    let script = Script { state: Arc::new(Mutex::new(state)), changed: Arc::new(Notify::new()) };
    (ScriptedStream(script.clone()), script)
}

impl Script {
    /// What is so far.
    pub fn look(&self) -> MutexGuard<'_, ScriptState> {
        // A test that failed while it looked has said enough.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next thing to be read: exactly these bytes by one `poll_recv`.
    pub fn say(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.put(ScriptStep::Data(bytes.to_vec()));
        }
    }

    /// After what was said: a lawful end.
    pub fn say_closed(&self) {
        self.put(ScriptStep::Closed);
    }

    /// After what was said: an end without a farewell.
    pub fn say_truncated(&self) {
        self.put(ScriptStep::Truncated);
    }

    /// After what was said: an error.
    pub fn fail(&self, kind: io::ErrorKind) {
        self.put(ScriptStep::Failed(kind));
    }

    /// From now on every write fails.
    pub fn turn_deaf(&self, kind: io::ErrorKind) {
        self.edit(|state| state.deaf = Some(kind));
    }

    /// Lets so many more bytes out, and no others.
    pub fn allow(&self, bytes: usize) {
        self.edit(|state| state.window = bytes);
    }

    /// Lets so many bytes out in addition.
    pub fn widen(&self, bytes: usize) {
        self.edit(|state| state.window = state.window.saturating_add(bytes));
    }

    /// Returns once `done` finds what it looks for.
    pub async fn until(&self, mut done: impl FnMut(&ScriptState) -> bool) {
        loop {
            let changed = self.changed.notified();
            if done(&self.look()) {
                return;
            }
            changed.await;
        }
    }

    fn put(&self, item: ScriptStep) {
        self.edit(|state| state.inbox.push_back(item));
    }

    fn edit(&self, change: impl FnOnce(&mut ScriptState)) {
        let mut state = self.look();
        change(&mut state);
        let wakers = [state.reader.take(), state.writer.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl ScriptState {
    fn write(&mut self) -> io::Result<()> {
        if let Some(kind) = self.deaf {
            return Err(kind.into());
        }
        let len = self.waiting.len().min(self.window);
        self.window -= len;
        self.sent.extend(self.waiting.drain(..len));
        Ok(())
    }
}

impl Stream for ScriptedStream {
    fn poll_recv<'s>(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &'s mut RecvScratch,
    ) -> Poll<io::Result<Recv<'s>>> {
        let mut state = self.0.look();
        state.reads += 1;
        self.0.changed.notify_waiters();
        match state.inbox.front_mut() {
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(ScriptStep::Data(bytes)) => {
                let len = bytes.len().min(scratch.plain.len());
                scratch.plain[..len].copy_from_slice(&bytes[..len]);
                bytes.drain(..len);
                if bytes.is_empty() {
                    state.inbox.pop_front();
                }
                Poll::Ready(Ok(Recv::Data(&mut scratch.plain[..len])))
            }
            Some(ScriptStep::Closed) => Poll::Ready(Ok(Recv::Closed)),
            Some(ScriptStep::Truncated) => Poll::Ready(Ok(Recv::Truncated)),
            Some(ScriptStep::Failed(kind)) => Poll::Ready(Err((*kind).into())),
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.look();
        state.write()?;
        self.0.changed.notify_waiters();
        if state.waiting.is_empty() {
            return Poll::Ready(Ok(()));
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn send(
        &mut self,
        _cx: &mut Context<'_>,
        parts: &[&[u8]],
        _scratch: &mut SendScratch,
    ) -> io::Result<()> {
        let mut state = self.0.look();
        assert!(state.waiting.is_empty(), "sent while something waits");
        assert!(!state.closed, "sent after the end");
        state.sends.push(parts.iter().map(|part| part.len()).collect());
        state.waiting = parts.concat();
        state.write()?;
        self.0.changed.notify_waiters();
        Ok(())
    }

    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        _scratch: &mut SendScratch,
    ) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_ready(cx))?;
        self.0.look().closed = true;
        self.0.changed.notify_waiters();
        Poll::Ready(Ok(()))
    }

    fn abort(&mut self) {
        self.0.look().aborted = true;
    }

    fn backlog(&self) -> usize {
        self.0.look().waiting.len()
    }
}

impl Drop for ScriptedStream {
    fn drop(&mut self) {
        self.0.look().dropped = true;
        self.0.changed.notify_waiters();
    }
}
