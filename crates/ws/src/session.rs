//! One conversation: both directions, all clocks, and the one cause it ends by. It says which
//! bytes may go where, hands out the few frames of our own, and says when to let go of each side;
//! whoever drives it moves the bytes and decides nothing.

mod course;
mod relay;

use std::sync::Arc;
use std::time::Duration;

use super::clocks::{TimerFired, Timers};
use super::close::CloseCode;
use super::cut::PingPayload;
use super::end::TerminationReason;
use super::header::ControlFrame;
use super::limits::SessionPolicy;
use super::moment::Timestamp;
use super::peers::{CloseFrame, Peers, SendState, Shutdown};
use super::pulse::{Heartbeat, PeerActivity};
use super::tally::{CloseCodes, MessageSizes, Rtt, Stats};
use super::{DeflateMode, Entropy, FrameTrace, ReportedViolations, Side};

/// The state of one conversation after the 101: about 400 bytes, and no heap but the shared terms, 64
/// bytes for each side that is pinged, as many for one that is held to a rate, and, while a
/// compressed message is looked into, 48 KiB for that.
///
/// In each round the driver writes what is pending, asks [`Session::inject`] for each side, hands
/// what it read to [`Session::intake`] until nothing is left or the rest is starved, asking
/// `inject` again in between, reports with [`Session::written`], and calls [`Session::tick`] last,
/// so that what already lies in a socket counts before the clocks do.
#[derive(Debug)]
pub struct Session {
    terms: Arc<SessionPolicy>,
    deflate: DeflateMode,
    peers: Peers,
    clocks: Timers,
    tally: Stats,
    end: Option<TerminationReason>,
}

/// What to do with the first bytes of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvAction {
    /// So many (never 0) go out to the other side, verbatim.
    Forward(usize),
    /// So many (never 0) go nowhere.
    Discard(usize),
    /// Fewer than 140 bytes that cannot be decided: keep them, offer them again with more behind.
    Starved,
    /// They come too fast: keep them, read nothing more of this side, and offer them again when
    /// [`Session::is_paused`] says no.
    Paused,
}

impl Session {
    /// A conversation that begins at [`Timestamp::START`]. `entropy` spreads the first pings and the
    /// session's end.
    pub fn new(
        terms: Arc<SessionPolicy>,
        deflate: DeflateMode,
        entropy: &mut impl Entropy,
    ) -> Self {
        let random = [(); 3].map(|()| {
            let mut bytes = [0; 4];
            entropy.fill(&mut bytes);
            u32::from_ne_bytes(bytes)
        });
        let clocks = Timers::new(&terms, random);
        let peers = Peers::new(deflate != DeflateMode::Off);
        Self { terms, deflate, peers, clocks, tally: Stats::default(), end: None }
    }

    /// Judges the first bytes of what came from a side. `input` is not empty, begins where the
    /// last verdict stopped, and after [`RecvAction::Starved`] is longer than it was. `sizes` gets the
    /// messages that end in what is forwarded.
    pub fn intake(
        &mut self,
        from: Side,
        input: &[u8],
        now: Timestamp,
        sizes: &mut MessageSizes,
    ) -> RecvAction {
        if input.is_empty() {
            return RecvAction::Starved;
        }
        self.judge(from, input, now, sizes)
    }

    /// A frame of our own for a side: written next, before any other byte that [`Session::intake`]
    /// lets through to it. `None`: nothing is due, or a frame in progress must be finished first.
    #[inline]
    pub fn inject(
        &mut self,
        to: Side,
        now: Timestamp,
        entropy: &mut impl Entropy,
    ) -> Option<ControlFrame> {
        let frame = match self.peers.of(to).toward {
            SendState::Relay => self.ping(to, now, entropy)?,
            SendState::Ready(farewell) => self.close(to, farewell, entropy),
            SendState::Owed | SendState::Sent(_) | SendState::Cut => return None,
        };
        self.peers.of_mut(to).queue(frame.as_bytes().len());
        Some(frame)
    }

    /// Whether a frame of our own is due for a side: if not, [`Session::inject`] has none.
    #[inline]
    pub fn has_word_for(&self, to: Side) -> bool {
        match self.peers.of(to).toward {
            SendState::Relay => self.is_ping_due(to),
            SendState::Ready(_) => true,
            SendState::Owed | SendState::Sent(_) | SendState::Cut => false,
        }
    }

    /// A side's stream ended (EOF, truncation or reset), after all that came before was taken in.
    /// Called a second time it says that the side cannot be written to either.
    pub fn hangup(&mut self, from: Side, now: Timestamp) {
        if self.peers.of(from).eof {
            self.peers.reset(from);
            return;
        }
        self.peers.of_mut(from).eof = true;
        let end = match from {
            Side::Client => TerminationReason::ClientGone,
            Side::Backend => TerminationReason::BackendGone,
        };
        if self.name(end, now) {
            self.peers.dismiss(from.other());
            match from {
                // What the backend still has to say may be delivered to a half-closed client.
                Side::Client => {}
                Side::Backend => self.peers.backend.toward = SendState::Cut,
            }
        }
        self.peers.dry_up(from.other());
    }

    /// After each round of writing: so many bytes still wait for this side. Until it says 0, what
    /// was let through or injected counts as waiting.
    pub fn written(&mut self, to: Side, backlog: usize, now: Timestamp) {
        let peer = self.peers.of_mut(to);
        let taken = peer.backlog.saturating_sub(backlog);
        peer.backlog = backlog;
        if backlog == 0 || peer.reset {
            self.clocks.stop_stall(to);
        } else {
            self.clocks.run_stall(to, taken, &self.terms, now);
        }
    }

    /// Both sides get their Close at the next boundary; the client with these words, or those of
    /// its terms.
    pub fn leave(
        &mut self,
        end: TerminationReason,
        words: Option<&(CloseCode, Arc<str>)>,
        now: Timestamp,
    ) {
        if let (None, Some((code, reason))) = (self.end, words) {
            let (drain_code, drain_reason) = (*code, reason.clone());
            self.terms =
                Arc::new(SessionPolicy { drain_code, drain_reason, ..(*self.terms).clone() });
        }
        self.conclude(end, now);
    }

    /// Cuts both sides at once.
    pub fn abort(&mut self, now: Timestamp) {
        self.name(TerminationReason::Aborted, now);
        for side in Side::BOTH {
            self.peers.reset(side);
        }
    }

    /// When [`Session::tick`] has something to do, or a side is paused no more; after a tick it
    /// lies in the future.
    pub fn deadline(&self) -> Option<Timestamp> {
        if self.is_over() {
            return None;
        }
        let mut first = self.clocks.deadline(&self.terms, self.end.is_none());
        for side in Side::BOTH {
            let paused = self.peers.of(side).paused();
            if paused != Timestamp::START {
                first = first.min(paused);
            }
        }
        (first != Timestamp::NEVER).then_some(first)
    }

    /// Lets the clocks act.
    pub fn tick(&mut self, now: Timestamp) {
        for side in Side::BOTH {
            let peer = self.peers.of_mut(side);
            if peer.paused() <= now {
                peer.resume();
            }
        }
        loop {
            let (peers, tally) = (&self.peers, &self.tally);
            let sign = |side| sign(peers, tally, side);
            match self.clocks.ring(&self.terms, self.end.is_none(), sign, now) {
                None => return,
                Some(TimerFired::Idle) if self.is_delaying() => self.clocks.data = now,
                Some(TimerFired::Idle) => self.conclude(TerminationReason::Idle, now),
                Some(TimerFired::Heartbeat(side)) => {
                    self.conclude(TerminationReason::HeartbeatLost(side), now)
                }
                Some(TimerFired::Age(side)) => self.aged(side, now),
                Some(TimerFired::Lifetime) => self.old(now),
                Some(TimerFired::Stall(side)) => {
                    let last = side == Side::Backend || self.end.is_some();
                    let trickles = self.clocks.trickles(side);
                    let end = if trickles {
                        TerminationReason::WriteTrickle
                    } else {
                        TerminationReason::WriteStall
                    };
                    self.conclude(end(side), now);
                    // A client's Close waits behind what it has not taken; if it takes that in
                    // the grace, it learns why.
                    if last {
                        self.peers.forsake(side);
                    }
                }
                Some(TimerFired::Grace) => {
                    self.peers.grace_over();
                    // Whoever got its answer only now may take it, and say goodbye.
                    if !self.is_over() {
                        self.clocks.start_grace(self.terms.close_grace, now);
                    }
                }
            }
        }
    }

    /// How the stream to a side is to be treated now.
    #[inline]
    pub fn parting(&self, side: Side) -> Shutdown {
        // Whoever is let go of is the reason of an end.
        if self.end.is_none() { Shutdown::Stay } else { self.peers.parting(side) }
    }

    /// Whether reading from a side is still of use, if only to see its end.
    pub fn wants(&self, from: Side) -> bool {
        self.peers.of(from).is_open() && !self.is_over()
    }

    /// Whether what comes from the other side may still go to this one.
    #[inline]
    pub fn is_relayed_to(&self, to: Side) -> bool {
        matches!(self.peers.of(to).toward, SendState::Relay | SendState::Owed)
    }

    /// Whether a side came too fast, so that nothing is to be read from it for a while.
    #[inline]
    pub fn is_paused(&self, from: Side, now: Timestamp) -> bool {
        let paused = self.peers.of(from).paused();
        paused != Timestamp::START && paused > now
    }

    /// Why the session ends, as soon as that is known; the first cause wins.
    pub fn end(&self) -> Option<TerminationReason> {
        self.end
    }

    /// Nothing more is to be sent, read or waited for; [`Session::parting`] says how to let go.
    pub fn is_over(&self) -> bool {
        self.end.is_some() && self.peers.are_settled()
    }

    /// Whoever watches from here on is told where the frames of both sides stand.
    pub fn show(&self, trace: &mut FrameTrace) {
        for side in Side::BOTH {
            trace.begin(side, self.peers.of(side).meter.left_of_frame());
        }
    }

    /// What it is held to.
    pub fn terms(&self) -> &SessionPolicy {
        &self.terms
    }

    /// What was relayed so far.
    pub fn tally(&self) -> &Stats {
        &self.tally
    }

    /// How many of our pings a side has answered.
    #[inline]
    pub fn answers(&self, side: Side) -> u32 {
        self.clocks.pulse(side).map_or(0, Heartbeat::answers)
    }

    /// How fast a side answers our pings; `None` before its first answer.
    pub fn rtt(&self, side: Side) -> Option<Rtt> {
        self.clocks.pulse(side)?.rtt()
    }

    /// How long a side was not read because it came too fast, and by which limits.
    #[inline]
    pub fn delayed(&self, from: Side) -> ReadDelays {
        let (millis, by) = self.peers.of(from).delayed();
        ReadDelays { time: Duration::from_millis(u64::from(millis)), by }
    }

    /// What a side would have been closed for so far.
    #[inline]
    pub fn reported(&self, from: Side) -> ReportedViolations {
        self.peers.of(from).meter.reported
    }

    /// The Closes that went out so far.
    pub fn closes(&self) -> CloseCodes {
        CloseCodes {
            to_client: self.peers.client.close_code(),
            to_backend: self.peers.backend.close_code(),
        }
    }

    fn is_delaying(&self) -> bool {
        Side::BOTH.into_iter().any(|side| self.peers.of(side).is_paused())
    }

    #[inline]
    fn is_ping_due(&self, to: Side) -> bool {
        self.clocks.pulse(to).is_some_and(Heartbeat::is_due)
    }

    fn ping(
        &mut self,
        to: Side,
        now: Timestamp,
        entropy: &mut impl Entropy,
    ) -> Option<ControlFrame> {
        let due = self.end.is_none() && self.is_ping_due(to);
        // RFC 6455 5.4: between frames, never inside one.
        if !due || !self.peers.at_boundary(to) {
            return None;
        }
        let heartbeat = self.terms.heartbeat(to)?;
        let mut token = PingPayload::default();
        entropy.fill(&mut token);
        let bytes = heard(&self.tally, to);
        let token = self.clocks.pulse_mut(to)?.beat(heartbeat, token, bytes, now);
        Some(ControlFrame::ping(to, token, entropy))
    }

    fn close(
        &mut self,
        to: Side,
        farewell: CloseFrame,
        entropy: &mut impl Entropy,
    ) -> ControlFrame {
        let terms = &self.terms;
        let (code, reason) = match (farewell, self.end) {
            (CloseFrame::End, Some(end)) => (end.code_to(to, terms), end.reason_to(to, terms)),
            (CloseFrame::End, None) => (None, ""),
            (CloseFrame::Answer(code), _) => (code, ""),
        };
        self.peers.of_mut(to).sent_close(code);
        ControlFrame::close(to, code, reason, entropy)
    }

    /// Names the end unless it has a name, and gives the peers `close_grace` to see it through.
    fn name(&mut self, end: TerminationReason, now: Timestamp) -> bool {
        if self.end.is_some() {
            return false;
        }
        self.end = Some(end);
        self.clocks.start_grace(self.terms.close_grace, now);
        // What is in progress has only that long to come to its end.
        for side in Side::BOTH {
            self.peers.of_mut(side).resume();
        }
        true
    }

    /// Ends a session that nothing else has ended.
    fn conclude(&mut self, end: TerminationReason, now: Timestamp) {
        if self.name(end, now) {
            for side in Side::BOTH {
                self.peers.dismiss(side);
            }
        }
    }

    /// This side's frames can no longer be relayed.
    fn fail(&mut self, end: TerminationReason, from: Side, now: Timestamp) {
        self.conclude(end, now);
        self.peers.dry_up(from.other());
    }
}

/// How long a side was not read, so that it came no faster than it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadDelays {
    /// In all, in whole milliseconds.
    pub time: Duration,
    /// The limits that were met.
    pub by: ReportedViolations,
}

/// What a side's silence means.
fn sign(peers: &Peers, tally: &Stats, side: Side) -> PeerActivity {
    let waits = |side| peers.of(side).backlog > 0;
    PeerActivity {
        blocked: waits(Side::Client) || waits(Side::Backend),
        paused: peers.of(side).is_paused(),
        mid_frame: !peers.of(side).meter.at_boundary(),
        bytes: heard(tally, side),
    }
}

/// Bytes that came from a side and were relayed.
fn heard(tally: &Stats, from: Side) -> u64 {
    match from {
        Side::Client => tally.up.bytes,
        Side::Backend => tally.down.bytes,
    }
}

#[cfg(test)]
mod tests;
