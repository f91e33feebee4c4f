//! Handles bytes that arrive from a side: forwarded, delayed or discarded.

use std::num::NonZeroU64;

use super::{RecvAction, Session};
use crate::close_code::CloseCode;
use crate::control_frame::ControlFrame;
use crate::frame_step::{FrameRun, FrameStep, MeterContext, PingPayload};
use crate::heartbeat::Heartbeat;
use crate::limit_kind::LimitKind;
use crate::peer::{CloseFrame, RecvState, SendState};
use crate::policy::{DeflateMode, LimitAction, Limits, RateLimit, Strictness};
use crate::side::Side;
use crate::stats::MessageSizes;
use crate::termination::TerminationReason;
use crate::timestamp::Timestamp;
use crate::violation::Violation;

impl Session {
    /// Handles the first bytes received from a side. `input` starts where the last action ended;
    /// after [`RecvAction::Incomplete`] it must be longer than before. Messages that end in the
    /// forwarded bytes are added to `sizes`.
    pub fn handle_recv(
        &mut self,
        from: Side,
        input: &[u8],
        now: Timestamp,
        sizes: &mut MessageSizes,
    ) -> RecvAction {
        if input.is_empty() {
            return RecvAction::Incomplete;
        }
        self.recv(from, input, now, sizes)
    }

    fn recv(
        &mut self,
        from: Side,
        input: &[u8],
        now: Timestamp,
        sizes: &mut MessageSizes,
    ) -> RecvAction {
        let peer = self.peers.of(from);
        if peer.recv != RecvState::Open || peer.reset {
            return self.discard(from, input.len());
        }
        match self.peers.of(from.other()).send {
            SendState::Relay
            | SendState::CloseAfterFrame
            | SendState::CloseAfterRelay
            | SendState::CloseAfterMessages => self.relay(from, input, now, sizes),
            SendState::CloseReady(_) | SendState::CloseSent(_) | SendState::Stopped => {
                self.await_close(from, input)
            }
        }
    }

    /// Relays valid frames to the other side.
    fn relay(
        &mut self,
        from: Side,
        input: &[u8],
        now: Timestamp,
        sizes: &mut MessageSizes,
    ) -> RecvAction {
        if self.peers.of(from).paused_until() > now {
            return RecvAction::Paused;
        }
        let active = self.termination.is_none();
        let allowed = if active { self.allowed_bytes(from, input.len(), now) } else { input.len() };
        let closing = matches!(
            self.peers.of(from.other()).send,
            SendState::CloseAfterFrame | SendState::CloseAfterMessages
        );
        let (inflated_max, context_takeover) = self.inflated_max(from);
        let context = MeterContext {
            limits: self.policy.limits(from),
            strict: self.policy.strict,
            inflated_max,
            context_takeover,
            utf8: self.policy.utf8 && from == Side::Client,
            pending_pings: self.timers.heartbeat(from).map_or(&[], Heartbeat::pending),
            stop_at_boundary: closing || (active && self.is_ping_due(from.other())),
            ending: !active,
            now,
        };
        let allowed = input.get(..allowed).unwrap_or(input);
        match self.peers.of_mut(from).meter.next_step(allowed, &context, sizes) {
            FrameStep::Forward(run) => {
                self.forward(from, run, now);
                RecvAction::Forward(run.len)
            }
            FrameStep::OwnPong { len, payload } => {
                self.handle_pong(from, payload, now);
                RecvAction::Discard(len)
            }
            FrameStep::Close { len, code } => self.relay_close(from, len, code, now),
            FrameStep::Incomplete if allowed.len() < input.len() => {
                self.handle_rate_exceeded(from, now);
                self.recv(from, input, now, sizes)
            }
            FrameStep::Incomplete => {
                if let Some(heartbeat) = self.timers.heartbeat_mut(from) {
                    heartbeat.handle_uncounted();
                }
                RecvAction::Incomplete
            }
            FrameStep::DelayUntil(until, limit) => {
                self.peers.of_mut(from).pause(until, limit, now);
                RecvAction::Paused
            }
            FrameStep::LimitExceeded(limit) => {
                self.fail(TerminationReason::LimitExceeded(from, limit), from, now);
                self.await_close(from, input)
            }
            FrameStep::ProtocolError(error) => {
                self.peers.of_mut(from).recv = RecvState::Failed;
                self.fail(TerminationReason::ProtocolError(from, error), from, now);
                RecvAction::Discard(input.len())
            }
        }
    }

    /// How many of `len` bytes the byte rate allows now.
    #[inline]
    fn allowed_bytes(&mut self, from: Side, len: usize, now: Timestamp) -> usize {
        let Some(rate) = self.byte_rate(from) else {
            return len;
        };
        let peer = self.peers.of_mut(from);
        let tokens = peer.read_rate().bytes.refill(&rate, now);
        if tokens >= len as u64 {
            return len;
        }
        if rate.action == LimitAction::Report {
            peer.meter.reported.insert(Violation::LimitExceeded(LimitKind::Bytes));
            return len;
        }
        usize::try_from(tokens).unwrap_or(len)
    }

    /// Closes or suspends a side that has used up its byte rate.
    fn handle_rate_exceeded(&mut self, from: Side, now: Timestamp) {
        let Some(rate) = self.byte_rate(from) else {
            return;
        };
        if rate.action == LimitAction::Close {
            self.terminate(TerminationReason::LimitExceeded(from, LimitKind::Bytes), now);
            return;
        }
        // Waits for several bytes, to avoid a wake-up for each.
        let tokens = ATOMIC_BYTES_MAX.get().max(rate.per_second.get() / 64);
        let peer = self.peers.of_mut(from);
        let until = peer.read_rate().bytes.available_at(&rate, tokens);
        peer.pause(until, LimitKind::Bytes, now);
    }

    /// The byte rate, with a burst large enough for bytes that must be validated together.
    #[inline]
    fn byte_rate(&self, from: Side) -> Option<RateLimit> {
        let rate = self.policy.limits(from).bytes?;
        Some(RateLimit { burst: rate.burst.max(ATOMIC_BYTES_MAX), ..rate })
    }

    fn handle_pong(&mut self, from: Side, payload: PingPayload, now: Timestamp) {
        let grid = self.timers.ping_grid;
        if let (Some(heartbeat), Some(policy)) =
            (self.timers.heartbeat_mut(from), self.policy.heartbeat(from))
        {
            heartbeat.handle_pong(policy, grid, payload, now);
        }
    }

    /// Discards what a side sends after it was closed. After more than can have been under way then, it is reset.
    fn discard(&mut self, from: Side, len: usize) -> RecvAction {
        let peer = self.peers.of_mut(from);
        peer.discarded = peer.discarded.saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
        if peer.discarded > DISCARDED_BYTES_MAX {
            self.peers.reset(from);
        }
        RecvAction::Discard(len)
    }

    /// Discards frames that can no longer be relayed, and waits for a Close.
    fn await_close(&mut self, from: Side, input: &[u8]) -> RecvAction {
        let context = MeterContext {
            limits: &Limits::default(),
            strict: Strictness::Enforce,
            inflated_max: None,
            context_takeover: false,
            utf8: false,
            pending_pings: &[],
            stop_at_boundary: false,
            ending: true,
            now: Timestamp::START,
        };
        let peer = self.peers.of_mut(from);
        match peer.meter.next_step(input, &context, &mut MessageSizes::default()) {
            FrameStep::Forward(FrameRun { len, .. }) | FrameStep::OwnPong { len, .. } => {
                self.discard(from, len)
            }
            FrameStep::Incomplete => RecvAction::Incomplete,
            FrameStep::Close { len, code } => {
                peer.recv = RecvState::CloseReceived(code);
                RecvAction::Discard(len)
            }
            FrameStep::DelayUntil(..)
            | FrameStep::LimitExceeded(_)
            | FrameStep::ProtocolError(_) => {
                peer.recv = RecvState::Failed;
                RecvAction::Discard(input.len())
            }
        }
    }

    /// The maximum decompressed size of a message in bytes, and whether it may refer to earlier ones.
    #[inline]
    fn inflated_max(&self, from: Side) -> (Option<u64>, bool) {
        match self.deflate {
            DeflateMode::Inspect { context_takeover } => {
                let limit = self.policy.limits(from).message;
                (limit.map(|limit| limit.max), context_takeover[from])
            }
            DeflateMode::Off | DeflateMode::Pass => (None, false),
        }
    }

    /// Records bytes that are forwarded.
    fn forward(&mut self, from: Side, run: FrameRun, now: Timestamp) {
        let stats = match from {
            Side::Client => &mut self.stats.up,
            Side::Backend => &mut self.stats.down,
        };
        stats.bytes += run.len as u64;
        stats.messages += run.messages;
        stats.compressed += run.compressed;
        stats.largest = stats.largest.max(run.largest);
        if run.data {
            self.timers.last_data = now;
            self.update_message_age(from, run.messages > 0, now);
        }
        let boundary = self.peers.of(from).meter.at_boundary();
        let to = self.peers.of_mut(from.other());
        to.queue(run.len);
        if boundary && to.send == SendState::CloseAfterFrame {
            to.send = SendState::CloseReady(CloseFrame::Termination);
        } else if boundary && to.send == SendState::CloseAfterMessages {
            self.peers.close_between_messages();
        }
        self.peers.of_mut(from).consume(run.len);
    }

    fn relay_close(
        &mut self,
        from: Side,
        len: usize,
        code: Option<CloseCode>,
        now: Timestamp,
    ) -> RecvAction {
        self.peers.of_mut(from).recv = RecvState::CloseReceived(code);
        let to = self.peers.of_mut(from.other());
        if to.send == SendState::CloseAfterRelay {
            // The answer to the proxy's Close. The side at fault gets another one.
            to.send = SendState::CloseReady(CloseFrame::Termination);
            return RecvAction::Discard(len);
        }
        if to.is_disconnected() {
            // This Close answers the proxy's, not one of a side that disconnected without any.
            to.send = SendState::Stopped;
            return RecvAction::Discard(len);
        }
        to.set_close_sent(code);
        let own = self.peers.of_mut(from);
        if own.send == SendState::CloseAfterMessages {
            // It has started the closing handshake itself, which the other side completes.
            own.send = SendState::Relay;
        }
        let reason = match from {
            Side::Client => TerminationReason::ClientClosed,
            Side::Backend => TerminationReason::BackendClosed,
        };
        // It answers a Close that was passed on although it is invalid. Its sender waits for the end.
        let other = self.peers.of_mut(from.other());
        if other.meter.sent_invalid_close() && other.recv == RecvState::Open {
            other.recv = RecvState::CloseReceived(None);
            self.peers.of_mut(from).set_close_sent(None);
        }
        self.set_termination(reason, now);
        self.forward(from, FrameRun { len, ..FrameRun::default() }, now);
        RecvAction::Forward(len)
    }
}

/// The most bytes that must arrive together to be validated: a masked control frame.
const ATOMIC_BYTES_MAX: NonZeroU64 = match NonZeroU64::new(ControlFrame::LEN_MAX as u64) {
    Some(bytes) => bytes,
    None => NonZeroU64::MIN,
};

/// More than the socket buffers of both ends hold (`tcp_rmem` and `tcp_wmem`): a side that still sends cannot have been
/// reached by its Close, or does not care.
pub(super) const DISCARDED_BYTES_MAX: u32 = 16 * 1024 * 1024;
