//! The heartbeat of one side: when to ping it, whether it lives, and how fast it answers
//! (RFC 6455 5.5.2).

use std::num::NonZeroU32;
use std::slice;
use std::time::Duration;

use super::cut::PingPayload;
use super::limits::HeartbeatPolicy;
use super::moment::{Timestamp, nanos, part};
use super::tally::Rtt;

/// At most one ping in flight, but where its pong cannot come because the side is not read: then
/// the same one goes out again, for TCP to find out whether anybody is still there.
#[derive(Clone, Debug)]
pub(super) struct Heartbeat {
    phase: HeartbeatPhase,
    rtt: Option<RttSamples>,
    /// The payloads of the last ping and of the one before it.
    tokens: [PingPayload; 2],
    /// How often each went out again: so many more pongs to it may come, or fewer, as whoever is
    /// asked twice may answer once (RFC 6455 5.5.3).
    strays: [u16; 2],
}

#[derive(Clone, Debug)]
enum HeartbeatPhase {
    /// Until the next ping.
    Resting { until: Timestamp },
    /// A ping wants to go out at the next boundary. Patience starts only then: a long frame in
    /// progress must not look like a dead peer.
    Due,
    /// A pong is awaited.
    Out {
        sent: Timestamp,
        until: Timestamp,
        /// [`PeerActivity::bytes`] at the last check.
        bytes: u64,
        /// The one excuse for our own sleep is spent.
        excused: bool,
        /// The side was not read meanwhile.
        delayed: PongDelay,
    },
}

/// Whether a pong may lie behind what is not read yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PongDelay {
    No,
    Yes,
    /// And the ping wants to go out again.
    Again,
}

/// In microseconds, up to an hour.
#[derive(Clone, Copy, Debug)]
struct RttSamples {
    last: u32,
    max: u32,
    answers: NonZeroU32,
}

/// What is known of a side's life when its pong is overdue.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerActivity {
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

impl Heartbeat {
    /// The first ping comes after half to a whole interval, so that many sessions that begin
    /// together do not ping together.
    pub(super) fn new(heartbeat: HeartbeatPolicy, random: u32) -> Self {
        let half = heartbeat.interval / 2;
        let phase = HeartbeatPhase::Resting { until: Timestamp::at(half + part(half, random)) };
        Self { phase, rtt: None, tokens: Default::default(), strays: [0; 2] }
    }

    #[inline]
    pub(super) fn is_due(&self) -> bool {
        matches!(
            self.phase,
            HeartbeatPhase::Due | HeartbeatPhase::Out { delayed: PongDelay::Again, .. }
        )
    }

    /// The payloads of the pongs that may come.
    #[inline]
    pub(super) fn awaited(&self) -> &[PingPayload] {
        let [last, _] = &self.tokens;
        let out = matches!(self.phase, HeartbeatPhase::Out { .. });
        match self.strays {
            [strays, 0] if out || strays > 0 => slice::from_ref(last),
            [_, 0] => &[],
            // What is left of the one before comes ahead of the answer to the last.
            [_, _] => &self.tokens,
        }
    }

    /// How often it has answered.
    #[inline]
    pub(super) fn answers(&self) -> u32 {
        self.rtt.map_or(0, |rtt| rtt.answers.get())
    }

    /// How fast it answers.
    pub(super) fn rtt(&self) -> Option<Rtt> {
        let micros = |micros| Duration::from_micros(u64::from(micros));
        self.rtt.map(|rtt| Rtt {
            last: micros(rtt.last),
            max: micros(rtt.max),
            answers: rtt.answers.get(),
        })
    }

    /// The ping goes out, with this payload if it is a new one; its payload.
    pub(super) fn beat(
        &mut self,
        heartbeat: HeartbeatPolicy,
        token: PingPayload,
        bytes: u64,
        now: Timestamp,
    ) -> PingPayload {
        let ([last, _], [strays, _]) = (self.tokens, self.strays);
        if let HeartbeatPhase::Out { delayed, .. } = &mut self.phase {
            *delayed = PongDelay::Yes;
            self.strays[0] = strays.saturating_add(1);
            return last;
        }
        let until = now.after(heartbeat.timeout);
        (self.tokens, self.strays) = ([token, last], [0, strays]);
        let (excused, delayed) = (false, PongDelay::No);
        self.phase = HeartbeatPhase::Out { sent: now, until, bytes, excused, delayed };
        token
    }

    /// A pong came that may come.
    pub(super) fn answered(
        &mut self,
        heartbeat: HeartbeatPolicy,
        token: PingPayload,
        now: Timestamp,
    ) {
        let ([last, _], [strays, before]) = (self.tokens, self.strays);
        if token != last {
            self.strays[1] = before.saturating_sub(1);
            return;
        }
        // A side answers in order: nothing is left of the ping before.
        self.strays[1] = 0;
        let HeartbeatPhase::Out { sent, delayed, .. } = self.phase else {
            self.strays[0] = strays.saturating_sub(1);
            return;
        };
        // What we held up ourselves says nothing of the way.
        if delayed == PongDelay::No {
            self.measure(now.since(sent));
        }
        // The token was random, and has served: up to an eighth sooner.
        let [a, b, c, d, ..] = token;
        let interval = heartbeat.interval;
        let sooner = part(interval / 8, u32::from_ne_bytes([a, b, c, d]));
        self.phase = HeartbeatPhase::Resting { until: now.after(interval - sooner) };
    }

    fn measure(&mut self, took: Duration) {
        let took = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        let (max, answers) = match self.rtt {
            Some(before) => (before.max.max(took), before.answers.saturating_add(1)),
            None => (took, NonZeroU32::MIN),
        };
        self.rtt = Some(RttSamples { last: took, max, answers });
    }

    #[inline]
    pub(super) fn deadline(&self) -> Timestamp {
        match self.phase {
            HeartbeatPhase::Resting { until } | HeartbeatPhase::Out { until, .. } => until,
            HeartbeatPhase::Due => Timestamp::NEVER,
        }
    }

    /// Whether the peer is lost.
    pub(super) fn ring(
        &mut self,
        heartbeat: HeartbeatPolicy,
        sign: PeerActivity,
        now: Timestamp,
    ) -> bool {
        let at = self.deadline();
        if at > now {
            return false;
        }
        match &mut self.phase {
            HeartbeatPhase::Due => false,
            HeartbeatPhase::Resting { .. } => {
                self.phase = HeartbeatPhase::Due;
                false
            }
            HeartbeatPhase::Out { until, bytes, excused, delayed, .. } => {
                // A pong cannot come inside a frame, nor through a blocked stream: as long as
                // something moves, wait.
                let moves = sign.mid_frame && sign.bytes != *bytes;
                let busy = sign.blocked || sign.paused || moves;
                // We were stopped ourselves; the pong may be in the socket.
                let overslept = !*excused && now.nanos_since(at) > nanos(heartbeat.timeout);
                if !busy && !overslept {
                    return true;
                }
                *excused |= overslept && !busy;
                *bytes = sign.bytes;
                *until = now.after(heartbeat.timeout);
                if sign.paused {
                    *delayed = PongDelay::Again;
                    *until = now.after(heartbeat.interval);
                }
                false
            }
        }
    }
}
