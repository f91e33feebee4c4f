//! Every clock of a session in one table (RFC 6455 says little about time; the rules are ours).
//! Clocks are read by asking for [`Timers::deadline`] and by `now`; nothing here ticks by itself.

use std::num::NonZeroU64;
use std::time::Duration;

use super::Side;
use super::limits::SessionPolicy;
use super::moment::{Timestamp, nanos, part};
use super::pulse::{Heartbeat, PeerActivity};

/// A clock that ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimerFired {
    /// The time for Closes to be answered.
    Grace,
    /// This side took too little of what waits for it.
    Stall(Side),
    /// The message in progress of this side is too old.
    Age(Side),
    /// No data for too long.
    Idle,
    /// No pong of this side in time.
    Heartbeat(Side),
    /// The session is as old as it may become.
    Lifetime,
}

/// All clocks.
#[derive(Clone, Debug)]
pub(super) struct Timers {
    /// When the last byte of a data frame passed.
    pub(super) data: Timestamp,
    grace: Timestamp,
    lifetime: Timestamp,
    client: SideTimers,
    backend: SideTimers,
    /// The time until a side's stall is less than all that there is.
    stinted: [bool; 2],
}

/// The clocks that watch over one side.
#[derive(Clone, Debug)]
struct SideTimers {
    /// Boxed, as few sessions have two.
    pulse: Option<Box<Heartbeat>>,
    stall: Timestamp,
    age: Timestamp,
}

impl Timers {
    pub(super) fn new(terms: &SessionPolicy, [client, backend, lifetime]: [u32; 3]) -> Self {
        let watchers = |side, random| SideTimers {
            pulse: terms.heartbeat(side).map(|beat| Box::new(Heartbeat::new(beat, random))),
            stall: Timestamp::NEVER,
            age: Timestamp::NEVER,
        };
        Self {
            data: Timestamp::START,
            grace: Timestamp::NEVER,
            lifetime: terms.lifetime.map_or(Timestamp::NEVER, |max| {
                let spread = part(max / 10, lifetime);
                Timestamp::at(max.saturating_sub(patience_for_quiet(max) + spread))
            }),
            client: watchers(Side::Client, client),
            backend: watchers(Side::Backend, backend),
            stinted: [false; 2],
        }
    }

    /// When [`Timers::ring`] has something to say; `live`: no end is named yet.
    pub(super) fn deadline(&self, terms: &SessionPolicy, live: bool) -> Timestamp {
        let (client, backend) = (&self.client, &self.backend);
        let always = self.grace.min(client.stall).min(backend.stall);
        if !live {
            return always;
        }
        let beat = |side| self.pulse(side).map_or(Timestamp::NEVER, Heartbeat::deadline);
        let pulses = beat(Side::Client).min(beat(Side::Backend));
        let ages = client.age.min(backend.age);
        always.min(self.idle(terms)).min(self.lifetime).min(pulses).min(ages)
    }

    /// The next clock that has run out; it is stopped. `sign` tells of each side.
    pub(super) fn ring(
        &mut self,
        terms: &SessionPolicy,
        live: bool,
        sign: impl Fn(Side) -> PeerActivity,
        now: Timestamp,
    ) -> Option<TimerFired> {
        if self.deadline(terms, live) > now {
            return None;
        }
        if self.grace <= now {
            self.grace = Timestamp::NEVER;
            return Some(TimerFired::Grace);
        }
        for side in Side::BOTH {
            let watchers = self.of(side);
            if watchers.stall <= now {
                watchers.stall = Timestamp::NEVER;
                return Some(TimerFired::Stall(side));
            }
        }
        if !live {
            return None;
        }
        for side in Side::BOTH {
            let watchers = self.of(side);
            if watchers.age <= now {
                watchers.age = Timestamp::NEVER;
                return Some(TimerFired::Age(side));
            }
        }
        if self.idle(terms) <= now {
            return Some(TimerFired::Idle);
        }
        for side in Side::BOTH {
            if let (Some(pulse), Some(beat)) = (self.pulse_mut(side), terms.heartbeat(side))
                && pulse.ring(beat, sign(side), now)
            {
                return Some(TimerFired::Heartbeat(side));
            }
        }
        if self.lifetime <= now {
            self.lifetime = Timestamp::NEVER;
            return Some(TimerFired::Lifetime);
        }
        None
    }

    pub(super) fn start_grace(&mut self, grace: Duration, now: Timestamp) {
        self.grace = now.after(grace);
    }

    /// A message of this side has begun, and may take so long; `None`: it is whole, or may take as
    /// long as it likes.
    #[inline]
    pub(super) fn set_age(&mut self, side: Side, until: Option<Timestamp>) {
        self.of(side).age = until.unwrap_or(Timestamp::NEVER);
    }

    #[inline]
    pub(super) fn is_aging(&self, side: Side) -> bool {
        let watchers = match side {
            Side::Client => &self.client,
            Side::Backend => &self.backend,
        };
        watchers.age != Timestamp::NEVER
    }

    /// The session is old: whether this is the moment to close it. If not, it is asked again when
    /// the conversation may have paused, or at last when it must.
    pub(super) fn is_quiet(&mut self, max: Duration, between: bool, now: Timestamp) -> bool {
        let due = Timestamp::at(max);
        let paused = self.data.after(QUIET);
        if now >= due || (between && now >= paused) {
            return true;
        }
        let soon = if paused > now { paused } else { now.after(QUIET) };
        self.lifetime = soon.min(due);
        false
    }

    /// So many bytes wait for this side, `taken` fewer than before. Each byte that it takes buys it
    /// time, up to `write_timeout` from now.
    pub(super) fn run_stall(
        &mut self,
        side: Side,
        taken: usize,
        terms: &SessionPolicy,
        now: Timestamp,
    ) {
        let latest = now.after(terms.write_timeout);
        let stall = &mut self.of(side).stall;
        let begins = *stall == Timestamp::NEVER;
        if begins {
            *stall = latest;
        } else if taken > 0 {
            *stall = match terms.min_write_rate {
                None => latest,
                Some(least) => stall.after_nanos(worth(taken, least)).min(latest),
            };
        }
        if begins || taken > 0 {
            self.stinted[side as usize] = *stall < latest;
        }
    }

    /// Whether this side has taken something in the last `write_timeout`, though too little.
    pub(super) fn trickles(&self, side: Side) -> bool {
        self.stinted[side as usize]
    }

    /// Nothing waits for this side.
    #[inline]
    pub(super) fn stop_stall(&mut self, side: Side) {
        self.of(side).stall = Timestamp::NEVER;
    }

    /// `None`: no heartbeat.
    #[inline]
    pub(super) fn pulse(&self, side: Side) -> Option<&Heartbeat> {
        match side {
            Side::Client => self.client.pulse.as_deref(),
            Side::Backend => self.backend.pulse.as_deref(),
        }
    }

    pub(super) fn pulse_mut(&mut self, side: Side) -> Option<&mut Heartbeat> {
        self.of(side).pulse.as_deref_mut()
    }

    #[inline]
    fn of(&mut self, side: Side) -> &mut SideTimers {
        match side {
            Side::Client => &mut self.client,
            Side::Backend => &mut self.backend,
        }
    }

    #[inline]
    fn idle(&self, terms: &SessionPolicy) -> Timestamp {
        terms.idle.map_or(Timestamp::NEVER, |idle| self.data.after(idle))
    }
}

/// How long a session that is old is given to fall silent.
fn patience_for_quiet(max: Duration) -> Duration {
    (max / 10).min(Duration::from_secs(60))
}

/// The time that so many bytes take at the slowest lawful pace.
fn worth(bytes: usize, per_second: NonZeroU64) -> u64 {
    let second = nanos(Duration::from_secs(1));
    let span = bytes as u128 * u128::from(second) / u128::from(per_second.get());
    u64::try_from(span).unwrap_or(u64::MAX)
}

/// A conversation without a byte for so long has paused.
const QUIET: Duration = Duration::from_secs(1);
