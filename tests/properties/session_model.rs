//! A model of the environment of a [`Session`]: two peers that send valid or invalid frames, streams
//! that block, end and fail, and time. It asserts the invariants at every step and returns the
//! outcome, so that two runs of a script can be compared.

use std::sync::Arc;
use std::time::Duration;

use ws::{
    CloseCodes, Limits, MessageSizes, RecvAction, Session, SessionClose, Shutdown, Side, Stats,
    Strictness, TerminationReason, Timestamp,
};

use crate::reference::{frame, frames};
use crate::script::{CountingEntropy, Event, Script, Which};

/// Runs a script twice, once with all input split into small pieces, and compares the outcomes.
pub fn drive(script: &[u8]) -> Outcome {
    let whole = Model::run(script, None);
    let seed = usize::from(script.first().copied().unwrap_or(0));
    let split = Model::run(script, Some(seed));
    assert_eq!(whole, split, "splitting changed the outcome");
    whole
}

/// The results that must not depend on how the input is split.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Why the session ended.
    pub end: Option<TerminationReason>,
    pub closes: CloseCodes,
    pub tally: Stats,
    pub partings: [Shutdown; 2],
    received: [Vec<u8>; 2],
    at: Timestamp,
}

/// The stream of one side.
#[derive(Default)]
struct Stream {
    /// Sent by this side, not yet arrived.
    in_flight: Vec<u8>,
    /// Arrived, not yet consumed.
    unread: Vec<u8>,
    /// Everything that arrived and may be relayed; pongs to the proxy's pings are not.
    relayable: Vec<u8>,
    /// The part of it that was relayed.
    relayed: Vec<u8>,
    /// Everything sent to this side.
    received: Vec<u8>,
    /// How much of that this side has not read.
    pending: usize,
    /// Does not read.
    blocked: bool,
    /// The stream has ended.
    gone: bool,
    /// This side has sent its last valid frame.
    invalid: bool,
    /// The pings this side has not answered.
    pinged: Vec<Vec<u8>>,
    /// The unread bytes may contain a pong that will not be relayed.
    answering: bool,
}

struct Model {
    session: Session,
    entropy: CountingEntropy,
    now: Timestamp,
    streams: [Stream; 2],
    piece_seed: Option<usize>,
    end: Option<TerminationReason>,
    ended: Option<Timestamp>,
    grace: Duration,
    /// Frames that violate a rule pass.
    lenient: bool,
    /// Whether a valid frame of each side may exceed a limit.
    limited: [bool; 2],
}

impl Model {
    fn run(script: &[u8], piece_seed: Option<usize>) -> Outcome {
        let (terms, deflate, mut script) = Script::read(script);
        let (grace, lenient) = (terms.close_grace, terms.strict == Strictness::Report);
        let limited = Side::BOTH.map(|side| *terms.limits(side) != Limits::default());
        let mut entropy = CountingEntropy::default();
        let session = Session::new(Arc::new(terms), deflate, Duration::ZERO, &mut entropy);
        let streams = Default::default();
        let mut model = Self {
            session,
            entropy,
            now: Timestamp::START,
            streams,
            piece_seed,
            end: None,
            ended: None,
            grace,
            lenient,
            limited,
        };
        while !model.session.is_finished()
            && let Some(event) = script.event()
        {
            model.apply_event(event);
            model.check_relay();
        }
        model.finish()
    }

    fn apply_event(&mut self, event: Event) {
        match event {
            Event::Send { side, bytes, arriving, last } => self.send(side, &bytes, arriving, last),
            Event::Answer { side, which } => self.answer(side, which),
            Event::Wait(time) => self.wait(time),
            Event::WaitLate(time) => {
                self.now += time;
                self.pump();
                self.tick();
            }
            Event::Block { side, blocked } => {
                let stream = self.stream(side);
                stream.blocked = blocked;
                stream.pending /= 2;
            }
            Event::Drain => {
                self.session.close(&SessionClose::new(TerminationReason::Drained), self.now)
            }
            Event::Abort => self.session.abort(self.now),
            Event::Eof(side) => {
                let stream = self.stream(side);
                stream.gone = true;
                stream.unread.clear();
                self.session.handle_eof(side, self.now);
            }
        }
        self.pump();
    }

    fn send(&mut self, side: Side, bytes: &[u8], arriving: usize, last: bool) {
        let stream = self.stream(side);
        stream.invalid |= last;
        stream.in_flight.extend(bytes);
        let arriving = arriving.min(stream.in_flight.len());
        let arriving: Vec<u8> = stream.in_flight.drain(..arriving).collect();
        if !stream.gone {
            stream.relayable.extend(&arriving);
            self.arrive(side, &arriving);
        }
    }

    fn arrive(&mut self, side: Side, bytes: &[u8]) {
        let mut rest = bytes;
        let mut round = 0;
        while !rest.is_empty() {
            let len = match self.piece_seed {
                Some(seed) => 1 + (seed + round * 7) % 13 + rest.len() / 500,
                None => rest.len(),
            };
            let (chunk, later) = rest.split_at(len.min(rest.len()));
            self.stream(side).unread.extend(chunk);
            self.pump();
            (rest, round) = (later, round + 1);
        }
    }

    fn answer(&mut self, side: Side, which: Which) {
        let stream = self.stream(side);
        if stream.gone || stream.invalid || !stream.in_flight.is_empty() {
            return;
        }
        // RFC 6455 5.5.3: a peer may answer every ping or only the last.
        let upto = match which {
            Which::First => 1.min(stream.pinged.len()),
            Which::Last => stream.pinged.len(),
            Which::None => 0,
        };
        let ping = stream.pinged.drain(..upto).next_back();
        if let Some(payload) = ping {
            stream.answering = true;
            self.arrive(side, &frame(side, 0x8a, &payload));
        } else {
            let mut payload = stream.pinged.last().cloned().unwrap_or_else(|| vec![7; 8]);
            payload[7] ^= 1;
            let pong = frame(side, 0x8a, &payload);
            stream.relayable.extend(&pong);
            self.arrive(side, &pong);
        }
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.session.poll_timeout().filter(|at| *at <= until) {
            assert!(at >= self.now, "a deadline in the past");
            self.now = at;
            self.tick();
        }
        self.now = until;
    }

    fn tick(&mut self) {
        self.session.handle_timeout(self.now);
        assert!(
            self.session.poll_timeout().is_none_or(|at| at > self.now),
            "a timer that fires without effect"
        );
        self.pump();
    }

    /// Does one round of a driver's work, until nothing changes.
    fn pump(&mut self) {
        for from in Side::BOTH {
            self.inject();
            loop {
                let input = std::mem::take(&mut self.stream(from).unread);
                if input.is_empty() {
                    break;
                }
                let mut sizes = MessageSizes::default();
                let verdict = self.session.handle_recv(from, &input, self.now, &mut sizes);
                let taken = self.apply(from, &input, verdict);
                self.stream(from).unread = input[taken..].to_vec();
                self.inject();
                let paused = verdict == RecvAction::Paused;
                assert_eq!(paused, self.session.is_paused(from, self.now) && taken == 0);
                assert!(
                    !paused || self.session.poll_timeout().is_some(),
                    "paused without a deadline"
                );
                if taken == 0 {
                    assert!(paused || input.len() < 140, "{} bytes undecided", input.len());
                    break;
                }
            }
        }
        for side in Side::BOTH {
            let stream = self.stream(side);
            stream.pending = if stream.blocked { stream.pending } else { 0 };
            let pending = stream.pending;
            self.session.handle_written(side, pending, self.now);
        }
        self.check_end();
    }

    fn apply(&mut self, from: Side, input: &[u8], verdict: RecvAction) -> usize {
        let (len, passes) = match verdict {
            RecvAction::Forward(len) => (len, true),
            RecvAction::Discard(len) => (len, false),
            RecvAction::Incomplete | RecvAction::Paused => return 0,
        };
        assert!(len > 0 && len <= input.len());
        if passes {
            self.stream(from).relayed.extend(&input[..len]);
            self.receive(from.other(), &input[..len]);
        }
        len
    }

    fn inject(&mut self) {
        for to in Side::BOTH {
            while let Some(own) = self.session.poll_control(to, self.now, &mut self.entropy) {
                let (before, cut) = frames(&self.stream(to).received);
                assert_eq!(cut, 0, "{to:?} got an injected frame inside another");
                assert!(before.iter().all(|frame| frame.first != 0x88));
                let (sent, left) = frames(own.as_bytes());
                assert_eq!((sent.len(), left), (1, 0), "not one whole frame");
                if sent[0].first == 0x89 {
                    self.stream(to).pinged.push(sent[0].payload.clone());
                } else {
                    self.check_close(to);
                }
                self.receive(to, own.as_bytes());
            }
        }
    }

    fn receive(&mut self, to: Side, bytes: &[u8]) {
        let stream = self.stream(to);
        stream.received.extend(bytes);
        stream.pending += bytes.len();
    }

    fn stream(&mut self, side: Side) -> &mut Stream {
        &mut self.streams[side as usize]
    }

    /// The reason never changes, and a finished session stays finished.
    fn check_end(&mut self) {
        let end = self.session.termination();
        assert!(self.end.is_none() || self.end == end, "{:?} became {end:?}", self.end);
        self.end = end;
        self.ended = self.ended.or(end.map(|_| self.now));
        if self.session.is_finished() {
            assert!(end.is_some() && self.session.poll_timeout().is_none());
            for side in Side::BOTH {
                assert!(!self.session.wants_read(side));
                assert_ne!(self.session.shutdown(side), Shutdown::KeepOpen);
            }
        }
    }

    /// A Close to a side that violated a rule follows all that the other side sent before its own
    /// Close, unless the other side ends, stops reading, violates a rule itself, or takes longer than
    /// the grace.
    fn check_close(&mut self, to: Side) {
        use TerminationReason::{LimitExceeded, ProtocolError};
        let end = self.session.termination();
        let at_fault =
            matches!(end, Some(LimitExceeded(side, _) | ProtocolError(side, _)) if side == to);
        let in_grace = self.ended.is_none_or(|ended| self.now - ended < self.grace);
        let limited = self.limited[to.other() as usize];
        let stalled = self.session.shutdown(to.other()) == Shutdown::Abort;
        let other = self.stream(to.other());
        if at_fault && in_grace && !limited && !stalled && !other.gone && !other.invalid {
            let unrelayed = &other.relayable[other.relayed.len()..];
            assert_eq!(unrelayed.first(), Some(&0x88), "a Close overtakes what was sent before");
        }
    }

    /// The output equals the input while the session is open, and is a prefix of it afterwards.
    fn check_relay(&mut self) {
        let tally = *self.session.stats();
        for (side, flow) in Side::BOTH.into_iter().zip([tally.up, tally.down]) {
            let (live, lenient) = (self.end.is_none(), self.lenient);
            let paused = self.session.is_paused(side, self.now);
            let stream = self.stream(side);
            assert!(
                stream.relayable.starts_with(&stream.relayed),
                "{side:?} was not relayed verbatim"
            );
            let (whole, cut) = frames(&stream.relayed);
            let messages = whole.iter().filter(|frame| frame.first & 0x88 == 0x80);
            assert_eq!(flow.bytes, stream.relayed.len() as u64);
            if !lenient {
                assert_eq!(flow.messages, messages.count() as u64);
            }
            stream.answering &= !stream.unread.is_empty();
            if live && !stream.answering {
                let waiting = stream.relayable.len() - stream.relayed.len();
                assert!(
                    stream.relayable.ends_with(&stream.unread) && waiting == stream.unread.len()
                );
                assert!(cut == 0 || waiting == 0 || paused, "undecided inside a frame");
            }
        }
    }

    /// Drains the session: it must be finished within the close grace, whatever happened before.
    fn finish(mut self) -> Outcome {
        self.session.close(&SessionClose::new(TerminationReason::Drained), self.now);
        self.pump();
        let last = self.now;
        while let Some(at) = self.session.poll_timeout() {
            self.now = at;
            self.tick();
        }
        assert!(self.session.is_finished(), "not finished, and no deadline");
        assert!(self.now <= last + 2 * self.grace, "finished after {:?}", self.now - last);
        self.check_relay();
        let checked = if self.lenient { &[][..] } else { &Side::BOTH };
        for side in checked.iter().copied() {
            self.check_received(side);
        }
        Outcome {
            end: self.end,
            closes: self.session.close_codes(),
            tally: *self.session.stats(),
            partings: Side::BOTH.map(|side| self.session.shutdown(side)),
            received: self.streams.map(|stream| stream.received),
            at: self.now,
        }
    }

    /// A side received whole valid frames, and a final Close unless it could not be sent.
    fn check_received(&mut self, side: Side) {
        let closes = self.session.close_codes();
        let sent = match side {
            Side::Client => closes.to_client,
            Side::Backend => closes.to_backend,
        };
        let aborted = Side::BOTH.map(|side| self.session.shutdown(side) == Shutdown::Abort);
        let other_gone = self.stream(side.other()).gone;
        // Limits of age and inflated size may be exceeded inside a frame.
        let over_limit =
            matches!(self.end, Some(TerminationReason::LimitExceeded(of, _)) if of == side.other());
        let stream = self.stream(side);
        let (whole, cut) = frames(&stream.received);
        assert!(whole.iter().all(|frame| frame.masked == (side == Side::Backend)));
        let close = whole.iter().position(|frame| frame.first == 0x88);
        let code = close.map(|at| {
            assert_eq!((at + 1, cut), (whole.len(), 0), "something follows a Close");
            whole[at].payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code))
        });
        assert_eq!(code, sent);
        if cut > 0 {
            let needed = other_gone || over_limit || aborted.contains(&true);
            assert!(needed, "{side:?} was cut inside a frame");
        } else if close.is_none() {
            assert!(stream.gone || aborted[side as usize], "{side:?} got no Close");
        }
    }
}
