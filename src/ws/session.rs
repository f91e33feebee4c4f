//! One conversation: both directions, all clocks, and the one cause it ends by. It says which
//! bytes may go where, hands out the few frames of our own, and says when to let go of each side;
//! whoever drives it moves the bytes and decides nothing.

use std::sync::Arc;
use std::time::Instant;

use super::clocks::{Alarm, Clocks, Sign};
use super::close::CloseCode;
use super::end::End;
use super::header::ControlFrame;
use super::limits::Terms;
use super::meter::{Cut, Run, Token, Watch};
use super::peers::{Farewell, Parting, Peers, Toward, Voice};
use super::tally::{Closes, Tally};
use super::{Entropy, Side};

/// The state of one conversation after the 101; under 300 bytes, no heap but the shared terms.
///
/// In each round the driver writes what is pending, asks [`Session::inject`] for each side, hands
/// what it read to [`Session::intake`] until nothing is left or the rest is starved, asking
/// `inject` again in between, reports with [`Session::written`], and calls [`Session::tick`] last,
/// so that what already lies in a socket counts before the clocks do.
#[derive(Debug)]
pub struct Session {
    terms: Arc<Terms>,
    peers: Peers,
    clocks: Clocks,
    tally: Tally,
    end: Option<End>,
}

/// What to do with the first bytes of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    /// So many (never 0) go out to the other side, verbatim.
    Forward(usize),
    /// So many (never 0) go nowhere.
    Discard(usize),
    /// Fewer than 140 bytes that cannot be decided: keep them, offer them again with more behind.
    Starved,
}

impl Session {
    /// A conversation that begins now. `deflate`: permessage-deflate was agreed on, so that RSV1
    /// is lawful. `entropy` spreads the first ping.
    pub fn new(terms: Arc<Terms>, deflate: bool, now: Instant, entropy: &mut impl Entropy) -> Self {
        let mut jitter = [0; 4];
        entropy.fill(&mut jitter);
        let clocks = Clocks::new(&terms, now, u32::from_ne_bytes(jitter));
        let peers = Peers::new(deflate);
        Self { terms, peers, clocks, tally: Tally::default(), end: None }
    }

    /// Judges the first bytes of what came from a side. `input` is not empty, begins where the
    /// last verdict stopped, and after [`Intake::Starved`] is longer than it was.
    pub fn intake(&mut self, from: Side, input: &[u8], now: Instant) -> Intake {
        if input.is_empty() {
            return Intake::Starved;
        }
        let peer = self.peers.of(from);
        if peer.voice != Voice::Speaks || peer.reset {
            return Intake::Discard(input.len());
        }
        match self.peers.of(from.other()).toward {
            Toward::Relay | Toward::Owed => self.relay(from, input, now),
            Toward::Ready(_) | Toward::Sent(_) | Toward::Cut => self.listen(from, input),
        }
    }

    /// A frame of our own for a side: written next, before any other byte that [`Session::intake`]
    /// lets through to it. `None`: nothing is due, or a frame in progress must be finished first.
    pub fn inject(
        &mut self,
        to: Side,
        now: Instant,
        entropy: &mut impl Entropy,
    ) -> Option<ControlFrame> {
        let frame = match self.peers.of(to).toward {
            Toward::Relay if to == Side::Client => self.ping(now, entropy)?,
            Toward::Ready(farewell) => self.close(to, farewell, entropy),
            Toward::Relay | Toward::Owed | Toward::Sent(_) | Toward::Cut => return None,
        };
        self.peers.of_mut(to).queue(frame.as_bytes().len());
        Some(frame)
    }

    /// A side's stream ended (EOF, truncation or reset), after all that came before was taken in.
    /// Called a second time it says that the side cannot be written to either.
    pub fn hangup(&mut self, from: Side, now: Instant) {
        if self.peers.of(from).eof {
            self.peers.reset(from);
            return;
        }
        self.peers.of_mut(from).eof = true;
        let end = match from {
            Side::Client => End::ClientGone,
            Side::Backend => End::BackendGone,
        };
        if self.name(end, now) {
            self.peers.dismiss(from.other());
            match from {
                // What the backend still has to say may be delivered to a half-closed client.
                Side::Client => {}
                Side::Backend => self.peers.backend.toward = Toward::Cut,
            }
        }
        self.peers.dry_up(from.other());
    }

    /// After each round of writing: so many bytes still wait for this side. Until it says 0, what
    /// was let through or injected counts as waiting.
    pub fn written(&mut self, to: Side, backlog: usize, now: Instant) {
        let peer = self.peers.of_mut(to);
        let moved = backlog < peer.backlog;
        peer.backlog = backlog;
        if backlog == 0 || peer.reset {
            self.clocks.stop_stall(to);
        } else {
            self.clocks.run_stall(to, moved, self.terms.write_stall, now);
        }
    }

    /// The proxy leaves: both sides get their Close at the next boundary.
    pub fn drain(&mut self, now: Instant) {
        self.conclude(End::Drained, now);
    }

    /// Cuts both sides at once.
    pub fn abort(&mut self, now: Instant) {
        self.name(End::Aborted, now);
        for side in Side::BOTH {
            self.peers.reset(side);
        }
    }

    /// When [`Session::tick`] has something to do; after a tick it lies in the future.
    pub fn deadline(&self) -> Option<Instant> {
        if self.is_over() {
            return None;
        }
        self.clocks.deadline(&self.terms, self.end.is_none())
    }

    /// Lets the clocks act.
    pub fn tick(&mut self, now: Instant) {
        loop {
            let sign = Sign {
                blocked: self.peers.client.backlog > 0 || self.peers.backend.backlog > 0,
                mid_frame: !self.peers.client.meter.at_boundary(),
                bytes: self.tally.up.bytes,
            };
            match self.clocks.ring(&self.terms, self.end.is_none(), sign, now) {
                None => return,
                Some(Alarm::Idle) => self.conclude(End::Idle, now),
                Some(Alarm::Heartbeat) => self.conclude(End::HeartbeatLost, now),
                Some(Alarm::Stall(side)) => {
                    self.conclude(End::WriteStall(side), now);
                    self.peers.forsake(side);
                }
                Some(Alarm::Grace) => {
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
    pub fn parting(&self, side: Side) -> Parting {
        self.peers.parting(side)
    }

    /// Whether reading from a side is still of use, if only to see its end.
    pub fn wants(&self, from: Side) -> bool {
        self.peers.of(from).is_open() && !self.is_over()
    }

    /// Why the session ends, as soon as that is known; the first cause wins.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// Nothing more is to be sent, read or waited for; [`Session::parting`] says how to let go.
    pub fn is_over(&self) -> bool {
        self.end.is_some() && self.peers.are_settled()
    }

    /// What was relayed so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The Closes that went out so far.
    pub fn closes(&self) -> Closes {
        Closes {
            to_client: self.peers.client.close_code(),
            to_backend: self.peers.backend.close_code(),
        }
    }

    /// Intake while the other side still gets what is lawful.
    fn relay(&mut self, from: Side, input: &[u8], now: Instant) -> Intake {
        let watch = self.watch(from);
        match self.peers.of_mut(from).meter.cut(input, &watch) {
            Cut::Pass(run) => {
                self.forward(from, run, now);
                Intake::Forward(run.len)
            }
            Cut::Own(len) => {
                self.clocks.pulse.answered(self.terms.heartbeat, now);
                Intake::Discard(len)
            }
            Cut::Close { len, code } => self.relay_close(from, len, code, now),
            Cut::Starved => Intake::Starved,
            Cut::TooBig => {
                self.fail(End::MessageTooBig(from), from, now);
                self.listen(from, input)
            }
            Cut::Breach(breach) => {
                self.peers.of_mut(from).voice = Voice::Broken;
                self.fail(End::Breach(from, breach), from, now);
                Intake::Discard(input.len())
            }
        }
    }

    /// Intake while nothing of it goes anywhere: only its Close is of interest.
    fn listen(&mut self, from: Side, input: &[u8]) -> Intake {
        let watch = Watch { message_max: u64::MAX, awaited: None, one_frame: false };
        let peer = self.peers.of_mut(from);
        match peer.meter.cut(input, &watch) {
            Cut::Pass(Run { len, .. }) | Cut::Own(len) => Intake::Discard(len),
            Cut::Starved => Intake::Starved,
            Cut::Close { len, code } => {
                peer.voice = Voice::Closed(code);
                Intake::Discard(len)
            }
            Cut::TooBig | Cut::Breach(_) => {
                peer.voice = Voice::Broken;
                Intake::Discard(input.len())
            }
        }
    }

    fn watch(&self, from: Side) -> Watch {
        let (message_max, awaited, one_frame) = match from {
            Side::Client => (
                self.terms.message_from_client_max,
                self.clocks.pulse.awaited(),
                self.peers.backend.toward == Toward::Owed,
            ),
            Side::Backend => (
                self.terms.message_from_backend_max,
                None,
                self.peers.client.toward == Toward::Owed || self.ping_is_due(),
            ),
        };
        Watch { message_max: message_max.unwrap_or(u64::MAX), awaited, one_frame }
    }

    fn forward(&mut self, from: Side, run: Run, now: Instant) {
        let flow = match from {
            Side::Client => &mut self.tally.up,
            Side::Backend => &mut self.tally.down,
        };
        flow.bytes += run.len as u64;
        flow.messages += run.messages;
        if run.data {
            self.clocks.data = now;
        }
        let boundary = self.peers.of(from).meter.at_boundary();
        let to = self.peers.of_mut(from.other());
        to.queue(run.len);
        if boundary && to.toward == Toward::Owed {
            to.toward = Toward::Ready(Farewell::End);
        }
    }

    fn relay_close(
        &mut self,
        from: Side,
        len: usize,
        code: Option<CloseCode>,
        now: Instant,
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
        self.forward(from, Run { len, messages: 0, data: false }, now);
        Intake::Forward(len)
    }

    fn ping_is_due(&self) -> bool {
        self.end.is_none() && self.clocks.pulse.is_due()
    }

    fn ping(&mut self, now: Instant, entropy: &mut impl Entropy) -> Option<ControlFrame> {
        let heartbeat = self.terms.heartbeat?;
        // RFC 6455 5.4: between frames, never inside one.
        if !self.ping_is_due() || !self.peers.at_boundary(Side::Client) {
            return None;
        }
        let mut token = Token::default();
        entropy.fill(&mut token);
        self.clocks.pulse.beat(heartbeat, token, self.tally.up.bytes, now);
        Some(ControlFrame::ping(token))
    }

    fn close(&mut self, to: Side, farewell: Farewell, entropy: &mut impl Entropy) -> ControlFrame {
        let (code, reason) = match (farewell, self.end) {
            (Farewell::End, Some(end)) => (end.code_to(to, &self.terms), end.reason_to(to)),
            (Farewell::End, None) => (None, ""),
            (Farewell::Answer(code), _) => (code, ""),
        };
        self.peers.of_mut(to).sent_close(code);
        ControlFrame::close(to, code, reason, entropy)
    }

    /// Names the end unless it has a name, and gives the peers `close_grace` to see it through.
    fn name(&mut self, end: End, now: Instant) -> bool {
        if self.end.is_some() {
            return false;
        }
        self.end = Some(end);
        self.clocks.start_grace(self.terms.close_grace, now);
        true
    }

    /// Ends a session that nothing else has ended.
    fn conclude(&mut self, end: End, now: Instant) {
        if self.name(end, now) {
            for side in Side::BOTH {
                self.peers.dismiss(side);
            }
        }
    }

    /// This side's frames can no longer be relayed.
    fn fail(&mut self, end: End, from: Side, now: Instant) {
        self.conclude(end, now);
        self.peers.dry_up(from.other());
    }
}

#[cfg(test)]
mod tests;
