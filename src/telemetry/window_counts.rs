//! Counts how often the same thing happens within a window of time, in a table of bounded size.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Counts that start again with each window of time.
#[derive(Debug)]
pub struct WindowCounts {
    window: Duration,
    entries_max: usize,
    current: Mutex<CurrentWindow>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct CurrentWindow {
    /// `None` before the first count.
    since: Option<Instant>,
    /// By the hash of what is counted, about 20 bytes each.
    counts: HashMap<u64, u32>,
}

impl WindowCounts {
    /// Counts at most `entries_max` different things in each window.
    pub fn new(window: Duration, entries_max: usize) -> Self {
        Self { window, entries_max, current: Mutex::default(), hasher: RandomState::new() }
    }

    /// How often this has been counted in the current window, including this time. `None` if too many others are
    /// counted in it.
    pub fn count(&self, counted: impl Hash, now: Instant) -> Option<u32> {
        let counted = self.hasher.hash_one(counted);
        // Each entry is written as a whole, so the table is valid after a panic.
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.since.is_none_or(|since| now.duration_since(since) >= self.window) {
            *current = CurrentWindow { since: Some(now), counts: HashMap::new() };
        }
        let counts = &mut current.counts;
        if counts.len() >= self.entries_max && !counts.contains_key(&counted) {
            return None;
        }
        let times = counts.entry(counted).or_default();
        *times = times.saturating_add(1);
        Some(*times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::now;

    const WINDOW: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn counts_start_again_with_each_window() {
        let (counts, start) = (WindowCounts::new(WINDOW, 10), now());
        let times: Vec<_> = (0..3).map(|_| counts.count("a", start)).collect();
        assert_eq!(times, [Some(1), Some(2), Some(3)]);
        assert_eq!(counts.count("b", start), Some(1));
        let last = start + WINDOW - Duration::from_millis(1);
        assert_eq!(counts.count("a", last), Some(4));
        assert_eq!(counts.count("a", start + WINDOW), Some(1));
    }

    #[tokio::test]
    async fn table_is_bounded_and_recovers() {
        let (counts, start) = (WindowCounts::new(WINDOW, 3), now());
        for counted in 0..3 {
            assert_eq!(counts.count(counted, start), Some(1));
        }
        assert_eq!(counts.count(3, start), None);
        assert_eq!(counts.count(0, start), Some(2));
        assert_eq!(counts.count(3, start + WINDOW), Some(1));
        assert_eq!(counts.current.lock().unwrap().counts.len(), 1);
    }
}
