//! Limits a log message that the traffic of clients can cause again and again.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// When a message was last logged.
#[derive(Debug, Default)]
pub struct OnceAMinute(Mutex<Option<Instant>>);

impl OnceAMinute {
    /// Whether the message may be logged now. If so, it counts as logged.
    pub fn is_due(&self, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| now.duration_since(last) >= INTERVAL);
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}

const INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::now;

    #[tokio::test]
    async fn message_is_due_once_in_an_interval() {
        let (limit, start) = (OnceAMinute::default(), now());
        let due =
            [0, 1, 59, 60, 61, 119, 125].map(|s| limit.is_due(start + Duration::from_secs(s)));
        assert_eq!(due, [true, false, false, true, false, false, true]);
    }
}
