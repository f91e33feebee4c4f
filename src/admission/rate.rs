//! The rate limit for WebSocket handshakes per client.

use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use crate::client::ClientKey;
use crate::reject::RejectReason;

/// One token bucket per client key. The rate and burst are fixed.
#[derive(Debug)]
pub struct HandshakeRate {
    per_second: NonZeroU32,
    burst: NonZeroU32,
    clients: RateLimiter<
        ClientKey,
        DashMapStateStore<ClientKey>,
        RuntimeClock,
        NoOpMiddleware<Duration>,
    >,
    /// Shared by all clients while the table is full, so that a flood of addresses as a whole is
    /// limited to the rate of one client.
    overflow: RateLimiter<NotKeyed, InMemoryState, RuntimeClock, NoOpMiddleware<Duration>>,
    last_sweep: Mutex<Option<Instant>>,
}

/// The clock of the tokio runtime, which tests can pause. Its epoch is the creation of the table.
#[derive(Clone, Debug)]
struct RuntimeClock(Instant);

impl Clock for RuntimeClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

impl HandshakeRate {
    /// Allows `per_second` handshakes on average and `burst` at once.
    pub fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        let quota = Quota::per_second(per_second).allow_burst(burst);
        let clock = RuntimeClock(Instant::now());
        Self {
            per_second,
            burst,
            clients: RateLimiter::new(quota, DashMapStateStore::default(), clock.clone()),
            overflow: RateLimiter::new(quota, InMemoryState::default(), clock),
            last_sweep: Mutex::default(),
        }
    }

    /// Whether the rate and burst are these, so that a reload can keep the buckets.
    pub fn has_quota(&self, per_second: NonZeroU32, burst: NonZeroU32) -> bool {
        (self.per_second, self.burst) == (per_second, burst)
    }

    /// Counts one handshake.
    ///
    /// # Errors
    /// [`RejectReason::ClientRateLimit`] if the client has exceeded its rate.
    pub fn admit(&self, key: ClientKey) -> Result<(), RejectReason> {
        if self.clients.len() >= KEYS_MAX {
            self.sweep_once_a_second();
        }
        let admitted = if self.clients.len() < KEYS_MAX {
            self.clients.check_key(&key).is_ok()
        } else {
            self.overflow.check().is_ok()
        };
        if admitted { Ok(()) } else { Err(RejectReason::ClientRateLimit) }
    }

    fn sweep_once_a_second(&self) {
        // If it is locked, another task is sweeping.
        let Ok(mut last) = self.last_sweep.try_lock() else { return };
        if last.is_none_or(|then| then.elapsed() >= Duration::from_secs(1)) {
            self.clients.retain_recent();
            *last = Some(Instant::now());
        }
    }

    /// Removes every client whose bucket is full again. Call it every few seconds to keep the table
    /// small.
    pub fn sweep(&self) {
        self.clients.retain_recent();
        self.clients.shrink_to_fit();
    }
}

/// Maximum number of buckets, about 6 MiB.
const KEYS_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{ClientAddr, KeyPrefixes};

    #[test]
    fn rate_applies_to_each_client_separately() {
        let one = NonZeroU32::MIN;
        let rate = HandshakeRate::new(one, NonZeroU32::new(3).unwrap());
        let key = |addr: &str| {
            ClientKey::new(&ClientAddr::new(addr.parse().unwrap()), KeyPrefixes::default())
        };
        let noisy = key("192.0.2.1:1");
        assert!((0..3).all(|_| rate.admit(noisy).is_ok()));
        assert_eq!(rate.admit(noisy), Err(RejectReason::ClientRateLimit));
        assert!(rate.admit(key("192.0.2.2:1")).is_ok());
    }
}
