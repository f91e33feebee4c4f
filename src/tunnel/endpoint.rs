//! One end of the tunnel: the stream of one side, until it is closed.

use std::mem;
use std::task::{Context, Poll};

use ws::{Entropy, Session, Shutdown, Side, Timestamp};

use super::context::DirectionContext;
use crate::net::scratch::{RecvScratch, SendScratch};
use crate::net::{Recv, Stream};

/// The stream of one side.
pub(super) struct Endpoint<S> {
    pub(super) side: Side,
    /// `None` after it was closed or reset.
    stream: Option<S>,
    /// A write failed. The stream may still have data to be read.
    write_failed: bool,
    /// A write failed or the shutdown state changed since [`Endpoint::take_needs_poll`].
    needs_poll: bool,
    /// The shutdown state at the last [`Endpoint::shutdown`].
    shutdown: Shutdown,
    /// The write half has been ended.
    write_closed: bool,
    /// What was received and is not validated arrived with the HTTP head or was delayed: it must be
    /// validated before anything is read. It belongs to the direction, where it would take 8 bytes.
    pub(super) tail_held: bool,
}

/// Whether bytes may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteState {
    /// Bytes may be sent now.
    Open,
    /// Queued data must be written first. A waker is registered.
    Blocked,
    /// Nothing can be sent any more.
    Shut,
}

/// The result of a read.
pub(super) enum ReadOutcome<'s> {
    Data(&'s mut [u8]),
    /// The stream has ended, and the session was notified.
    Ended,
    /// No data is available. A waker is registered.
    Nothing,
}

impl<S: Stream> Endpoint<S> {
    /// `tail_held`: bytes of this side are already waiting to be validated.
    pub(super) fn new(side: Side, stream: S, tail_held: bool) -> Self {
        Self {
            side,
            stream: Some(stream),
            write_failed: false,
            needs_poll: false,
            shutdown: Shutdown::KeepOpen,
            write_closed: false,
            tail_held,
        }
    }

    /// Bytes queued for the side.
    pub(super) fn backlog(&self) -> usize {
        self.stream.as_ref().map_or(0, Stream::backlog)
    }

    /// Writes queued data and returns whether more may be sent.
    pub(super) fn poll_write_state(
        &mut self,
        cx: &mut Context<'_>,
        session: &mut Session,
        now: Timestamp,
    ) -> WriteState {
        let Some(stream) = &mut self.stream else {
            return WriteState::Shut;
        };
        if session.shutdown(self.side) != Shutdown::KeepOpen {
            return WriteState::Shut;
        }
        if !self.write_failed {
            match stream.poll_ready(cx) {
                Poll::Ready(Ok(())) => return WriteState::Open,
                Poll::Ready(Err(_)) => self.fail(session, now),
                Poll::Pending => return WriteState::Blocked,
            }
        }
        // Until EOF is read, the session does not know about the failure, and bytes for this side
        // would count as delivered.
        if session.wants_read(self.side) { WriteState::Blocked } else { WriteState::Shut }
    }

    /// Reads from the stream and notifies the session of its end.
    pub(super) fn poll_recv<'s>(
        &mut self,
        cx: &mut Context<'_>,
        context: &mut DirectionContext<'_, impl Entropy>,
        scratch: &'s mut RecvScratch,
    ) -> ReadOutcome<'s> {
        let Some(stream) = &mut self.stream else {
            return ReadOutcome::Nothing;
        };
        match stream.poll_recv(cx, scratch) {
            Poll::Ready(Ok(Recv::Data(data))) => ReadOutcome::Data(data),
            Poll::Pending if !self.write_failed => ReadOutcome::Nothing,
            // EOF, or no more data from a peer that cannot be written to. A WebSocket does not
            // distinguish between the ways in which a stream ends.
            Poll::Pending | Poll::Ready(Ok(Recv::Closed | Recv::Truncated) | Err(_)) => {
                context.session.handle_eof(self.side, context.now);
                if self.write_failed {
                    context.session.handle_eof(self.side, context.now);
                }
                ReadOutcome::Ended
            }
        }
    }

    /// Sends bytes. The write state must be open.
    pub(super) fn send(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[&[u8]],
        context: &mut DirectionContext<'_, impl Entropy>,
        scratch: &mut SendScratch,
    ) {
        if let Some(stream) = &mut self.stream
            && stream.send(cx, parts, scratch).is_err()
        {
            self.fail(context.session, context.now);
        }
    }

    /// Sends a control frame if one is due. The write state must be open. Returns true if a frame
    /// was sent.
    pub(super) fn send_control(
        &mut self,
        cx: &mut Context<'_>,
        context: &mut DirectionContext<'_, impl Entropy>,
        scratch: &mut SendScratch,
    ) -> bool {
        if !context.session.has_pending_control(self.side) {
            return false;
        }
        let Some(frame) = context.poll_control(self.side) else {
            return false;
        };
        self.send(cx, &[frame.as_bytes()], context, scratch);
        true
    }

    /// Whether both directions must be polled once more: a write to this side failed, so that its
    /// EOF must be read, or its shutdown state changed, so that it no longer blocks the other side.
    pub(super) fn take_needs_poll(&mut self) -> bool {
        mem::take(&mut self.needs_poll)
    }

    /// Drops the stream. Data accepted by the kernel is still delivered.
    pub(super) fn close(&mut self) {
        self.stream = None;
    }

    /// Ends the write half or resets the stream, as the session requires.
    pub(super) fn shutdown(
        &mut self,
        cx: &mut Context<'_>,
        session: &mut Session,
        scratch: &mut SendScratch,
        now: Timestamp,
    ) {
        let shutdown = session.shutdown(self.side);
        self.needs_poll |= shutdown != self.shutdown;
        self.shutdown = shutdown;
        match shutdown {
            Shutdown::KeepOpen => {}
            Shutdown::CloseWrite => {
                if let Some(stream) = self.stream.as_mut().filter(|_| !self.write_closed)
                    && let Poll::Ready(closed) = stream.poll_close(cx, scratch)
                {
                    self.write_closed = true;
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

    /// Whether the side cannot be written to and its EOF has not been read.
    pub(super) fn is_awaiting_eof(&self, session: &Session) -> bool {
        self.write_failed && self.stream.is_some() && session.wants_read(self.side)
    }

    /// Notifies the session that the side is gone in both directions. Unread data is lost.
    pub(super) fn give_up(&self, session: &mut Session, now: Timestamp) {
        session.handle_eof(self.side, now);
        session.handle_eof(self.side, now);
    }

    /// Gives up a side that cannot be written to while reading from it is suspended.
    pub(super) fn give_up_if_write_failed(&self, context: &mut DirectionContext<'_, impl Entropy>) {
        if self.write_failed {
            self.give_up(context.session, context.now);
        }
    }

    /// Handles a failed write. Data may still be unread, so the session is notified at its end; or
    /// now, if the end has been read already.
    fn fail(&mut self, session: &mut Session, now: Timestamp) {
        self.write_failed = true;
        self.needs_poll = true;
        if !session.wants_read(self.side) {
            session.handle_eof(self.side, now);
        }
    }
}
