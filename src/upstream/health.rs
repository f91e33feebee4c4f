//! What connection attempts show about a backend. Time alone changes nothing: a backend that is down is
//! probed ([`probe`](super::probe)) until an attempt succeeds.
//!
//! | state | attempt | next |
//! | --- | --- | --- |
//! | untried, up | fails | down |
//! | down | third in a row fails | down, and ejected: tried after the other backends of its pool |
//! | any | succeeds | up |
//!
//! While uploads hold the backend, a timeout changes nothing: their clients may have filled it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::telemetry::metrics::backend_state::BackendState;
use crate::telemetry::metrics::counters::Counter;
use crate::telemetry::once_a_minute::OnceAMinute;

/// The health of one backend. Shared by all routes and snapshots that contain a backend with the same
/// id and address.
#[derive(Debug, Default)]
pub struct Health {
    state: Mutex<HealthState>,
    /// Whether the last three attempts failed; for a choice among many, without the lock.
    is_ejected: AtomicBool,
    /// Whether an ejection has ended.
    has_recovered: AtomicBool,
    /// Exchanges on connections to the backend that wait for the rest of a request body.
    waiting_uploads: Counter,
    /// When a timeout that does not count because of them was last logged.
    pub(super) held_logged: OnceAMinute,
}

/// An exchange that waits for its client to send the rest of a request body. The backend may need a worker for each,
/// and then accepts no other connection, although it works.
#[derive(Debug)]
pub struct WaitingUpload(Arc<Health>);

impl WaitingUpload {
    /// Counts an exchange on a connection to this backend until dropped.
    pub fn new(health: &Arc<Health>) -> Self {
        health.waiting_uploads.inc();
        Self(health.clone())
    }
}

impl Drop for WaitingUpload {
    fn drop(&mut self) {
        self.0.waiting_uploads.dec();
    }
}

#[derive(Debug, Default)]
struct HealthState {
    /// When the last attempt ended.
    tried_at: Option<Instant>,
    /// Failed attempts since the last success.
    failures: u32,
    /// Why the last of them failed.
    cause: Option<Box<str>>,
    /// When an attempt succeeded after the backend had been ejected.
    recovered_at: Option<Instant>,
}

impl Health {
    /// What the last attempt showed; never [`BackendState::Drained`].
    pub fn state(&self) -> BackendState {
        match *self.lock() {
            HealthState { tried_at: None, .. } => BackendState::Untried,
            HealthState { failures: 0, .. } => BackendState::Up,
            HealthState { .. } => BackendState::Down,
        }
    }

    /// The number of failed attempts since the last success, and why the last one failed, as far as known.
    pub fn failures(&self) -> (u32, Option<Box<str>>) {
        let state = self.lock();
        (state.failures, state.cause.clone())
    }

    /// Keeps the cause of the last failure, unless an attempt has succeeded since.
    pub fn set_cause(&self, cause: String) {
        let mut state = self.lock();
        if state.failures > 0 {
            state.cause = Some(cause.into());
        }
    }

    /// Whether the last three attempts failed.
    pub fn is_ejected(&self) -> bool {
        self.is_ejected.load(Ordering::Relaxed)
    }

    /// How many exchanges wait for the rest of a request body.
    pub fn waiting_uploads(&self) -> u64 {
        self.waiting_uploads.get()
    }

    /// When its last ejection ended.
    pub fn recovered_at(&self) -> Option<Instant> {
        self.has_recovered.load(Ordering::Relaxed).then(|| self.lock().recovered_at).flatten()
    }

    /// When the last attempt ended, if it failed at least [`PROBE_INTERVAL`] ago.
    pub fn probe_due(&self, now: Instant) -> Option<Instant> {
        let state = self.lock();
        let is_due = |at: &Instant| now.saturating_duration_since(*at) >= PROBE_INTERVAL;
        state.tried_at.filter(|at| state.failures > 0 && is_due(at))
    }

    /// Records that the backend did not accept the connection of an attempt that started at `started`.
    /// Returns whether the backend is ejected because of it.
    pub fn record_failure(&self, started: Instant, now: Instant) -> bool {
        let mut state = self.lock();
        // An attempt that started later has succeeded.
        if state.failures == 0 && state.tried_at.is_some_and(|succeeded| succeeded > started) {
            return false;
        }
        state.tried_at = Some(now);
        state.failures = state.failures.saturating_add(1);
        self.is_ejected.store(state.failures >= FAILURES_MAX, Ordering::Relaxed);
        state.failures == FAILURES_MAX
    }

    /// Records that the backend accepted a connection. Returns whether it was ejected before.
    pub fn record_success(&self, now: Instant) -> bool {
        let mut state = self.lock();
        let was_ejected = state.failures >= FAILURES_MAX;
        if was_ejected {
            state.recovered_at = Some(now);
            self.has_recovered.store(true, Ordering::Relaxed);
            self.is_ejected.store(false, Ordering::Relaxed);
        }
        (state.tried_at, state.failures, state.cause) = (Some(now), 0, None);
        was_ejected
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HealthState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Failures in a row that eject a backend: a single lost packet or full queue moves no client.
const FAILURES_MAX: u32 = 3;
/// How long a backend that is down is left alone, unless a request needs it.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn state_is_that_of_the_last_attempt() {
        let (health, now) = (Health::default(), Instant::now());
        assert_eq!((health.state(), health.probe_due(now)), (BackendState::Untried, None));
        assert!(!health.record_failure(now, now));
        assert_eq!(health.state(), BackendState::Down);
        assert!(!health.record_success(now));
        assert_eq!((health.state(), health.probe_due(now + 9 * SECOND)), (BackendState::Up, None));
        health.record_failure(now, now);
        assert_eq!(health.state(), BackendState::Down);
        assert_eq!(health.probe_due(now + SECOND), None);
        assert_eq!(health.probe_due(now + 2 * SECOND), Some(now));
    }

    #[test]
    fn cause_is_that_of_the_last_failure() {
        let (health, now) = (Health::default(), Instant::now());
        health.set_cause("late".to_owned());
        assert_eq!(health.failures(), (0, None));
        for cause in ["connection refused", "timed out"] {
            health.record_failure(now, now);
            health.set_cause(cause.to_owned());
        }
        assert_eq!(health.failures(), (2, Some("timed out".into())));
        health.record_success(now);
        assert_eq!(health.failures(), (0, None));
    }

    // Requirements: BM25.
    #[test]
    fn three_failures_eject_until_a_success() {
        let (health, now) = (Health::default(), Instant::now());
        assert!(!health.record_success(now));
        assert_eq!(health.recovered_at(), None);
        for _ in 0..2 {
            let ejected = [(); 4].map(|()| health.record_failure(now, now));
            assert_eq!(ejected, [false, false, true, false]);
            assert!(health.is_ejected());
            assert!(health.record_success(now));
            assert!(!health.is_ejected());
            assert_eq!(health.recovered_at(), Some(now));
        }
        assert!(!health.record_success(now + SECOND));
        assert_eq!(health.recovered_at(), Some(now));
    }

    #[test]
    fn failure_of_an_earlier_attempt_does_not_count() {
        let (health, started) = (Health::default(), Instant::now());
        health.record_success(started + SECOND);
        health.record_failure(started, started + 5 * SECOND);
        assert_eq!(health.state(), BackendState::Up);
        health.record_failure(started + 2 * SECOND, started + 5 * SECOND);
        assert_eq!(health.state(), BackendState::Down);
    }
}
