//! One direction of the tunnel: bytes read from one side are validated and passed to the other in
//! one write per read. Only a few undecided bytes are ever copied.

use std::mem;
use std::task::Context;

use bytes::Bytes;
use ws::{ControlFrame, Entropy, RecvAction, Side};

use super::context::DirectionContext;
use super::endpoint::{Endpoint, ReadOutcome, WriteState};
use crate::net::Stream;
use crate::net::scratch::{Scratch, SendScratch};

/// The undecided bytes of one direction.
pub(super) struct Direction {
    /// Received bytes that are not validated: fewer than [`JOIN_BYTES`], or any number while
    /// [`Endpoint::tail_held`]. Freed when empty.
    tail: Vec<u8>,
}

impl Direction {
    pub(super) fn new(after_head: Bytes) -> Self {
        Self { tail: after_head.into() }
    }

    /// Performs one read and one write if the receiver accepts data. Returns true if there was
    /// progress.
    pub(super) fn poll_direction<X: Stream, Y: Stream>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Endpoint<X>,
        to: &mut Endpoint<Y>,
        context: &mut DirectionContext<'_, impl Entropy>,
        scratch: &mut Scratch,
    ) -> bool {
        // Backpressure: nothing is read that cannot be forwarded. Bytes that will be discarded need
        // not wait.
        let state = to.poll_write_state(cx, context.session, context.now);
        if state == WriteState::Blocked && context.session.is_relaying_to(to.side) {
            return false;
        }
        if !context.session.wants_read(from.side) {
            self.tail = Vec::new();
            from.tail_held = false;
            return state == WriteState::Open && to.send_control(cx, context, &mut scratch.send);
        }
        if context.session.is_paused(from.side, context.now) {
            from.give_up_if_write_failed(context);
            return state == WriteState::Open && to.send_control(cx, context, &mut scratch.send);
        }
        if from.tail_held {
            let mut held = mem::take(&mut self.tail);
            let now = held.len().min(HELD_BYTES);
            let more = now < held.len();
            let (left, is_held) =
                self.relay(cx, to, state, &mut held[..now], context, &mut scratch.send);
            from.tail_held = is_held || more;
            // In place: a new allocation per wake would fragment the heap.
            held.drain(..now - left);
            if !from.tail_held {
                held.shrink_to_fit();
            }
            self.tail = held;
            return true;
        }
        match from.poll_recv(cx, context, &mut scratch.recv) {
            ReadOutcome::Data(data) => {
                let (left, is_held) = self.relay(cx, to, state, data, context, &mut scratch.send);
                from.tail_held = is_held;
                if left > 0 {
                    self.tail = data[data.len() - left..].to_vec();
                }
                true
            }
            ReadOutcome::Ended => true,
            ReadOutcome::Nothing => {
                state == WriteState::Open && to.send_control(cx, context, &mut scratch.send)
            }
        }
    }

    /// Validates the tail followed by `data` and sends what may pass, together with a control frame
    /// if one is due. Returns how many of the last bytes of `data` the caller must keep as the tail (if
    /// this is not 0, the tail is empty), and whether the tail is then delayed.
    fn relay<Y: Stream>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Endpoint<Y>,
        state: WriteState,
        data: &mut [u8],
        context: &mut DirectionContext<'_, impl Entropy>,
        scratch: &mut SendScratch,
    ) -> (usize, bool) {
        let mut injected = InjectedFrame::new(to.side, state);
        injected.poll(context, 0);

        let tail_len = self.tail.len();
        let mut head = FilteredBytes::default();
        let mut start = 0;
        if tail_len > 0 {
            // With this many bytes, any frame that was undecided can be decided.
            let joined = data.len().min(JOIN_BYTES.saturating_sub(tail_len));
            self.tail.extend_from_slice(&data[..joined]);
            head = filter(context, &mut self.tail, tail_len, &mut injected, 0);
            start = head.consumed.checked_sub(tail_len).unwrap_or(joined);
        }
        let data = &mut data[start..];
        let len = data.len();
        let mut run = FilteredBytes::default();
        if head.consumed < tail_len && len > 0 {
            // Nothing may overtake the tail. That it is still undecided here is not reachable.
            if !head.paused {
                context.session.abort(context.now);
                return (0, false);
            }
        } else {
            run = filter(context, data, len, &mut injected, head.kept);
        }
        injected.send(cx, to, [&self.tail[..head.kept], &data[..run.kept]], context, scratch);

        let mut left = 0;
        if head.consumed < tail_len {
            self.tail.drain(..head.consumed);
            self.tail.extend_from_slice(data);
        } else {
            self.tail = Vec::new();
            left = len - run.consumed;
        }
        (left, (head.paused || run.paused) && (left > 0 || !self.tail.is_empty()))
    }

    /// Bytes allocated.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.tail.capacity()
    }
}

/// The result of [`filter`].
#[derive(Clone, Copy, Debug, Default)]
struct FilteredBytes {
    /// Bytes validated, from the front.
    consumed: usize,
    /// Bytes to be forwarded; they have been moved to the front.
    kept: usize,
    /// The rest is delayed by a rate, or because this wake is over.
    paused: bool,
}

/// Validates bytes from the front until the first `until` are decided or more input is needed.
/// Forwarded bytes are moved together, so that one write takes them all. `offset` bytes are sent
/// before these.
fn filter(
    context: &mut DirectionContext<'_, impl Entropy>,
    bytes: &mut [u8],
    until: usize,
    injected: &mut InjectedFrame,
    offset: usize,
) -> FilteredBytes {
    let mut done = FilteredBytes::default();
    while done.consumed < until {
        match context.handle_recv(injected.to.other(), &bytes[done.consumed..]) {
            RecvAction::Forward(len) => {
                if done.kept < done.consumed {
                    bytes.copy_within(done.consumed..done.consumed + len, done.kept);
                }
                done.consumed += len;
                done.kept += len;
            }
            RecvAction::Discard(len) => done.consumed += len,
            RecvAction::Incomplete => break,
            RecvAction::Paused => {
                done.paused = true;
                break;
            }
        }
        injected.poll(context, offset + done.kept);
        if context.wake.is_over() {
            done.paused = true;
            break;
        }
    }
    done
}

/// At most one control frame, inserted among the bytes of one write.
struct InjectedFrame {
    to: Side,
    open: bool,
    /// How many bytes are sent before it.
    at: usize,
    frame: Option<ControlFrame>,
}

impl InjectedFrame {
    fn new(to: Side, state: WriteState) -> Self {
        Self { to, open: state == WriteState::Open, at: 0, frame: None }
    }

    /// Takes a control frame that is due, to be sent after `at` bytes.
    fn poll(&mut self, context: &mut DirectionContext<'_, impl Entropy>, at: usize) {
        if self.open && self.frame.is_none() && context.session.has_pending_control(self.to) {
            self.frame = context.poll_control(self.to);
            self.at = at;
        }
    }

    /// Sends both parts and the control frame in one write.
    fn send<Y: Stream>(
        &self,
        cx: &mut Context<'_>,
        to: &mut Endpoint<Y>,
        [head, run]: [&[u8]; 2],
        context: &mut DirectionContext<'_, impl Entropy>,
        scratch: &mut SendScratch,
    ) {
        let frame = self.frame.as_ref().map_or(&[][..], ControlFrame::as_bytes);
        if !self.open || (head.is_empty() && run.is_empty() && frame.is_empty()) {
            return;
        }
        let (before, after) = run.split_at(self.at.saturating_sub(head.len()).min(run.len()));
        match head.split_at_checked(self.at) {
            Some((first, second)) if !second.is_empty() => {
                to.send(cx, &[first, frame, second, run], context, scratch);
            }
            Some(_) | None => to.send(cx, &[head, before, frame, after], context, scratch),
        }
    }
}

/// More than the 140 bytes that can remain undecided.
const JOIN_BYTES: usize = 145;

/// Held bytes validated at a time: as many as one read returns.
const HELD_BYTES: usize = 64 * 1024;
