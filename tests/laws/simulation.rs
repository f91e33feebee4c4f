//! A model of everything around a [`Session`]: two peers that speak lawfully or not, streams that
//! block, end and break, and time. The laws that every conversation must keep are asserted on the
//! way; the outcome is returned, so that two ways of playing a script can be compared.

use std::sync::Arc;
use std::time::Duration;

use ws::{Closes, End, Entropy, Intake, Moment, Parting, Session, Side, Sizes, Strict, Tally};

use crate::reference::{frame, frames};
use crate::script::{Event, Script, Which};

/// Plays a script twice, whole and chopped, and holds both against the laws and each other.
pub fn drive(script: &[u8]) -> Outcome {
    let whole = World::play(script, None);
    let seed = usize::from(script.first().copied().unwrap_or(0));
    let chopped = World::play(script, Some(seed));
    assert_eq!(whole, chopped, "chopping must not show");
    whole
}

/// What must not depend on chopping.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Why it ended.
    pub end: Option<End>,
    pub closes: Closes,
    pub tally: Tally,
    pub partings: [Parting; 2],
    received: [Vec<u8>; 2],
    at: Moment,
}

/// Nothing random at all, so that two runs agree; tokens differ from each other.
#[derive(Default)]
struct Counted(u8);

impl Entropy for Counted {
    fn fill(&mut self, bytes: &mut [u8]) {
        if bytes.len() == 8 {
            self.0 = self.0.wrapping_add(1);
        }
        bytes.fill(0xa0 ^ self.0);
    }
}

/// One side's stream.
#[derive(Default)]
struct Lane {
    /// Written by this side but not yet arrived.
    under_way: Vec<u8>,
    /// Arrived but not taken.
    unread: Vec<u8>,
    /// All that arrived and may be relayed: not the answers to our pings.
    relayable: Vec<u8>,
    /// All that was relayed of it.
    relayed: Vec<u8>,
    /// All that went out to this side.
    received: Vec<u8>,
    /// How much of that it has not taken.
    pending: usize,
    /// It takes nothing.
    blocked: bool,
    /// Its stream has ended.
    gone: bool,
    /// It has written its last lawful frame.
    muddled: bool,
    /// The pings it has not answered.
    pinged: Vec<Vec<u8>>,
    /// Its answer may lie among what is unread, and will not be relayed.
    answering: bool,
}

struct World {
    session: Session,
    entropy: Counted,
    now: Moment,
    lanes: [Lane; 2],
    chop: Option<usize>,
    end: Option<End>,
    grace: Duration,
    /// Frames that break a rule pass.
    lenient: bool,
}

impl World {
    fn play(script: &[u8], chop: Option<usize>) -> Outcome {
        let (terms, deflate, mut script) = Script::read(script);
        let (grace, lenient) = (terms.close_grace, terms.strict == Strict::Report);
        let mut entropy = Counted::default();
        let session = Session::new(Arc::new(terms), deflate, &mut entropy);
        let lanes = Default::default();
        let mut world =
            Self { session, entropy, now: Moment::START, lanes, chop, end: None, grace, lenient };
        while !world.session.is_over()
            && let Some(event) = script.event()
        {
            world.happen(event);
            world.check_relay();
        }
        world.finish()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Say { side, bytes, arriving, last } => self.say(side, &bytes, arriving, last),
            Event::Answer { side, which } => self.answer(side, which),
            Event::Wait(time) => self.wait(time),
            Event::Oversleep(time) => {
                self.now += time;
                self.pump();
                self.tick();
            }
            Event::Block { side, blocked } => {
                let lane = self.lane(side);
                lane.blocked = blocked;
                lane.pending /= 2;
            }
            Event::Drain => self.session.leave(End::Drained, None, self.now),
            Event::Abort => self.session.abort(self.now),
            Event::HangUp(side) => {
                let lane = self.lane(side);
                lane.gone = true;
                lane.unread.clear();
                self.session.hangup(side, self.now);
            }
        }
        self.pump();
    }

    fn say(&mut self, side: Side, bytes: &[u8], arriving: usize, last: bool) {
        let lane = self.lane(side);
        lane.muddled |= last;
        lane.under_way.extend(bytes);
        let arriving = arriving.min(lane.under_way.len());
        let arriving: Vec<u8> = lane.under_way.drain(..arriving).collect();
        if !lane.gone {
            lane.relayable.extend(&arriving);
            self.arrive(side, &arriving);
        }
    }

    fn arrive(&mut self, side: Side, bytes: &[u8]) {
        let mut rest = bytes;
        let mut round = 0;
        while !rest.is_empty() {
            let len = match self.chop {
                Some(seed) => 1 + (seed + round * 7) % 13 + rest.len() / 500,
                None => rest.len(),
            };
            let (chunk, later) = rest.split_at(len.min(rest.len()));
            self.lane(side).unread.extend(chunk);
            self.pump();
            (rest, round) = (later, round + 1);
        }
    }

    fn answer(&mut self, side: Side, which: Which) {
        let lane = self.lane(side);
        if lane.gone || lane.muddled || !lane.under_way.is_empty() {
            return;
        }
        // RFC 6455 5.5.3: all may be answered, or only the last.
        let upto = match which {
            Which::First => 1.min(lane.pinged.len()),
            Which::Last => lane.pinged.len(),
            Which::None => 0,
        };
        let ping = lane.pinged.drain(..upto).next_back();
        if let Some(payload) = ping {
            lane.answering = true;
            self.arrive(side, &frame(side, 0x8a, &payload));
        } else {
            let mut payload = lane.pinged.last().cloned().unwrap_or_else(|| vec![7; 8]);
            payload[7] ^= 1;
            let pong = frame(side, 0x8a, &payload);
            lane.relayable.extend(&pong);
            self.arrive(side, &pong);
        }
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.session.deadline().filter(|at| *at <= until) {
            assert!(at >= self.now, "a deadline in the past");
            self.now = at;
            self.tick();
        }
        self.now = until;
    }

    fn tick(&mut self) {
        self.session.tick(self.now);
        assert!(self.session.deadline().is_none_or(|at| at > self.now), "a tick that does nothing");
        self.pump();
    }

    /// What a driver does in one round, until nothing moves.
    fn pump(&mut self) {
        for from in Side::BOTH {
            self.inject();
            loop {
                let input = std::mem::take(&mut self.lane(from).unread);
                if input.is_empty() {
                    break;
                }
                let mut sizes = Sizes::default();
                let verdict = self.session.intake(from, &input, self.now, &mut sizes);
                let taken = self.apply(from, &input, verdict);
                self.lane(from).unread = input[taken..].to_vec();
                self.inject();
                let paused = verdict == Intake::Paused;
                assert_eq!(paused, self.session.is_paused(from, self.now) && taken == 0);
                assert!(!paused || self.session.deadline().is_some(), "a pause without an end");
                if taken == 0 {
                    assert!(paused || input.len() < 140, "{} bytes undecided", input.len());
                    break;
                }
            }
        }
        for side in Side::BOTH {
            let lane = self.lane(side);
            lane.pending = if lane.blocked { lane.pending } else { 0 };
            let pending = lane.pending;
            self.session.written(side, pending, self.now);
        }
        self.check_end();
    }

    fn apply(&mut self, from: Side, input: &[u8], verdict: Intake) -> usize {
        let (len, passes) = match verdict {
            Intake::Forward(len) => (len, true),
            Intake::Discard(len) => (len, false),
            Intake::Starved | Intake::Paused => return 0,
        };
        assert!(len > 0 && len <= input.len());
        if passes {
            self.lane(from).relayed.extend(&input[..len]);
            self.receive(from.other(), &input[..len]);
        }
        len
    }

    fn inject(&mut self) {
        for to in Side::BOTH {
            while let Some(own) = self.session.inject(to, self.now, &mut self.entropy) {
                let (before, cut) = frames(&self.lane(to).received);
                assert_eq!(cut, 0, "{to:?} got a frame of ours inside another");
                assert!(before.iter().all(|frame| frame.first != 0x88));
                let (sent, left) = frames(own.as_bytes());
                assert_eq!((sent.len(), left), (1, 0), "one whole frame");
                if sent[0].first == 0x89 {
                    self.lane(to).pinged.push(sent[0].payload.clone());
                }
                self.receive(to, own.as_bytes());
            }
        }
    }

    fn receive(&mut self, to: Side, bytes: &[u8]) {
        let lane = self.lane(to);
        lane.received.extend(bytes);
        lane.pending += bytes.len();
    }

    fn lane(&mut self, side: Side) -> &mut Lane {
        &mut self.lanes[side as usize]
    }

    /// One end, and what is over stays over.
    fn check_end(&mut self) {
        let end = self.session.end();
        assert!(self.end.is_none() || self.end == end, "{:?} became {end:?}", self.end);
        self.end = end;
        if self.session.is_over() {
            assert!(end.is_some() && self.session.deadline().is_none());
            for side in Side::BOTH {
                assert!(!self.session.wants(side));
                assert_ne!(self.session.parting(side), Parting::Stay);
            }
        }
    }

    /// What went through is what came in: all of it while the session lives, then a beginning.
    fn check_relay(&mut self) {
        let tally = *self.session.tally();
        for (side, flow) in Side::BOTH.into_iter().zip([tally.up, tally.down]) {
            let (live, lenient) = (self.end.is_none(), self.lenient);
            let paused = self.session.is_paused(side, self.now);
            let lane = self.lane(side);
            assert!(lane.relayable.starts_with(&lane.relayed), "{side:?} was not relayed verbatim");
            let (whole, cut) = frames(&lane.relayed);
            let messages = whole.iter().filter(|frame| frame.first & 0x88 == 0x80);
            assert_eq!(flow.bytes, lane.relayed.len() as u64);
            if !lenient {
                assert_eq!(flow.messages, messages.count() as u64);
            }
            lane.answering &= !lane.unread.is_empty();
            if live && !lane.answering {
                let waiting = lane.relayable.len() - lane.relayed.len();
                assert!(lane.relayable.ends_with(&lane.unread) && waiting == lane.unread.len());
                assert!(cut == 0 || waiting == 0 || paused, "undecided inside a frame");
            }
        }
    }

    /// Whatever has happened: told to leave, the session is over soon.
    fn finish(mut self) -> Outcome {
        self.session.leave(End::Drained, None, self.now);
        self.pump();
        let last = self.now;
        while let Some(at) = self.session.deadline() {
            self.now = at;
            self.tick();
        }
        assert!(self.session.is_over(), "no deadline, and not over");
        assert!(self.now <= last + 2 * self.grace, "over after {:?}", self.now - last);
        self.check_relay();
        let judged = if self.lenient { &[][..] } else { &Side::BOTH };
        for side in judged.iter().copied() {
            self.check_received(side);
        }
        Outcome {
            end: self.end,
            closes: self.session.closes(),
            tally: *self.session.tally(),
            partings: Side::BOTH.map(|side| self.session.parting(side)),
            received: self.lanes.map(|lane| lane.received),
            at: self.now,
        }
    }

    /// A side got whole lawful frames, and a Close at their end unless there was no way.
    fn check_received(&mut self, side: Side) {
        let closes = self.session.closes();
        let sent = match side {
            Side::Client => closes.to_client,
            Side::Backend => closes.to_backend,
        };
        let aborted = Side::BOTH.map(|side| self.session.parting(side) == Parting::Abort);
        let other_gone = self.lane(side.other()).gone;
        // What is too old, or turns out too large, may be so in the middle of a frame.
        let faulted = matches!(self.end, Some(End::Over(of, _)) if of == side.other());
        let lane = self.lane(side);
        let (whole, cut) = frames(&lane.received);
        assert!(whole.iter().all(|frame| frame.masked == (side == Side::Backend)));
        let close = whole.iter().position(|frame| frame.first == 0x88);
        let code = close.map(|at| {
            assert_eq!((at + 1, cut), (whole.len(), 0), "something follows a Close");
            whole[at].payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code))
        });
        assert_eq!(code, sent);
        if cut > 0 {
            let needed = other_gone || faulted || aborted.contains(&true);
            assert!(needed, "{side:?} was cut without need");
        } else if close.is_none() {
            assert!(lane.gone || aborted[side as usize], "{side:?} got no Close");
        }
    }
}
