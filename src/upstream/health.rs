//! Passive health checks: a backend with repeated connection failures is ejected for a limited time.
//!
//! | state | event | next |
//! | --- | --- | --- |
//! | up | fewer than three consecutive failures | up |
//! | up | third consecutive failure | ejected for 10 s |
//! | ejected | failure of an attempt that had already started | ejected |
//! | ejected | time is over | probation |
//! | probation | failure | ejected, twice as long as before, at most 60 s |
//! | any | valid response | up, all counts reset |

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The health of one backend. Shared by all routes and snapshots that contain a backend with the same
/// id and address.
#[derive(Debug, Default)]
pub struct Health(Mutex<HealthState>);

#[derive(Debug, Default)]
struct HealthState {
    /// Failures since the last success.
    failures: u32,
    /// Ejections since the last success.
    ejections: u32,
    ejected_until: Option<Instant>,
}

impl Health {
    /// Whether the backend is not ejected at this time.
    pub fn is_up(&self, now: Instant) -> bool {
        self.lock().ejected_until.is_none_or(|until| until <= now)
    }

    /// Whether the backend was ejected and has not sent a valid response since.
    pub fn is_ejected_or_on_probation(&self) -> bool {
        self.lock().ejections > 0
    }

    /// Records a failed connection attempt. Returns the duration of the ejection if this failure
    /// caused one.
    pub fn record_failure(&self, now: Instant) -> Option<Duration> {
        let mut state = self.lock();
        // The attempt started before the ejection.
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

    /// Records a valid response, which resets all counts. Returns whether the backend had been
    /// ejected before.
    pub fn record_success(&self) -> bool {
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
        assert!(health.record_failure(now).or(health.record_failure(now)).is_none());
        assert!(health.is_up(now));
        assert!(health.record_failure(now).is_some());
        assert!(!health.is_up(now) && !health.is_up(now + 9 * SECOND));
        assert!(health.is_up(now + 10 * SECOND));
    }

    #[test]
    fn success_resets_the_failure_count() {
        let (health, now) = (Health::default(), Instant::now());
        for _ in 0..10 {
            assert!(health.record_failure(now).or(health.record_failure(now)).is_none());
            health.record_success();
        }
        assert!(health.is_up(now));
    }

    #[test]
    fn ejections_double_until_success_resets_them() {
        let (health, mut now) = (Health::default(), Instant::now());
        health.record_failure(now);
        health.record_failure(now);
        for seconds in [10, 20, 40, 60, 60] {
            assert!(health.record_failure(now).is_some(), "one more failure ejects again");
            assert!(health.record_failure(now).is_none(), "failures while ejected do not count");
            assert!(!health.is_up(now + (seconds - 1) * SECOND));
            now += seconds * SECOND;
            assert!(health.is_up(now));
        }
        health.record_failure(now);
        health.record_success();
        assert!(health.is_up(now));
        assert!(health.record_failure(now).is_none());
    }
}
