//! Counts events that traffic can cause again and again, and says when the count may be logged.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The number of events since the last line about them.
#[derive(Debug)]
pub struct SampledCount {
    interval: Duration,
    state: Mutex<CountState>,
}

#[derive(Debug, Default)]
struct CountState {
    logged: Option<Instant>,
    count: u64,
}

impl SampledCount {
    /// Allows one line in each `interval`.
    pub fn new(interval: Duration) -> Self {
        Self { interval, state: Mutex::default() }
    }

    /// Counts one event. Returns the number since the last line if another may be logged now; it then counts as
    /// logged.
    pub fn add(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.count += 1;
        let is_due = state.logged.is_none_or(|then| now.duration_since(then) >= self.interval);
        if !is_due {
            return None;
        }
        state.logged = Some(now);
        Some(std::mem::take(&mut state.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::now;

    #[tokio::test]
    async fn events_between_lines_are_counted() {
        let (count, start) = (SampledCount::new(Duration::from_secs(10)), now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let added = [0, 1, 9, 10, 19].map(|seconds| count.add(at(seconds)));
        assert_eq!(added, [Some(1), None, None, Some(3), None]);
        assert_eq!([count.add(at(20)), count.add(at(40))], [Some(2), Some(1)]);
    }
}
