//! A [`Stream`] controlled by a test: it delivers prepared chunks one by one, accepts as many bytes as
//! its send allowance permits, and records what was sent.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

use super::scratch::{RecvScratch, SendScratch};
use crate::net::{Recv, Stream};

/// The stream that follows a [`Script`].
pub struct ScriptedStream(Script);

/// Controls a [`ScriptedStream`] and inspects it.
#[derive(Clone)]
pub struct Script {
    state: Arc<Mutex<ScriptState>>,
    changed: Arc<Notify>,
}

/// The state of a scripted stream.
#[derive(Default)]
pub struct ScriptState {
    incoming: VecDeque<ScriptStep>,
    /// Bytes that were sent, within the allowance.
    pub sent: Vec<u8>,
    /// Lengths of the parts of each `send`.
    pub sends: Vec<Vec<usize>>,
    /// Bytes that were passed to `send` and exceed the allowance.
    pub unsent: Vec<u8>,
    /// Number of calls of `poll_recv`.
    pub reads: usize,
    /// Whether `poll_close` has returned Ready.
    pub closed: bool,
    /// Whether `abort` was called.
    pub aborted: bool,
    /// Whether the stream was dropped.
    pub dropped: bool,
    send_allowance: usize,
    write_error: Option<io::ErrorKind>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

enum ScriptStep {
    Data(Vec<u8>),
    Closed,
    Truncated,
    Failed(io::ErrorKind),
}

/// A stream with nothing to receive and an unlimited send allowance, and its script.
pub fn script() -> (ScriptedStream, Script) {
    let state = ScriptState { send_allowance: usize::MAX, ..ScriptState::default() };
    let script = Script { state: Arc::new(Mutex::new(state)), changed: Arc::new(Notify::new()) };
    (ScriptedStream(script.clone()), script)
}

impl Script {
    /// Locks the current state for inspection.
    pub fn state(&self) -> MutexGuard<'_, ScriptState> {
        // A panic elsewhere has already failed the test.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues bytes that one `poll_recv` returns.
    pub fn push(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.enqueue(ScriptStep::Data(bytes.to_vec()));
        }
    }

    /// Queues [`Recv::Closed`], after everything queued before.
    pub fn push_closed(&self) {
        self.enqueue(ScriptStep::Closed);
    }

    /// Queues [`Recv::Truncated`], after everything queued before.
    pub fn push_truncated(&self) {
        self.enqueue(ScriptStep::Truncated);
    }

    /// Queues a receive error, after everything queued before.
    pub fn push_error(&self, kind: io::ErrorKind) {
        self.enqueue(ScriptStep::Failed(kind));
    }

    /// Makes every further write fail.
    pub fn fail_writes(&self, kind: io::ErrorKind) {
        self.edit(|state| state.write_error = Some(kind));
    }

    /// Sets the number of bytes that can be sent.
    pub fn set_send_allowance(&self, bytes: usize) {
        self.edit(|state| state.send_allowance = bytes);
    }

    /// Adds to the number of bytes that can be sent.
    pub fn extend_send_allowance(&self, bytes: usize) {
        self.edit(|state| state.send_allowance = state.send_allowance.saturating_add(bytes));
    }

    /// Waits until `done` returns true.
    pub async fn wait_until(&self, mut done: impl FnMut(&ScriptState) -> bool) {
        loop {
            let changed = self.changed.notified();
            if done(&self.state()) {
                return;
            }
            changed.await;
        }
    }

    fn enqueue(&self, item: ScriptStep) {
        self.edit(|state| state.incoming.push_back(item));
    }

    fn edit(&self, change: impl FnOnce(&mut ScriptState)) {
        let mut state = self.state();
        change(&mut state);
        let wakers = [state.reader.take(), state.writer.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl ScriptState {
    fn write(&mut self) -> io::Result<()> {
        if let Some(kind) = self.write_error {
            return Err(kind.into());
        }
        let len = self.unsent.len().min(self.send_allowance);
        self.send_allowance -= len;
        self.sent.extend(self.unsent.drain(..len));
        Ok(())
    }
}

impl Stream for ScriptedStream {
    fn poll_recv<'s>(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &'s mut RecvScratch,
    ) -> Poll<io::Result<Recv<'s>>> {
        let mut state = self.0.state();
        state.reads += 1;
        self.0.changed.notify_waiters();
        match state.incoming.front_mut() {
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(ScriptStep::Data(bytes)) => {
                let len = bytes.len().min(scratch.plain.len());
                scratch.plain[..len].copy_from_slice(&bytes[..len]);
                bytes.drain(..len);
                if bytes.is_empty() {
                    state.incoming.pop_front();
                }
                Poll::Ready(Ok(Recv::Data(&mut scratch.plain[..len])))
            }
            Some(ScriptStep::Closed) => Poll::Ready(Ok(Recv::Closed)),
            Some(ScriptStep::Truncated) => Poll::Ready(Ok(Recv::Truncated)),
            Some(ScriptStep::Failed(kind)) => Poll::Ready(Err((*kind).into())),
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.state();
        state.write()?;
        self.0.changed.notify_waiters();
        if state.unsent.is_empty() {
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
        let mut state = self.0.state();
        assert!(state.unsent.is_empty(), "send while bytes are unsent");
        assert!(!state.closed, "send after close");
        state.sends.push(parts.iter().map(|part| part.len()).collect());
        state.unsent = parts.concat();
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
        self.0.state().closed = true;
        self.0.changed.notify_waiters();
        Poll::Ready(Ok(()))
    }

    fn abort(&mut self) {
        self.0.state().aborted = true;
    }

    fn backlog(&self) -> usize {
        self.0.state().unsent.len()
    }
}

impl Drop for ScriptedStream {
    fn drop(&mut self) {
        self.0.state().dropped = true;
        self.0.changed.notify_waiters();
    }
}
