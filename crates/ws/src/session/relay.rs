//! What a session makes of bytes that came from a side: whether they may pass, now, later or never.

use std::num::NonZeroU64;

use super::{RecvAction, Session};
use crate::close::CloseCode;
use crate::cut::{FrameRun, FrameStep, Policy};
use crate::end::TerminationReason;
use crate::header::ControlFrame;
use crate::limits::{LimitAction, Limits, RateLimit, Strictness};
use crate::moment::Timestamp;
use crate::peers::{CloseFrame, RecvState, SendState};
use crate::pulse::Heartbeat;
use crate::{DeflateMode, LimitKind, MessageSizes, Side, Violation};

impl Session {
    pub(super) fn judge(
        &mut self,
        from: Side,
        input: &[u8],
        now: Timestamp,
        sizes: &mut MessageSizes,
    ) -> RecvAction {
        let peer = self.peers.of(from);
        if peer.voice != RecvState::Speaks || peer.reset {
            return RecvAction::Discard(input.len());
        }
        match self.peers.of(from.other()).toward {
            SendState::Relay | SendState::Owed => self.relay(from, input, now, sizes),
            SendState::Ready(_) | SendState::Sent(_) | SendState::Cut => self.listen(from, input),
        }
    }

    /// Intake while the other side still gets what is lawful.
    fn relay(
        &mut self,
        from: Side,
        input: &[u8],
        now: Timestamp,
        sizes: &mut MessageSizes,
    ) -> RecvAction {
        if self.peers.of(from).paused() > now {
            return RecvAction::Paused;
        }
        let live = self.end.is_none();
        let granted = if live { self.grant(from, input.len(), now) } else { input.len() };
        let owed = self.peers.of(from.other()).toward == SendState::Owed;
        let watch = Policy {
            limits: self.terms.limits(from),
            strict: self.terms.strict,
            inflated_max: self.inflated_max(from),
            awaited: self.clocks.pulse(from).map_or(&[], Heartbeat::awaited),
            one_frame: owed || (live && self.is_ping_due(from.other())),
            hurried: !live,
            now,
        };
        let grant = input.get(..granted).unwrap_or(input);
        match self.peers.of_mut(from).meter.cut(grant, &watch, sizes) {
            FrameStep::Pass(run) => {
                self.forward(from, run, now);
                RecvAction::Forward(run.len)
            }
            FrameStep::Own { len, token } => {
                if let (Some(pulse), Some(heartbeat)) =
                    (self.clocks.pulse_mut(from), self.terms.heartbeat(from))
                {
                    pulse.answered(heartbeat, token, now);
                }
                RecvAction::Discard(len)
            }
            FrameStep::Close { len, code } => self.relay_close(from, len, code, now),
            FrameStep::Starved if grant.len() < input.len() => {
                self.spent(from, now);
                self.judge(from, input, now, sizes)
            }
            FrameStep::Starved => RecvAction::Starved,
            FrameStep::Later(at, rule) => {
                self.peers.of_mut(from).pause(at, rule, now);
                RecvAction::Paused
            }
            FrameStep::Over(rule) => {
                self.fail(TerminationReason::Over(from, rule), from, now);
                self.listen(from, input)
            }
            FrameStep::Breach(breach) => {
                self.peers.of_mut(from).voice = RecvState::Broken;
                self.fail(TerminationReason::Breach(from, breach), from, now);
                RecvAction::Discard(input.len())
            }
        }
    }

    /// How many of so many bytes may come now.
    #[inline]
    fn grant(&mut self, from: Side, len: usize, now: Timestamp) -> usize {
        let Some(rate) = self.byte_rate(from) else {
            return len;
        };
        let peer = self.peers.of_mut(from);
        let tokens = peer.pace().bytes.tokens(&rate, now);
        if tokens >= len as u64 {
            return len;
        }
        if rate.action == LimitAction::Report {
            peer.meter.reported.add(Violation::Over(LimitKind::Bytes));
            return len;
        }
        usize::try_from(tokens).unwrap_or(len)
    }

    /// All bytes that may come have come, and there are more.
    fn spent(&mut self, from: Side, now: Timestamp) {
        let Some(rate) = self.byte_rate(from) else {
            return;
        };
        if rate.action == LimitAction::Close {
            self.conclude(TerminationReason::Over(from, LimitKind::Bytes), now);
            return;
        }
        // Not for every byte.
        let some = PIECE_MAX.get().max(rate.per_second.get() / 64);
        let peer = self.peers.of_mut(from);
        let until = peer.pace().bytes.when(&rate, some);
        peer.pause(until, LimitKind::Bytes, now);
    }

    /// Its bucket holds whatever must come in one piece.
    #[inline]
    fn byte_rate(&self, from: Side) -> Option<RateLimit> {
        let rate = self.terms.limits(from).bytes?;
        Some(RateLimit { burst: rate.burst.max(PIECE_MAX), ..rate })
    }

    /// Intake while nothing of it goes anywhere: only its Close is of interest.
    fn listen(&mut self, from: Side, input: &[u8]) -> RecvAction {
        let watch = Policy {
            limits: &Limits::default(),
            strict: Strictness::Enforce,
            inflated_max: None,
            awaited: &[],
            one_frame: false,
            hurried: true,
            now: Timestamp::START,
        };
        let peer = self.peers.of_mut(from);
        match peer.meter.cut(input, &watch, &mut MessageSizes::default()) {
            FrameStep::Pass(FrameRun { len, .. }) | FrameStep::Own { len, .. } => {
                RecvAction::Discard(len)
            }
            FrameStep::Starved => RecvAction::Starved,
            FrameStep::Close { len, code } => {
                peer.voice = RecvState::Closed(code);
                RecvAction::Discard(len)
            }
            FrameStep::Later(..) | FrameStep::Over(_) | FrameStep::Breach(_) => {
                peer.voice = RecvState::Broken;
                RecvAction::Discard(input.len())
            }
        }
    }

    #[inline]
    fn inflated_max(&self, from: Side) -> Option<u64> {
        match (self.deflate, from) {
            // Backends are not suspected; to follow them would take a window for each tunnel.
            (DeflateMode::Inspect, Side::Client) => {
                self.terms.from_client.message.map(|cap| cap.max)
            }
            (DeflateMode::Off | DeflateMode::Pass | DeflateMode::Inspect, _) => None,
        }
    }

    fn forward(&mut self, from: Side, run: FrameRun, now: Timestamp) {
        let flow = match from {
            Side::Client => &mut self.tally.up,
            Side::Backend => &mut self.tally.down,
        };
        flow.bytes += run.len as u64;
        flow.messages += run.messages;
        flow.compressed += run.compressed;
        flow.largest = flow.largest.max(run.largest);
        if run.data {
            self.clocks.data = now;
            self.age(from, run.messages > 0, now);
        }
        let boundary = self.peers.of(from).meter.at_boundary();
        let to = self.peers.of_mut(from.other());
        to.queue(run.len);
        if boundary && to.toward == SendState::Owed {
            to.toward = SendState::Ready(CloseFrame::End);
        }
        self.peers.of_mut(from).spend(run.len);
    }

    fn relay_close(
        &mut self,
        from: Side,
        len: usize,
        code: Option<CloseCode>,
        now: Timestamp,
    ) -> RecvAction {
        self.peers.of_mut(from).voice = RecvState::Closed(code);
        let to = self.peers.of_mut(from.other());
        if to.is_gone() {
            // This Close answers ours, and is not for someone who left without one.
            to.toward = SendState::Cut;
            return RecvAction::Discard(len);
        }
        to.sent_close(code);
        let end = match from {
            Side::Client => TerminationReason::ClientClosed,
            Side::Backend => TerminationReason::BackendClosed,
        };
        self.name(end, now);
        self.forward(from, FrameRun { len, ..FrameRun::default() }, now);
        RecvAction::Forward(len)
    }
}

/// The longest that must come in one piece to be judged: a masked control frame.
const PIECE_MAX: NonZeroU64 = match NonZeroU64::new(ControlFrame::LEN_MAX as u64) {
    Some(bytes) => bytes,
    None => NonZeroU64::MIN,
};
