//! One mouth of the tunnel: the stream of one side, from open to let go.

use std::mem;
use std::task::{Context, Poll};

use ws::{Entropy, Session, Shutdown, Side, Timestamp};

use super::direction::DirectionContext;
use crate::net::scratch::{RecvScratch, SendScratch};
use crate::net::{Recv, Stream};

/// The stream of one side.
pub(super) struct Endpoint<S> {
    pub(super) side: Side,
    /// None once it was reset.
    stream: Option<S>,
    /// A write failed. The stream may still have something to be read.
    deaf: bool,
    /// A write failed, or the way to part changed, since this was last asked.
    stirred: bool,
    /// The way to part when it was last looked at.
    parting: Shutdown,
    /// The write half is ended.
    finished: bool,
}

/// Whether bytes may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteState {
    /// Yes.
    Open,
    /// Something waits to be written first; a waker is registered.
    Blocked,
    /// Never again.
    Shut,
}

/// What came from a side.
pub(super) enum ReadOutcome<'s> {
    Data(&'s mut [u8]),
    /// Its end, of which the session now knows.
    Ended,
    /// Nothing yet; a waker is registered.
    Nothing,
}

impl<S: Stream> Endpoint<S> {
    pub(super) fn new(side: Side, stream: S) -> Self {
        Self {
            side,
            stream: Some(stream),
            deaf: false,
            stirred: false,
            parting: Shutdown::Stay,
            finished: false,
        }
    }

    pub(super) fn backlog(&self) -> usize {
        self.stream.as_ref().map_or(0, Stream::backlog)
    }

    /// Writes what waits.
    pub(super) fn poll_gate(
        &mut self,
        cx: &mut Context<'_>,
        session: &mut Session,
        now: Timestamp,
    ) -> WriteState {
        let Some(stream) = &mut self.stream else {
            return WriteState::Shut;
        };
        if session.parting(self.side) != Shutdown::Stay {
            return WriteState::Shut;
        }
        if !self.deaf {
            match stream.poll_ready(cx) {
                Poll::Ready(Ok(())) => return WriteState::Open,
                Poll::Ready(Err(_)) => self.fail(session, now),
                Poll::Pending => return WriteState::Blocked,
            }
        }
        // Until its end is read, the session does not know; bytes for this side would be counted
        // as delivered.
        if session.wants(self.side) { WriteState::Blocked } else { WriteState::Shut }
    }

    /// Reads; what ends the stream is told to the session.
    pub(super) fn poll_recv<'s>(
        &mut self,
        cx: &mut Context<'_>,
        judge: &mut DirectionContext<'_, impl Entropy>,
        scratch: &'s mut RecvScratch,
    ) -> ReadOutcome<'s> {
        let Some(stream) = &mut self.stream else {
            return ReadOutcome::Nothing;
        };
        match stream.poll_recv(cx, scratch) {
            Poll::Ready(Ok(Recv::Data(data))) => ReadOutcome::Data(data),
            Poll::Pending if !self.deaf => ReadOutcome::Nothing,
            // Its end, or nothing more from a peer that cannot be written to. How it ended makes
            // no difference to a WebSocket.
            Poll::Pending | Poll::Ready(Ok(Recv::Closed | Recv::Truncated) | Err(_)) => {
                judge.session.hangup(self.side, judge.now);
                if self.deaf {
                    judge.session.hangup(self.side, judge.now);
                }
                ReadOutcome::Ended
            }
        }
    }

    /// Sends, once the gate was open.
    pub(super) fn send(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[&[u8]],
        judge: &mut DirectionContext<'_, impl Entropy>,
        scratch: &mut SendScratch,
    ) {
        if let Some(stream) = &mut self.stream
            && stream.send(cx, parts, scratch).is_err()
        {
            self.fail(judge.session, judge.now);
        }
    }

    /// Sends a frame of our own if one is due, once the gate was open. True if one went.
    pub(super) fn speak(
        &mut self,
        cx: &mut Context<'_>,
        judge: &mut DirectionContext<'_, impl Entropy>,
        scratch: &mut SendScratch,
    ) -> bool {
        if !judge.session.has_word_for(self.side) {
            return false;
        }
        let Some(frame) = judge.inject(self.side) else {
            return false;
        };
        self.send(cx, &[frame.as_bytes()], judge, scratch);
        true
    }

    /// Something happened to this side that gives reason to read once more: from it, as a write
    /// to it failed, or from the other side, as nothing holds that up any more.
    pub(super) fn is_stirred(&mut self) -> bool {
        mem::take(&mut self.stirred)
    }

    /// Drops the stream. What the kernel has taken of it is still delivered.
    pub(super) fn let_go(&mut self) {
        self.stream = None;
    }

    /// Ends the write half, or drops the stream, if that is what the session says.
    pub(super) fn part(
        &mut self,
        cx: &mut Context<'_>,
        session: &mut Session,
        scratch: &mut SendScratch,
        now: Timestamp,
    ) {
        let parting = session.parting(self.side);
        self.stirred |= parting != self.parting;
        self.parting = parting;
        match parting {
            Shutdown::Stay => {}
            Shutdown::Finish => {
                if let Some(stream) = self.stream.as_mut().filter(|_| !self.finished)
                    && let Poll::Ready(closed) = stream.poll_close(cx, scratch)
                {
                    self.finished = true;
                    if closed.is_err() {
                        self.fail(session, now);
                    }
                }
            }
            Shutdown::Abort => {
                if let Some(mut stream) = self.stream.take() {
                    stream.abort();
                }
            }
        }
    }

    /// Whether it cannot be written to any more, and its end was not read yet.
    pub(super) fn is_lost(&self, session: &Session) -> bool {
        self.deaf && self.stream.is_some() && session.wants(self.side)
    }

    /// Tells the session that the side is gone, whatever it may have said before.
    pub(super) fn give_up(&self, session: &mut Session, now: Timestamp) {
        session.hangup(self.side, now);
        session.hangup(self.side, now);
    }

    /// The same, for a side that cannot be written to any more, and will not be read for a while:
    /// what it said before it left is not waited for.
    pub(super) fn give_up_if_deaf(&self, judge: &mut DirectionContext<'_, impl Entropy>) {
        if self.deaf {
            self.give_up(judge.session, judge.now);
        }
    }

    /// A write failed: the side is gone. What it said before may still lie in its stream, so the
    /// session is told at the end of that; unless that has come already.
    fn fail(&mut self, session: &mut Session, now: Timestamp) {
        self.deaf = true;
        self.stirred = true;
        if !session.wants(self.side) {
            session.hangup(self.side, now);
        }
    }
}
