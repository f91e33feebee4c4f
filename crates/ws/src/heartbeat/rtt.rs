//! Round-trip times of pings.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::stats::Rtt;

/// Round-trip times in microseconds, at most about an hour.
#[derive(Clone, Copy, Debug)]
pub(super) struct RttSamples {
    last: u32,
    max: u32,
    answers: NonZeroU32,
}

impl RttSamples {
    /// Adds a sample to those `before` it.
    pub(super) fn with(before: Option<Self>, elapsed: Duration) -> Self {
        let micros = u32::try_from(elapsed.as_micros()).unwrap_or(u32::MAX);
        let (max, answers) = match before {
            Some(before) => (before.max.max(micros), before.answers.saturating_add(1)),
            None => (micros, NonZeroU32::MIN),
        };
        Self { last: micros, max, answers }
    }

    #[inline]
    pub(super) fn answers(self) -> u32 {
        self.answers.get()
    }

    pub(super) fn rtt(self) -> Rtt {
        let micros = |micros| Duration::from_micros(u64::from(micros));
        Rtt { last: micros(self.last), max: micros(self.max), answers: self.answers() }
    }
}
