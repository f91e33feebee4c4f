//! One direction of the tunnel: what came from one side is judged and handed to the other in one
//! write per read, with no copy but of the odd bytes that cannot be judged yet.

use std::mem;
use std::task::Context;

use bytes::Bytes;
use ws::{ControlFrame, Entropy, FrameTrace, RecvAction, Session, Side, Timestamp};

use super::endpoint::{Endpoint, ReadOutcome, WriteState};
use super::progress::RelayedMessages;
use crate::net::Stream;
use crate::net::scratch::{Scratch, SendScratch};

/// Who decides, and what it needs for it.
pub(super) struct DirectionContext<'a, E> {
    pub(super) session: &'a mut Session,
    pub(super) entropy: &'a mut E,
    pub(super) trace: &'a mut Option<Box<FrameTrace>>,
    pub(super) passed: &'a mut RelayedMessages,
    pub(super) now: Timestamp,
}

impl<E: Entropy> DirectionContext<'_, E> {
    pub(super) fn inject(&mut self, to: Side) -> Option<ControlFrame> {
        let frame = self.session.inject(to, self.now, self.entropy)?;
        self.show(|trace| trace.own(to, frame.as_bytes()));
        Some(frame)
    }

    fn intake(&mut self, from: Side, input: &[u8]) -> RecvAction {
        let verdict = self.session.intake(from, input, self.now, self.passed.of(from));
        match verdict {
            RecvAction::Forward(len) => self.show(|trace| trace.passed(from, &input[..len])),
            // A pong to our own ping. What comes behind an end is not looked at.
            RecvAction::Discard(len) if self.session.end().is_none() => {
                self.show(|trace| trace.passed(from, &input[..len]));
            }
            RecvAction::Discard(_) | RecvAction::Starved | RecvAction::Paused => {}
        }
        verdict
    }

    /// To whoever watches, as long as somebody does.
    #[inline]
    fn show(&mut self, show: impl FnOnce(&mut FrameTrace) -> bool) {
        if let Some(trace) = self.trace
            && !show(trace)
        {
            *self.trace = None;
        }
    }
}

/// One direction.
pub(super) struct Direction {
    /// What arrived and is not judged: fewer than [`JOINT_BYTES`], or all that is
    /// [`held`](Self::held). Freed when empty.
    tail: Vec<u8>,
    /// The tail came with the head, or came too fast: it is judged, and nothing read, before.
    held: bool,
}

impl Direction {
    pub(super) fn new(early: Bytes) -> Self {
        Self { held: !early.is_empty(), tail: early.into() }
    }

    /// One read and one write, if the receiver takes it. True if anything moved.
    pub(super) fn carry<X: Stream, Y: Stream>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Endpoint<X>,
        to: &mut Endpoint<Y>,
        judge: &mut DirectionContext<'_, impl Entropy>,
        scratch: &mut Scratch,
    ) -> bool {
        // A receiver that is slow stops its sender: nothing is read that cannot be passed on. Only
        // what is not to be passed on anyhow need not wait.
        let gate = to.poll_gate(cx, judge.session, judge.now);
        if gate == WriteState::Blocked && judge.session.is_relayed_to(to.side) {
            return false;
        }
        if !judge.session.wants(from.side) {
            self.tail = Vec::new();
            self.held = false;
            return gate == WriteState::Open && to.speak(cx, judge, &mut scratch.send);
        }
        if judge.session.is_paused(from.side, judge.now) {
            from.give_up_if_deaf(judge);
            return gate == WriteState::Open && to.speak(cx, judge, &mut scratch.send);
        }
        if self.held {
            let mut held = mem::take(&mut self.tail);
            let now = held.len().min(HELD_BYTES);
            let more = now < held.len();
            let left = self.pass(cx, to, gate, &mut held[..now], judge, &mut scratch.send);
            self.held |= more;
            // In its place: a copy a wake would leave holes in the heap.
            held.drain(..now - left);
            if !self.held {
                held.shrink_to_fit();
            }
            self.tail = held;
            return true;
        }
        match from.poll_recv(cx, judge, &mut scratch.recv) {
            ReadOutcome::Data(data) => {
                let left = self.pass(cx, to, gate, data, judge, &mut scratch.send);
                if left > 0 {
                    self.tail = data[data.len() - left..].to_vec();
                }
                true
            }
            ReadOutcome::Ended => true,
            ReadOutcome::Nothing => {
                gate == WriteState::Open && to.speak(cx, judge, &mut scratch.send)
            }
        }
    }

    /// Judges the tail with `data` behind it, and sends what may pass, with a frame of our own in
    /// its place if one is due. How many of the last bytes of `data` are to be kept as the tail;
    /// if there are any there is no other.
    fn pass<Y: Stream>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Endpoint<Y>,
        gate: WriteState,
        data: &mut [u8],
        judge: &mut DirectionContext<'_, impl Entropy>,
        scratch: &mut SendScratch,
    ) -> usize {
        let mut own = InjectedFrame::new(to.side, gate);
        own.ask(judge, 0);

        let waited = self.tail.len();
        let mut head = FilteredBytes::default();
        let mut begin = 0;
        if waited > 0 {
            // With so many bytes, any frame that could not be judged can.
            let joint = data.len().min(JOINT_BYTES.saturating_sub(waited));
            self.tail.extend_from_slice(&data[..joint]);
            head = sift(judge, &mut self.tail, waited, &mut own, 0);
            begin = head.read.checked_sub(waited).unwrap_or(joint);
        }
        let data = &mut data[begin..];
        let len = data.len();
        let mut run = FilteredBytes::default();
        if head.read < waited && len > 0 {
            // Nothing may overtake the tail. That the session starves on so much is not reached.
            if !head.paused {
                judge.session.abort(judge.now);
                return 0;
            }
        } else {
            run = sift(judge, data, len, &mut own, head.kept);
        }
        own.send(cx, to, [&self.tail[..head.kept], &data[..run.kept]], judge, scratch);

        let mut left = 0;
        if head.read < waited {
            self.tail.drain(..head.read);
            self.tail.extend_from_slice(data);
        } else {
            self.tail = Vec::new();
            left = len - run.read;
        }
        self.held = (head.paused || run.paused) && (left > 0 || !self.tail.is_empty());
        left
    }

    /// Bytes allocated.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.tail.capacity()
    }
}

/// What became of some bytes.
#[derive(Clone, Copy, Debug, Default)]
struct FilteredBytes {
    /// Judged, from the front.
    read: usize,
    /// Of them to be passed on; they stand at the front now.
    kept: usize,
    /// The rest came too fast, or others want to run in between.
    paused: bool,
}

/// Judges bytes from the front until the first `until` are judged, or more are needed. What is not
/// to be passed on is overwritten, so that one write takes the rest. `ahead` bytes go out before
/// these.
fn sift(
    judge: &mut DirectionContext<'_, impl Entropy>,
    bytes: &mut [u8],
    until: usize,
    own: &mut InjectedFrame,
    ahead: usize,
) -> FilteredBytes {
    let mut done = FilteredBytes::default();
    while done.read < until {
        match judge.intake(own.to.other(), &bytes[done.read..]) {
            RecvAction::Forward(len) => {
                if done.kept < done.read {
                    bytes.copy_within(done.read..done.read + len, done.kept);
                }
                done.read += len;
                done.kept += len;
            }
            RecvAction::Discard(len) => done.read += len,
            RecvAction::Starved => break,
            RecvAction::Paused => {
                done.paused = true;
                break;
            }
        }
        own.ask(judge, ahead + done.kept);
        if judge.passed.is_enough() {
            done.paused = true;
            break;
        }
    }
    done
}

/// At most one frame of our own among the bytes of one write.
struct InjectedFrame {
    to: Side,
    open: bool,
    /// How many bytes go out before it.
    at: usize,
    frame: Option<ControlFrame>,
}

impl InjectedFrame {
    fn new(to: Side, gate: WriteState) -> Self {
        Self { to, open: gate == WriteState::Open, at: 0, frame: None }
    }

    /// Takes a frame that is due, to go out after `at` bytes.
    fn ask(&mut self, judge: &mut DirectionContext<'_, impl Entropy>, at: usize) {
        if self.open && self.frame.is_none() && judge.session.has_word_for(self.to) {
            self.frame = judge.inject(self.to);
            self.at = at;
        }
    }

    /// One write for all of it.
    fn send<Y: Stream>(
        &self,
        cx: &mut Context<'_>,
        to: &mut Endpoint<Y>,
        [head, run]: [&[u8]; 2],
        judge: &mut DirectionContext<'_, impl Entropy>,
        scratch: &mut SendScratch,
    ) {
        let own = self.frame.as_ref().map_or(&[][..], ControlFrame::as_bytes);
        if !self.open || (head.is_empty() && run.is_empty() && own.is_empty()) {
            return;
        }
        let (before, after) = run.split_at(self.at.saturating_sub(head.len()).min(run.len()));
        match head.split_at_checked(self.at) {
            Some((first, second)) if !second.is_empty() => {
                to.send(cx, &[first, own, second, run], judge, scratch);
            }
            Some(_) | None => to.send(cx, &[head, before, own, after], judge, scratch),
        }
    }
}

/// More than a session can starve on (140).
const JOINT_BYTES: usize = 145;

/// How much of what was held is judged at once; one read's worth.
const HELD_BYTES: usize = 64 * 1024;
