//! What the probes of `[pool.probe]` show about a backend.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::config::settings::probe::ProbeSettings;

/// A check of one backend of a pool, and its result. Shared by all routes that use the pool, and kept across
/// reloads that do not change the settings.
#[derive(Debug)]
pub struct ProbeHealth {
    /// How the backend is probed.
    pub settings: ProbeSettings,
    /// A [`ProbeState`], for readers that take no lock.
    state: AtomicU8,
    /// Whether it was up again after it had been down.
    has_recovered: AtomicBool,
    streak: Mutex<ProbeStreak>,
}

/// What probes have shown so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeState {
    /// Neither enough probes have failed, nor has one succeeded.
    Unprobed,
    /// The backend is up.
    Up,
    /// The backend is down.
    Down,
}

impl ProbeState {
    /// The name in `/status.json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unprobed => "unprobed",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// Results that are in a row.
#[derive(Debug, Default)]
struct ProbeStreak {
    successes: u32,
    failures: u32,
    /// Why the last probe failed.
    cause: Arc<str>,
    /// When the backend was last up after it had been down.
    recovered_at: Option<Instant>,
}

impl ProbeHealth {
    /// A check without a result.
    pub fn new(settings: ProbeSettings) -> Self {
        Self {
            settings,
            state: AtomicU8::new(UNPROBED),
            has_recovered: AtomicBool::new(false),
            streak: Mutex::default(),
        }
    }

    /// What probes have shown so far.
    pub fn state(&self) -> ProbeState {
        match self.state.load(Ordering::Relaxed) {
            UNPROBED => ProbeState::Unprobed,
            UP => ProbeState::Up,
            _ => ProbeState::Down,
        }
    }

    /// Whether the last results differ from the state, so that the next one is wanted soon.
    pub fn is_changing(&self) -> bool {
        let streak = self.lock();
        match self.state() {
            ProbeState::Unprobed | ProbeState::Up => streak.failures > 0,
            ProbeState::Down => streak.successes > 0,
        }
    }

    /// When the backend was last up after it had been down.
    pub fn recovered_at(&self) -> Option<Instant> {
        self.has_recovered.load(Ordering::Relaxed).then(|| self.lock().recovered_at).flatten()
    }

    /// Why the last probe failed, if the backend is down.
    pub fn cause(&self) -> Option<Arc<str>> {
        (self.state() == ProbeState::Down).then(|| self.lock().cause.clone())
    }

    /// Records the result of a probe, with the cause of a failure. Returns the new state if it
    /// changes. The first success is none: the backend counted as up before.
    pub fn record(&self, result: Result<(), &str>) -> Option<ProbeState> {
        let mut streak = self.lock();
        match result {
            Ok(()) => {
                streak.successes = streak.successes.saturating_add(1);
                streak.failures = 0;
            }
            Err(cause) => {
                streak.failures = streak.failures.saturating_add(1);
                streak.successes = 0;
                streak.cause = cause.into();
            }
        }
        let rises = |rise| streak.successes >= rise;
        let falls = streak.failures >= self.settings.fall.get();
        let (code, change) = match self.state() {
            ProbeState::Unprobed if rises(1) => (UP, None),
            ProbeState::Down if rises(self.settings.rise.get()) => (UP, Some(ProbeState::Up)),
            ProbeState::Unprobed | ProbeState::Up if falls => (DOWN, Some(ProbeState::Down)),
            ProbeState::Unprobed | ProbeState::Up | ProbeState::Down => return None,
        };
        if change == Some(ProbeState::Up) {
            streak.recovered_at = Some(Instant::now());
            self.has_recovered.store(true, Ordering::Relaxed);
        }
        self.state.store(code, Ordering::Relaxed);
        change
    }

    fn lock(&self) -> MutexGuard<'_, ProbeStreak> {
        self.streak.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const UNPROBED: u8 = 0;
const UP: u8 = 1;
const DOWN: u8 = 2;

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;
    use crate::config::settings::probe::ProbeKind;

    fn health(rise: u32, fall: u32) -> ProbeHealth {
        let [rise, fall] = [rise, fall].map(|count| NonZeroU32::new(count).unwrap());
        let (kind, time) = (ProbeKind::Tcp, Duration::from_secs(1));
        ProbeHealth::new(ProbeSettings { kind, interval: time, timeout: time, rise, fall })
    }

    /// The changes of the state with these results, where `+` is a success.
    fn changes(health: &ProbeHealth, results: &str) -> Vec<Option<ProbeState>> {
        let record = |result| health.record(if result == '+' { Ok(()) } else { Err("refused") });
        results.chars().map(record).collect()
    }

    #[test]
    fn state_changes_after_results_in_a_row() {
        let (up, down) = (Some(ProbeState::Up), Some(ProbeState::Down));
        for (results, expected) in [
            ("---", vec![None, None, down]),
            ("+--+--", vec![None, None, None, None, None, None]),
            ("+----++", vec![None, None, None, down, None, None, up]),
            ("---+-++", vec![None, None, down, None, None, None, up]),
        ] {
            let health = health(2, 3);
            assert_eq!(changes(&health, results), expected, "{results}");
            // Those that end with a change are settled.
            assert_eq!(health.is_changing(), expected.last() == Some(&None), "{results}");
        }
        assert_eq!(changes(&health(1, 1), "-+-+"), [down, up, down, up]);
    }

    #[test]
    fn unprobed_backend_is_not_down() {
        let health = health(2, 3);
        assert_eq!(changes(&self::health(2, 3), "+"), [None], "no change to be logged");
        assert_eq!((health.state(), health.cause()), (ProbeState::Unprobed, None));
        changes(&health, "--");
        assert_eq!((health.state(), health.cause()), (ProbeState::Unprobed, None));
        changes(&health, "-");
        assert_eq!(
            (health.state(), health.cause().as_deref()),
            (ProbeState::Down, Some("refused"))
        );
    }
}
