//! Time within a session: half the size of an `Instant`, and cheap to compare and copy.

use std::ops::{Add, AddAssign, Sub};
use std::time::{Duration, Instant};

/// Nanoseconds since the session started, up to 584 years. Arithmetic saturates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The start of the session.
    pub const START: Self = Self(0);
    /// Later than every other timestamp.
    pub const NEVER: Self = Self(u64::MAX);

    /// The timestamp of `now` in a session that started at `started`.
    #[inline]
    pub fn of(now: Instant, started: Instant) -> Self {
        Self::at(now.saturating_duration_since(started))
    }

    /// The timestamp `since_start` after the start.
    #[inline]
    pub(crate) fn at(since_start: Duration) -> Self {
        Self::START.after(since_start)
    }

    /// The timestamp `span` after this one.
    #[inline]
    pub(crate) fn after(self, span: Duration) -> Self {
        self.after_nanos(nanos(span))
    }

    #[inline]
    pub(crate) fn after_nanos(self, span: u64) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// The time elapsed since `earlier`; zero if `earlier` is later than this.
    #[inline]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanos_since(earlier))
    }

    #[inline]
    pub(crate) fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The time elapsed since the start; `None` for [`Timestamp::NEVER`].
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

/// Zero if the right-hand side is later.
impl Sub for Timestamp {
    type Output = Duration;

    #[inline]
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// Whole nanoseconds, at most `u64::MAX`.
#[inline]
pub(crate) fn nanos(span: Duration) -> u64 {
    span.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(span.subsec_nanos()))
}

/// A random fraction of `span`, taken from 32 random bits.
pub(crate) fn random_fraction(span: Duration, random: u32) -> Duration {
    let part = (span.as_nanos() * u128::from(random)) >> 32;
    Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX))
}
