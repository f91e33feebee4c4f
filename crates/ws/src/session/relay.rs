//! What a session makes of bytes that came from a side: whether they may pass, now, later or never.

use std::num::NonZeroU64;

use super::{Intake, Session};
use crate::close::CloseCode;
use crate::cut::{Cut, Run, Watch};
use crate::end::End;
use crate::header::ControlFrame;
use crate::limits::{Action, Limits, Rate, Strict};
use crate::moment::Moment;
use crate::peers::{Farewell, Toward, Voice};
use crate::pulse::Pulse;
use crate::{Deflate, Offence, Rule, Side, Sizes};

impl Session {
    pub(super) fn judge(
        &mut self,
        from: Side,
        input: &[u8],
        now: Moment,
        sizes: &mut Sizes,
    ) -> Intake {
        let peer = self.peers.of(from);
        if peer.voice != Voice::Speaks || peer.reset {
            return Intake::Discard(input.len());
        }
        match self.peers.of(from.other()).toward {
            Toward::Relay | Toward::Owed => self.relay(from, input, now, sizes),
            Toward::Ready(_) | Toward::Sent(_) | Toward::Cut => self.listen(from, input),
        }
    }

    /// Intake while the other side still gets what is lawful.
    fn relay(&mut self, from: Side, input: &[u8], now: Moment, sizes: &mut Sizes) -> Intake {
        if self.peers.of(from).paused() > now {
            return Intake::Paused;
        }
        let live = self.end.is_none();
        let granted = if live { self.grant(from, input.len(), now) } else { input.len() };
        let owed = self.peers.of(from.other()).toward == Toward::Owed;
        let watch = Watch {
            limits: self.terms.limits(from),
            strict: self.terms.strict,
            inflated_max: self.inflated_max(from),
            awaited: self.clocks.pulse(from).map_or(&[], Pulse::awaited),
            one_frame: owed || (live && self.is_ping_due(from.other())),
            hurried: !live,
            now,
        };
        let grant = input.get(..granted).unwrap_or(input);
        match self.peers.of_mut(from).meter.cut(grant, &watch, sizes) {
            Cut::Pass(run) => {
                self.forward(from, run, now);
                Intake::Forward(run.len)
            }
            Cut::Own { len, token } => {
                if let (Some(pulse), Some(heartbeat)) =
                    (self.clocks.pulse_mut(from), self.terms.heartbeat(from))
                {
                    pulse.answered(heartbeat, token, now);
                }
                Intake::Discard(len)
            }
            Cut::Close { len, code } => self.relay_close(from, len, code, now),
            Cut::Starved if grant.len() < input.len() => {
                self.spent(from, now);
                self.judge(from, input, now, sizes)
            }
            Cut::Starved => Intake::Starved,
            Cut::Later(at, rule) => {
                self.peers.of_mut(from).pause(at, rule, now);
                Intake::Paused
            }
            Cut::Over(rule) => {
                self.fail(End::Over(from, rule), from, now);
                self.listen(from, input)
            }
            Cut::Breach(breach) => {
                self.peers.of_mut(from).voice = Voice::Broken;
                self.fail(End::Breach(from, breach), from, now);
                Intake::Discard(input.len())
            }
        }
    }

    /// How many of so many bytes may come now.
    #[inline]
    fn grant(&mut self, from: Side, len: usize, now: Moment) -> usize {
        let Some(rate) = self.byte_rate(from) else {
            return len;
        };
        let peer = self.peers.of_mut(from);
        let tokens = peer.pace().bytes.tokens(&rate, now);
        if tokens >= len as u64 {
            return len;
        }
        if rate.action == Action::Report {
            peer.meter.reported.add(Offence::Over(Rule::Bytes));
            return len;
        }
        usize::try_from(tokens).unwrap_or(len)
    }

    /// All bytes that may come have come, and there are more.
    fn spent(&mut self, from: Side, now: Moment) {
        let Some(rate) = self.byte_rate(from) else {
            return;
        };
        if rate.action == Action::Close {
            self.conclude(End::Over(from, Rule::Bytes), now);
            return;
        }
        // Not for every byte.
        let some = PIECE_MAX.get().max(rate.per_second.get() / 64);
        let peer = self.peers.of_mut(from);
        let until = peer.pace().bytes.when(&rate, some);
        peer.pause(until, Rule::Bytes, now);
    }

    /// Its bucket holds whatever must come in one piece.
    #[inline]
    fn byte_rate(&self, from: Side) -> Option<Rate> {
        let rate = self.terms.limits(from).bytes?;
        Some(Rate { burst: rate.burst.max(PIECE_MAX), ..rate })
    }

    /// Intake while nothing of it goes anywhere: only its Close is of interest.
    fn listen(&mut self, from: Side, input: &[u8]) -> Intake {
        let watch = Watch {
            limits: &Limits::default(),
            strict: Strict::Enforce,
            inflated_max: None,
            awaited: &[],
            one_frame: false,
            hurried: true,
            now: Moment::START,
        };
        let peer = self.peers.of_mut(from);
        match peer.meter.cut(input, &watch, &mut Sizes::default()) {
            Cut::Pass(Run { len, .. }) | Cut::Own { len, .. } => Intake::Discard(len),
            Cut::Starved => Intake::Starved,
            Cut::Close { len, code } => {
                peer.voice = Voice::Closed(code);
                Intake::Discard(len)
            }
            Cut::Later(..) | Cut::Over(_) | Cut::Breach(_) => {
                peer.voice = Voice::Broken;
                Intake::Discard(input.len())
            }
        }
    }

    #[inline]
    fn inflated_max(&self, from: Side) -> Option<u64> {
        match (self.deflate, from) {
            // Backends are not suspected; to follow them would take a window for each tunnel.
            (Deflate::Inspect, Side::Client) => self.terms.from_client.message.map(|cap| cap.max),
            (Deflate::Off | Deflate::Pass | Deflate::Inspect, _) => None,
        }
    }

    fn forward(&mut self, from: Side, run: Run, now: Moment) {
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
        if boundary && to.toward == Toward::Owed {
            to.toward = Toward::Ready(Farewell::End);
        }
        self.peers.of_mut(from).spend(run.len);
    }

    fn relay_close(
        &mut self,
        from: Side,
        len: usize,
        code: Option<CloseCode>,
        now: Moment,
    ) -> Intake {
        self.peers.of_mut(from).voice = Voice::Closed(code);
        let to = self.peers.of_mut(from.other());
        if to.is_gone() {
            // This Close answers ours, and is not for someone who left without one.
            to.toward = Toward::Cut;
            return Intake::Discard(len);
        }
        to.sent_close(code);
        let end = match from {
            Side::Client => End::ClientClosed,
            Side::Backend => End::BackendClosed,
        };
        self.name(end, now);
        self.forward(from, Run { len, ..Run::default() }, now);
        Intake::Forward(len)
    }
}

/// The longest that must come in one piece to be judged: a masked control frame.
const PIECE_MAX: NonZeroU64 = match NonZeroU64::new(ControlFrame::LEN_MAX as u64) {
    Some(bytes) => bytes,
    None => NonZeroU64::MIN,
};
