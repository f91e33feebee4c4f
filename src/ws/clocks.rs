//! Every clock of a session in one table (RFC 6455 says little about time; the rules are ours).
//! Clocks are read by asking for [`Clocks::deadline`] and by `now`; nothing here ticks by itself.

use std::time::{Duration, Instant};

use super::Side;
use super::limits::{Heartbeat, Terms};
use super::meter::Token;

/// A clock that ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alarm {
    /// The time for Closes to be answered.
    Grace,
    /// This side took nothing of what waits for it.
    Stall(Side),
    /// No data for too long.
    Idle,
    /// No pong in time.
    Heartbeat,
}

/// All clocks.
#[derive(Clone, Debug)]
pub(super) struct Clocks {
    /// When the last byte of a data frame passed.
    pub(super) data: Instant,
    pub(super) pulse: Pulse,
    grace: Option<Instant>,
    stall_client: Option<Instant>,
    stall_backend: Option<Instant>,
}

impl Clocks {
    pub(super) fn new(terms: &Terms, now: Instant, jitter: u32) -> Self {
        Self {
            data: now,
            pulse: Pulse::new(terms.heartbeat, now, jitter),
            grace: None,
            stall_client: None,
            stall_backend: None,
        }
    }

    /// When [`Clocks::ring`] has something to say; `live`: no end is named yet.
    pub(super) fn deadline(&self, terms: &Terms, live: bool) -> Option<Instant> {
        let mut first = self.grace;
        let mut sooner = |other: Option<Instant>| {
            if let Some(other) = other {
                first = Some(first.map_or(other, |first| first.min(other)));
            }
        };
        sooner(self.stall_client);
        sooner(self.stall_backend);
        if live {
            sooner(self.idle(terms));
            sooner(self.pulse.deadline());
        }
        first
    }

    /// The next clock that has run out; it is stopped.
    pub(super) fn ring(
        &mut self,
        terms: &Terms,
        live: bool,
        sign: Sign,
        now: Instant,
    ) -> Option<Alarm> {
        let out = |clock: Option<Instant>| clock.is_some_and(|at| at <= now);
        if out(self.grace) {
            self.grace = None;
            return Some(Alarm::Grace);
        }
        for side in Side::BOTH {
            let stall = self.stall(side);
            if out(*stall) {
                *stall = None;
                return Some(Alarm::Stall(side));
            }
        }
        if live && out(self.idle(terms)) {
            return Some(Alarm::Idle);
        }
        let lost = live && self.pulse.ring(terms.heartbeat?, sign, now);
        lost.then_some(Alarm::Heartbeat)
    }

    pub(super) fn start_grace(&mut self, grace: Duration, now: Instant) {
        self.grace = now.checked_add(grace);
    }

    /// Something waits for this side; the clock starts anew if it has taken some of it.
    pub(super) fn run_stall(
        &mut self,
        side: Side,
        moved: bool,
        write_stall: Duration,
        now: Instant,
    ) {
        let stall = self.stall(side);
        if moved || stall.is_none() {
            *stall = now.checked_add(write_stall);
        }
    }

    /// Nothing waits for this side.
    pub(super) fn stop_stall(&mut self, side: Side) {
        *self.stall(side) = None;
    }

    fn stall(&mut self, side: Side) -> &mut Option<Instant> {
        match side {
            Side::Client => &mut self.stall_client,
            Side::Backend => &mut self.stall_backend,
        }
    }

    fn idle(&self, terms: &Terms) -> Option<Instant> {
        terms.idle.and_then(|idle| self.data.checked_add(idle))
    }
}

/// What is known of the client's life when a pong is overdue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sign {
    /// Bytes wait for it, our ping perhaps behind them, or for the backend, so that it is not
    /// read from. The stall clocks watch over both.
    pub(super) blocked: bool,
    /// It is in the middle of a frame, where it cannot answer.
    pub(super) mid_frame: bool,
    /// Bytes that came from it, ever.
    pub(super) bytes: u64,
}

/// The heartbeat: at most one ping in flight.
#[derive(Clone, Debug)]
pub(super) enum Pulse {
    /// No heartbeat.
    Off,
    /// Until the next ping.
    Resting { until: Option<Instant> },
    /// A ping wants to go out at the next boundary. Patience starts only then: a long frame in
    /// progress must not look like a dead client.
    Due,
    /// A pong is awaited.
    Out {
        until: Option<Instant>,
        token: Token,
        /// [`Sign::bytes`] at the last check.
        bytes: u64,
        /// The one excuse for our own sleep is spent.
        excused: bool,
    },
}

impl Pulse {
    /// The first ping comes after half to a whole interval, so that many sessions that begin
    /// together do not ping together.
    fn new(heartbeat: Option<Heartbeat>, now: Instant, jitter: u32) -> Self {
        let Some(Heartbeat { interval, .. }) = heartbeat else {
            return Self::Off;
        };
        let half = interval / 2;
        let part = (half.as_nanos() * u128::from(jitter)) >> 32;
        let part = Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX));
        Self::Resting { until: now.checked_add(half).and_then(|at| at.checked_add(part)) }
    }

    pub(super) fn is_due(&self) -> bool {
        matches!(self, Self::Due)
    }

    /// The payload of the pong that is awaited.
    pub(super) fn awaited(&self) -> Option<Token> {
        match self {
            Self::Out { token, .. } => Some(*token),
            Self::Off | Self::Resting { .. } | Self::Due => None,
        }
    }

    /// The ping goes out.
    pub(super) fn beat(&mut self, heartbeat: Heartbeat, token: Token, bytes: u64, now: Instant) {
        let until = now.checked_add(heartbeat.patience);
        *self = Self::Out { until, token, bytes, excused: false };
    }

    /// The pong came.
    pub(super) fn answered(&mut self, heartbeat: Option<Heartbeat>, now: Instant) {
        *self = match heartbeat {
            Some(heartbeat) => Self::Resting { until: now.checked_add(heartbeat.interval) },
            None => Self::Off,
        };
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Resting { until } | Self::Out { until, .. } => *until,
            Self::Off | Self::Due => None,
        }
    }

    /// Whether the client is lost.
    fn ring(&mut self, heartbeat: Heartbeat, sign: Sign, now: Instant) -> bool {
        let Some(at) = self.deadline().filter(|at| *at <= now) else {
            return false;
        };
        match self {
            Self::Off | Self::Due => false,
            Self::Resting { .. } => {
                *self = Self::Due;
                false
            }
            Self::Out { until, bytes, excused, .. } => {
                // A pong cannot come inside a frame, nor through a blocked stream: as long as
                // something moves, wait.
                let busy = sign.blocked || (sign.mid_frame && sign.bytes != *bytes);
                // We were stopped ourselves; the pong may be in the socket.
                let overslept = !*excused && now.duration_since(at) > heartbeat.patience;
                if !busy && !overslept {
                    return true;
                }
                *excused |= overslept && !busy;
                *bytes = sign.bytes;
                *until = now.checked_add(heartbeat.patience);
                false
            }
        }
    }
}
