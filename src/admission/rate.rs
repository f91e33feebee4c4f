//! How often one client may begin a WebSocket handshake.

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

/// A token bucket a client key; its quota is fixed when it is made.
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
    /// Shared by all clients while the table is full, so that a flood of addresses is held to
    /// what one client may do rather than to nothing.
    crowd: RateLimiter<NotKeyed, InMemoryState, RuntimeClock, NoOpMiddleware<Duration>>,
    swept: Mutex<Option<Instant>>,
}

/// The clock of the tokio runtime, which tests can pause; its epoch is when the table was made.
#[derive(Clone, Debug)]
struct RuntimeClock(Instant);

impl Clock for RuntimeClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

impl HandshakeRate {
    /// `per_second` in the long run, `burst` at once.
    pub fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        let quota = Quota::per_second(per_second).allow_burst(burst);
        let clock = RuntimeClock(Instant::now());
        Self {
            per_second,
            burst,
            clients: RateLimiter::new(quota, DashMapStateStore::default(), clock.clone()),
            crowd: RateLimiter::new(quota, InMemoryState::default(), clock),
            swept: Mutex::default(),
        }
    }

    /// Whether a reload to these values may keep this table.
    pub fn has_quota(&self, per_second: NonZeroU32, burst: NonZeroU32) -> bool {
        (self.per_second, self.burst) == (per_second, burst)
    }

    /// Counts one handshake, or refuses it.
    pub fn admit(&self, key: ClientKey) -> Result<(), RejectReason> {
        if self.clients.len() >= KEYS_MAX {
            self.sweep_once_a_second();
        }
        let admitted = if self.clients.len() < KEYS_MAX {
            self.clients.check_key(&key).is_ok()
        } else {
            self.crowd.check().is_ok()
        };
        if admitted { Ok(()) } else { Err(RejectReason::ClientRateLimit) }
    }

    fn sweep_once_a_second(&self) {
        // Whoever finds it locked leaves the sweep to the one who holds it.
        let Ok(mut swept) = self.swept.try_lock() else { return };
        if swept.is_none_or(|then| then.elapsed() >= Duration::from_secs(1)) {
            self.clients.retain_recent();
            *swept = Some(Instant::now());
        }
    }

    /// Forgets every client whose bucket is full again. Call it every few seconds: the table
    /// grows without bound otherwise.
    pub fn sweep(&self) {
        self.clients.retain_recent();
        self.clients.shrink_to_fit();
    }
}

/// About 6 MiB of buckets.
const KEYS_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{ClientAddr, KeyPrefixes};

    #[test]
    fn a_burst_passes_and_then_the_rate_holds_for_that_client_alone() {
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
