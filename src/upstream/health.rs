//! Passive health: a backend that fails again and again is left out for a while.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What recent connections said about one backend. Shared by all generations of the
/// configuration that have a backend of the same id.
#[derive(Debug, Default)]
pub struct Health(Mutex<HealthState>);

#[derive(Debug, Default)]
struct HealthState {
    /// Failures since the last success, up to the last ejection.
    failures: u32,
    /// How often it was ejected since the last success.
    ejections: u32,
    ejected_until: Option<Instant>,
}

impl Health {
    /// Whether clients should be sent there.
    pub fn is_up(&self, now: Instant) -> bool {
        self.lock().ejected_until.is_none_or(|until| until <= now)
    }

    /// Whether it was ejected, and has not answered since.
    pub fn is_failing(&self) -> bool {
        self.lock().ejections > 0
    }

    /// Notes a connection that was not taken. Three in a row eject
    /// the backend for 10 seconds; when those are over, one more is enough, and each time lasts
    /// twice as long, up to a minute. How long, if it was ejected by this one.
    pub fn failed(&self, now: Instant) -> Option<Duration> {
        let mut state = self.lock();
        // Attempts that were already under way say nothing new.
        if state.ejected_until.is_some_and(|until| until > now) {
            return None;
        }
        state.failures = state.failures.saturating_add(1);
        if state.failures < FAILURES_MAX && state.ejections == 0 {
            return None;
        }
        let factor = 2u32.saturating_pow(state.ejections);
        let ejection = EJECTION.saturating_mul(factor).min(EJECTION_MAX);
        state.ejected_until = Some(now + ejection);
        state.ejections = state.ejections.saturating_add(1);
        Some(ejection)
    }

    /// Notes a lawful answer, which makes everything good. True if it had been ejected before.
    pub fn succeeded(&self) -> bool {
        std::mem::take(&mut *self.lock()).ejections > 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HealthState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const FAILURES_MAX: u32 = 3;
const EJECTION: Duration = Duration::from_secs(10);
const EJECTION_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    // Requirements: BM25.
    #[test]
    fn three_consecutive_failures_eject_for_ten_seconds() {
        let (health, now) = (Health::default(), Instant::now());
        assert!(health.failed(now).or(health.failed(now)).is_none());
        assert!(health.is_up(now));
        assert!(health.failed(now).is_some());
        assert!(!health.is_up(now) && !health.is_up(now + 9 * SECOND));
        assert!(health.is_up(now + 10 * SECOND));
    }

    #[test]
    fn a_success_in_between_starts_the_count_anew() {
        let (health, now) = (Health::default(), Instant::now());
        for _ in 0..10 {
            assert!(health.failed(now).or(health.failed(now)).is_none());
            health.succeeded();
        }
        assert!(health.is_up(now));
    }

    #[test]
    fn ejections_double_up_to_a_minute_and_a_success_forgets_them() {
        let (health, mut now) = (Health::default(), Instant::now());
        health.failed(now);
        health.failed(now);
        for seconds in [10, 20, 40, 60, 60] {
            assert!(health.failed(now).is_some(), "one more failure ejects again");
            assert!(health.failed(now).is_none(), "failures while ejected do not count");
            assert!(!health.is_up(now + (seconds - 1) * SECOND));
            now += seconds * SECOND;
            assert!(health.is_up(now));
        }
        health.failed(now);
        health.succeeded();
        assert!(health.is_up(now));
        assert!(health.failed(now).is_none());
    }
}
