//! Rate limits per client: of new connections, of WebSocket handshakes, and of plain requests.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use crate::client::ClientKey;
use crate::config::settings::rates::{ClientRate, RateSettings};
use crate::reject::RejectReason;
use crate::reject::drop_reason::DropReason;

/// The rate limits of a snapshot, carried over while their settings are unchanged.
#[derive(Clone, Debug)]
pub struct ClientRates {
    /// New connections.
    pub connections: Arc<ClientRateLimit<DropReason>>,
    /// WebSocket handshakes.
    pub handshakes: Arc<ClientRateLimit<RejectReason>>,
    /// Plain requests.
    pub requests: Arc<ClientRateLimit<RejectReason>>,
}

impl ClientRates {
    /// Builds the limits. `previous` are those of the current snapshot.
    pub fn build(settings: &RateSettings, previous: Option<&Self>) -> Self {
        let connections = previous.map(|previous| &previous.connections);
        let handshakes = previous.map(|previous| &previous.handshakes);
        let requests = previous.map(|previous| &previous.requests);
        let (connection, handshake, request) = (
            DropReason::ClientConnectionRate,
            RejectReason::ClientRateLimit,
            RejectReason::ClientRequestRate,
        );
        Self {
            connections: carry_over(settings.connections, connections, connection),
            handshakes: carry_over(settings.handshakes, handshakes, handshake),
            requests: carry_over(settings.requests, requests, request),
        }
    }

    /// Removes every client whose buckets are full again. Call it every few seconds to keep the tables
    /// small.
    pub fn sweep(&self) {
        self.connections.sweep();
        self.handshakes.sweep();
        self.requests.sweep();
    }
}

/// The previous limit if its rate is unchanged, otherwise a new one.
fn carry_over<R: Clone>(
    rate: ClientRate,
    previous: Option<&Arc<ClientRateLimit<R>>>,
    reason: R,
) -> Arc<ClientRateLimit<R>> {
    let unchanged = previous.filter(|previous| previous.rate == rate).cloned();
    unchanged.unwrap_or_else(|| Arc::new(ClientRateLimit::new(rate, reason)))
}

/// One token bucket per client key. The rate and burst are fixed.
#[derive(Debug)]
pub struct ClientRateLimit<R> {
    rate: ClientRate,
    /// Why anything over the rate is rejected.
    reason: R,
    clients: RateLimiter<
        ClientKey,
        DashMapStateStore<ClientKey>,
        RuntimeClock,
        NoOpMiddleware<Duration>,
    >,
    /// How many keys may be added before the size of the table is looked at, for which all of its parts must be
    /// locked.
    room: AtomicUsize,
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

impl<R: Clone> ClientRateLimit<R> {
    /// Limits each client to this rate; `reason` is why anything over it is rejected.
    fn new(rate: ClientRate, reason: R) -> Self {
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
        let clock = RuntimeClock(Instant::now());
        Self {
            rate,
            reason,
            clients: RateLimiter::new(quota, DashMapStateStore::default(), clock.clone()),
            room: AtomicUsize::new(KEYS_MAX),
            overflow: RateLimiter::new(quota, InMemoryState::default(), clock),
            last_sweep: Mutex::default(),
        }
    }

    /// Counts one connection, handshake or request.
    ///
    /// # Errors
    /// The reason of this limit, if the client has exceeded its rate.
    pub fn admit(&self, key: ClientKey) -> Result<(), R> {
        let admitted = if self.has_room() {
            self.clients.check_key(&key).is_ok()
        } else {
            self.overflow.check().is_ok()
        };
        if admitted { Ok(()) } else { Err(self.reason.clone()) }
    }

    /// Whether one more key may be added.
    fn has_room(&self) -> bool {
        let use_one = |room: usize| room.checked_sub(1);
        if self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, use_one).is_ok() {
            return true;
        }
        if self.clients.len() >= KEYS_MAX {
            self.sweep_once_a_second();
        }
        let room = KEYS_MAX.saturating_sub(self.clients.len());
        self.room.store(room.saturating_sub(1), Ordering::Relaxed);
        room > 0
    }

    fn sweep_once_a_second(&self) {
        // If it is locked, another task is sweeping.
        let Ok(mut last) = self.last_sweep.try_lock() else { return };
        if last.is_none_or(|then| then.elapsed() >= Duration::from_secs(1)) {
            self.clients.retain_recent();
            *last = Some(Instant::now());
        }
    }

    fn sweep(&self) {
        self.clients.retain_recent();
        self.clients.shrink_to_fit();
    }
}

/// Maximum number of buckets, about 6 MiB.
const KEYS_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::num::NonZeroU32;

    use super::*;
    use crate::client::{ClientAddr, KeyPrefixes};

    fn limit(per_second: u32, burst: u32) -> ClientRateLimit<RejectReason> {
        let [per_second, burst] = [per_second, burst].map(|n| NonZeroU32::new(n).unwrap());
        ClientRateLimit::new(ClientRate { per_second, burst }, RejectReason::ClientRateLimit)
    }

    fn key(number: u32) -> ClientKey {
        let addr = (Ipv4Addr::from(number), 1).into();
        ClientKey::new(&ClientAddr::new(addr), KeyPrefixes::default())
    }

    #[test]
    fn rate_applies_to_each_client_separately() {
        let rate = limit(1, 3);
        assert!((0..3).all(|_| rate.admit(key(1)).is_ok()));
        assert_eq!(rate.admit(key(1)), Err(RejectReason::ClientRateLimit));
        assert!(rate.admit(key(2)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn clients_share_a_bucket_while_the_table_is_full() {
        let rate = limit(1, 2);
        let keys = u32::try_from(KEYS_MAX).unwrap();
        assert!((0..keys).all(|number| rate.admit(key(number)).is_ok()));
        assert!((0..2).all(|more| rate.admit(key(keys + more)).is_ok()));
        assert!(rate.admit(key(keys + 2)).is_err());
        assert_eq!(rate.clients.len(), KEYS_MAX);
        // All buckets are full again.
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!((0..9).all(|more| rate.admit(key(keys + more)).is_ok()));
        assert_eq!(rate.clients.len(), 9);
    }
}
