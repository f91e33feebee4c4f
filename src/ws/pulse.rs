//! The heartbeat of one side: when to ping it, whether it lives, and how fast it answers
//! (RFC 6455 5.5.2).

use std::time::Duration;

use super::cut::Token;
use super::limits::Heartbeat;
use super::moment::{Moment, nanos, part};
use super::tally::Rtt;

/// At most one ping in flight, but where its pong cannot come because the side is not read: then
/// the same one goes out again, for TCP to find out whether anybody is still there.
#[derive(Clone, Debug)]
pub(super) struct Pulse {
    phase: Phase,
    rtt: Option<Measured>,
    /// Pongs to the last ping that may still come.
    strays: u16,
    token: Token,
}

#[derive(Clone, Debug)]
enum Phase {
    /// Until the next ping.
    Resting { until: Moment },
    /// A ping wants to go out at the next boundary. Patience starts only then: a long frame in
    /// progress must not look like a dead peer.
    Due,
    /// A pong is awaited.
    Out {
        sent: Moment,
        until: Moment,
        /// [`Sign::bytes`] at the last check.
        bytes: u64,
        /// The one excuse for our own sleep is spent.
        excused: bool,
        /// The side was not read meanwhile.
        delayed: Delayed,
    },
}

/// Whether a pong may lie behind what is not read yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delayed {
    No,
    Yes,
    /// And the ping wants to go out again.
    Again,
}

/// In microseconds, up to an hour.
#[derive(Clone, Copy, Debug)]
struct Measured {
    last: u32,
    max: u32,
    answers: u32,
}

/// What is known of a side's life when its pong is overdue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sign {
    /// Bytes wait for it, our ping perhaps behind them, or for the other side, so that it is not
    /// read from. Other clocks watch over both.
    pub(super) blocked: bool,
    /// It came too fast, and is not read from.
    pub(super) paused: bool,
    /// It is in the middle of a frame, where it cannot answer.
    pub(super) mid_frame: bool,
    /// Bytes that came from it, ever.
    pub(super) bytes: u64,
}

impl Pulse {
    /// The first ping comes after half to a whole interval, so that many sessions that begin
    /// together do not ping together.
    pub(super) fn new(heartbeat: Heartbeat, random: u32) -> Self {
        let half = heartbeat.interval / 2;
        let phase = Phase::Resting { until: Moment::at(half + part(half, random)) };
        Self { phase, rtt: None, strays: 0, token: Token::default() }
    }

    #[inline]
    pub(super) fn is_due(&self) -> bool {
        matches!(self.phase, Phase::Due | Phase::Out { delayed: Delayed::Again, .. })
    }

    /// The payload of the pong that is awaited.
    #[inline]
    pub(super) fn awaited(&self) -> Option<Token> {
        let awaited = self.strays > 0 || matches!(self.phase, Phase::Out { .. });
        awaited.then_some(self.token)
    }

    /// How often it has answered.
    #[inline]
    pub(super) fn answers(&self) -> u32 {
        self.rtt.map_or(0, |rtt| rtt.answers)
    }

    /// How fast it answers.
    pub(super) fn rtt(&self) -> Option<Rtt> {
        let micros = |micros| Duration::from_micros(u64::from(micros));
        self.rtt.map(|rtt| Rtt {
            last: micros(rtt.last),
            max: micros(rtt.max),
            answers: rtt.answers,
        })
    }

    /// The ping goes out, with this payload if it is a new one; its payload.
    pub(super) fn beat(
        &mut self,
        heartbeat: Heartbeat,
        token: Token,
        bytes: u64,
        now: Moment,
    ) -> Token {
        if let Phase::Out { delayed, .. } = &mut self.phase {
            *delayed = Delayed::Yes;
            self.strays = self.strays.saturating_add(1);
            return self.token;
        }
        let until = now.after(heartbeat.patience);
        (self.token, self.strays) = (token, 0);
        let (excused, delayed) = (false, Delayed::No);
        self.phase = Phase::Out { sent: now, until, bytes, excused, delayed };
        token
    }

    /// The pong came.
    pub(super) fn answered(&mut self, heartbeat: Heartbeat, now: Moment) {
        let Phase::Out { sent, delayed, .. } = self.phase else {
            self.strays = self.strays.saturating_sub(1);
            return;
        };
        // What we held up ourselves says nothing of the way.
        if delayed == Delayed::No {
            self.measure(now.since(sent));
        }
        // The token was random, and has served: up to an eighth sooner.
        let [a, b, c, d, ..] = self.token;
        let interval = heartbeat.interval;
        let sooner = part(interval / 8, u32::from_ne_bytes([a, b, c, d]));
        self.phase = Phase::Resting { until: now.after(interval - sooner) };
    }

    fn measure(&mut self, took: Duration) {
        let took = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        let before = self.rtt.unwrap_or(Measured { last: 0, max: 0, answers: 0 });
        let (max, answers) = (before.max.max(took), before.answers.saturating_add(1));
        self.rtt = Some(Measured { last: took, max, answers });
    }

    #[inline]
    pub(super) fn deadline(&self) -> Moment {
        match self.phase {
            Phase::Resting { until } | Phase::Out { until, .. } => until,
            Phase::Due => Moment::NEVER,
        }
    }

    /// Whether the peer is lost.
    pub(super) fn ring(&mut self, heartbeat: Heartbeat, sign: Sign, now: Moment) -> bool {
        let at = self.deadline();
        if at > now {
            return false;
        }
        match &mut self.phase {
            Phase::Due => false,
            Phase::Resting { .. } => {
                self.phase = Phase::Due;
                false
            }
            Phase::Out { until, bytes, excused, delayed, .. } => {
                // A pong cannot come inside a frame, nor through a blocked stream: as long as
                // something moves, wait.
                let moves = sign.mid_frame && sign.bytes != *bytes;
                let busy = sign.blocked || sign.paused || moves;
                // We were stopped ourselves; the pong may be in the socket.
                let overslept = !*excused && now.nanos_since(at) > nanos(heartbeat.patience);
                if !busy && !overslept {
                    return true;
                }
                *excused |= overslept && !busy;
                *bytes = sign.bytes;
                *until = now.after(heartbeat.patience);
                if sign.paused {
                    *delayed = Delayed::Again;
                    *until = now.after(heartbeat.interval);
                }
                false
            }
        }
    }
}
