//! Common times for the pings of all sessions, so that one wake-up of the process serves many.

use std::time::Duration;

use crate::timestamp::{Timestamp, nanos, random_fraction};

/// Times that are multiples of [`STEP_NANOS`] after an origin that all sessions share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PingGrid {
    /// Nanoseconds between the last of these times and the start of the session.
    before_start: u32,
}

impl PingGrid {
    /// `since_origin`: the time from the origin to the start of the session.
    pub(crate) fn new(since_origin: Duration) -> Self {
        // Always fits, as a step is shorter than four seconds.
        Self { before_start: u32::try_from(nanos(since_origin) % STEP_NANOS).unwrap_or(0) }
    }

    /// A random time within the `window` that starts at `from`; one of the grid if the window is at
    /// least two steps long.
    pub(crate) fn random_time(self, from: Timestamp, window: Duration, random: u32) -> Timestamp {
        let step = Duration::from_nanos(STEP_NANOS);
        match window.checked_sub(step) {
            Some(rest) if rest >= step => self.next(from.after(random_fraction(rest, random))),
            Some(_) | None => from.after(random_fraction(window, random)),
        }
    }

    /// The first time of the grid at or after `at`.
    fn next(self, at: Timestamp) -> Timestamp {
        let since_start = at.nanos_since(Timestamp::START);
        let past = since_start.saturating_add(self.before_start.into()) % STEP_NANOS;
        at.after_nanos((STEP_NANOS - past) % STEP_NANOS)
    }
}

/// 100 ms: few wake-ups even with thousands of sessions, and few pings in each.
const STEP_NANOS: u64 = 100_000_000;
