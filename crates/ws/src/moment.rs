//! Time within a session, in half the room of an `Instant`, and cheap to compare and to move.

use std::ops::{Add, AddAssign, Sub};
use std::time::{Duration, Instant};

/// Nanoseconds since the session began, up to 584 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The session's beginning.
    pub const START: Self = Self(0);
    /// Later than everything.
    pub const NEVER: Self = Self(u64::MAX);

    /// What the clock says, in a session that began then.
    #[inline]
    pub fn of(now: Instant, began: Instant) -> Self {
        Self::at(now.saturating_duration_since(began))
    }

    /// So long after the beginning.
    #[inline]
    pub(super) fn at(since_start: Duration) -> Self {
        Self::START.after(since_start)
    }

    /// So long after this one.
    #[inline]
    pub(super) fn after(self, span: Duration) -> Self {
        self.after_nanos(nanos(span))
    }

    #[inline]
    pub(super) fn after_nanos(self, span: u64) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// How long ago `earlier` was; 0 if it is later.
    #[inline]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanos_since(earlier))
    }

    #[inline]
    pub(super) fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// As a span from the beginning; `None` for [`Timestamp::NEVER`].
    pub fn since_start(self) -> Option<Duration> {
        (self != Self::NEVER).then(|| Duration::from_nanos(self.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    #[inline]
    fn add(self, span: Duration) -> Self {
        self.after(span)
    }
}

impl AddAssign<Duration> for Timestamp {
    fn add_assign(&mut self, span: Duration) {
        *self = self.after(span);
    }
}

/// 0 if the other is later.
impl Sub for Timestamp {
    type Output = Duration;

    #[inline]
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// In nanoseconds, as many as fit.
#[inline]
pub(super) fn nanos(span: Duration) -> u64 {
    span.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(span.subsec_nanos()))
}

/// A random part of a span, from 32 random bits.
pub(super) fn part(span: Duration, random: u32) -> Duration {
    let part = (span.as_nanos() * u128::from(random)) >> 32;
    Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX))
}
