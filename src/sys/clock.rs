//! The clocks of the process. Deadlines use [`now`]; only what people read uses [`wall`].

use std::time::Instant;

/// Monotonic time; follows tokio's clock, so that tests can pause it.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Seconds since 1970 (UTC), for display only: nothing is decided by it.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the time of day")]
pub fn wall() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}
