//! The clocks of the process. Deadlines use [`now`]; what people read, and the validity of certificates, use
//! [`wall`].

use std::time::Instant;

/// Monotonic time; follows tokio's clock, so that tests can pause it.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Seconds since 1970 (UTC). It may jump in either direction, so only the validity and renewal of certificates depend
/// on it, which are times of day.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the time of day")]
pub fn wall() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}
