//! All timers of a session in one table. RFC 6455 leaves timeouts to the implementation.
//!
//! Nothing here runs by itself: the session exposes [`Timers::deadline`] to its driver and calls
//! [`Timers::poll_expired`] with the current time.

use std::num::NonZeroU64;
use std::time::Duration;

use crate::heartbeat::{Heartbeat, PeerActivity};
use crate::ping_grid::PingGrid;
use crate::policy::SessionPolicy;
use crate::side::{PerSide, Side};
use crate::timestamp::{Timestamp, nanos, random_fraction};

/// A timer that expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimerFired {
    /// The time to complete the closing handshake is over.
    CloseGrace,
    /// This side accepted too little of the data queued for it.
    Write(Side),
    /// The message in progress from this side is too old.
    MessageAge(Side),
    /// No data passed for too long.
    Idle,
    /// The pong of this side is overdue.
    Heartbeat(Side),
    /// The session is close to its maximum age.
    Lifetime,
}

/// The timers of a session.
#[derive(Clone, Debug)]
pub(crate) struct Timers {
    /// When the last byte of a data frame passed.
    pub(crate) last_data: Timestamp,
    close_grace: Timestamp,
    lifetime: Timestamp,
    client: SideTimers,
    backend: SideTimers,
    /// Whether the write deadline of a side is earlier than a full write timeout, because the side
    /// accepts data more slowly than the minimum rate.
    write_rate_limited: PerSide<bool>,
    /// When pings are sent.
    pub(crate) ping_grid: PingGrid,
}

/// The timers of one side.
#[derive(Clone, Debug)]
struct SideTimers {
    /// Boxed because few sessions have heartbeats in both directions.
    heartbeat: Option<Box<Heartbeat>>,
    write: Timestamp,
    message_age: Timestamp,
}

impl Timers {
    pub(crate) fn new(
        policy: &SessionPolicy,
        ping_grid: PingGrid,
        random: PerSide<u32>,
        lifetime_random: u32,
    ) -> Self {
        let side_timers = |side| SideTimers {
            heartbeat: policy
                .heartbeat(side)
                .map(|heartbeat| Box::new(Heartbeat::new(heartbeat, ping_grid, random[side]))),
            write: Timestamp::NEVER,
            message_age: Timestamp::NEVER,
        };
        Self {
            last_data: Timestamp::START,
            close_grace: Timestamp::NEVER,
            lifetime: policy.lifetime.map_or(Timestamp::NEVER, |max| {
                let spread = random_fraction(max / 10, lifetime_random);
                Timestamp::at(max.saturating_sub(quiet_window(max) + spread))
            }),
            client: side_timers(Side::Client),
            backend: side_timers(Side::Backend),
            write_rate_limited: PerSide::default(),
            ping_grid,
        }
    }

    /// The next time at which [`Timers::poll_expired`] may return a timer. `active`: the session is
    /// not terminating.
    pub(crate) fn deadline(&self, policy: &SessionPolicy, active: bool) -> Timestamp {
        let (client, backend) = (&self.client, &self.backend);
        let always = self.close_grace.min(client.write).min(backend.write);
        if !active {
            return always;
        }
        let heartbeat = |side| self.heartbeat(side).map_or(Timestamp::NEVER, Heartbeat::deadline);
        let heartbeats = heartbeat(Side::Client).min(heartbeat(Side::Backend));
        let ages = client.message_age.min(backend.message_age);
        always.min(self.idle(policy)).min(self.lifetime).min(heartbeats).min(ages)
    }

    /// Stops and returns the next expired timer. `activity` reports the current activity of a side.
    pub(crate) fn poll_expired(
        &mut self,
        policy: &SessionPolicy,
        active: bool,
        activity: impl Fn(Side) -> PeerActivity,
        now: Timestamp,
    ) -> Option<TimerFired> {
        if self.deadline(policy, active) > now {
            return None;
        }
        if self.close_grace <= now {
            self.close_grace = Timestamp::NEVER;
            return Some(TimerFired::CloseGrace);
        }
        for side in Side::BOTH {
            let timers = self.of(side);
            if timers.write <= now {
                timers.write = Timestamp::NEVER;
                return Some(TimerFired::Write(side));
            }
        }
        if !active {
            return None;
        }
        for side in Side::BOTH {
            let timers = self.of(side);
            if timers.message_age <= now {
                timers.message_age = Timestamp::NEVER;
                return Some(TimerFired::MessageAge(side));
            }
        }
        if self.idle(policy) <= now {
            return Some(TimerFired::Idle);
        }
        let grid = self.ping_grid;
        for side in Side::BOTH {
            if let (Some(heartbeat), Some(policy)) =
                (self.heartbeat_mut(side), policy.heartbeat(side))
                && heartbeat.handle_timeout(policy, grid, activity(side), now)
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

    pub(crate) fn start_close_grace(&mut self, grace: Duration, now: Timestamp) {
        self.close_grace = now.after(grace);
    }

    /// Sets the deadline for the message in progress from this side. `None`: no message is in
    /// progress, or its age is not limited.
    #[inline]
    pub(crate) fn set_message_deadline(&mut self, side: Side, deadline: Option<Timestamp>) {
        self.of(side).message_age = deadline.unwrap_or(Timestamp::NEVER);
    }

    #[inline]
    pub(crate) fn has_message_deadline(&self, side: Side) -> bool {
        let timers = match side {
            Side::Client => &self.client,
            Side::Backend => &self.backend,
        };
        timers.message_age != Timestamp::NEVER
    }

    /// Whether a session at the end of its lifetime should be closed now: data has paused
    /// `between_messages`, or the maximum age is reached. Otherwise the lifetime timer is restarted
    /// for the next possible pause.
    pub(crate) fn is_quiet(
        &mut self,
        max: Duration,
        between_messages: bool,
        now: Timestamp,
    ) -> bool {
        let end = Timestamp::at(max);
        let pause = self.last_data.after(QUIET);
        if now >= end || (between_messages && now >= pause) {
            return true;
        }
        let next = if pause > now { pause } else { now.after(QUIET) };
        self.lifetime = next.min(end);
        false
    }

    /// Runs the write timer while data is queued for this side, which has accepted `accepted` bytes
    /// since the last call. Each byte extends the deadline by its share of the minimum rate, up to
    /// a full write timeout from now.
    pub(crate) fn run_write_timer(
        &mut self,
        side: Side,
        accepted: usize,
        policy: &SessionPolicy,
        now: Timestamp,
    ) {
        let latest = now.after(policy.write_timeout);
        let deadline = &mut self.of(side).write;
        let starting = *deadline == Timestamp::NEVER;
        if starting {
            *deadline = latest;
        } else if accepted > 0 {
            *deadline = match policy.min_write_rate {
                None => latest,
                Some(min) => deadline.after_nanos(nanos_at_rate(accepted, min)).min(latest),
            };
        }
        let limited = *deadline < latest;
        if starting || accepted > 0 {
            self.write_rate_limited[side] = limited;
        }
    }

    /// Whether this side accepted data within the last write timeout, but too slowly.
    pub(crate) fn is_write_rate_limited(&self, side: Side) -> bool {
        self.write_rate_limited[side]
    }

    /// Stops the write timer: no data is queued for this side.
    #[inline]
    pub(crate) fn stop_write_timer(&mut self, side: Side) {
        self.of(side).write = Timestamp::NEVER;
    }

    #[inline]
    pub(crate) fn heartbeat(&self, side: Side) -> Option<&Heartbeat> {
        match side {
            Side::Client => self.client.heartbeat.as_deref(),
            Side::Backend => self.backend.heartbeat.as_deref(),
        }
    }

    pub(crate) fn heartbeat_mut(&mut self, side: Side) -> Option<&mut Heartbeat> {
        self.of(side).heartbeat.as_deref_mut()
    }

    #[inline]
    fn of(&mut self, side: Side) -> &mut SideTimers {
        match side {
            Side::Client => &mut self.client,
            Side::Backend => &mut self.backend,
        }
    }

    #[inline]
    fn idle(&self, policy: &SessionPolicy) -> Timestamp {
        policy.idle.map_or(Timestamp::NEVER, |idle| self.last_data.after(idle))
    }
}

/// How long before its maximum age a session is closed at the next pause.
fn quiet_window(max: Duration) -> Duration {
    (max / 10).min(Duration::from_secs(60))
}

/// Nanoseconds that `bytes` take at the minimum rate.
fn nanos_at_rate(bytes: usize, per_second: NonZeroU64) -> u64 {
    let second = nanos(Duration::from_secs(1));
    let span = bytes as u128 * u128::from(second) / u128::from(per_second.get());
    u64::try_from(span).unwrap_or(u64::MAX)
}

/// Time without a byte of data that counts as a pause.
const QUIET: Duration = Duration::from_secs(1);
