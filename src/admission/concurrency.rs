//! Concurrency limits: open connections and tunnels in total, per client key and per route, and plain requests per
//! client key. A [`Permit`] or [`RequestPermit`] counts one of them and releases the count when dropped, so its owner
//! is the connection, tunnel or request itself.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::warn;

use crate::client::ClientKey;
use crate::reject::RejectReason;
use crate::reject::drop_reason::DropReason;
use crate::sys::clock::now;
use crate::telemetry::once_a_minute::OnceAMinute;

/// The counts of the whole process. They survive reloads; the limits are arguments, so that changed
/// limits apply to the same counts.
#[derive(Debug)]
pub struct ConcurrencyLimits {
    connections: AtomicUsize,
    tunnels: AtomicUsize,
    /// Entries are removed at zero, so the open connections bound the size of the table.
    shards: [Mutex<ClientTable>; SHARDS],
    hasher: RandomState,
    /// When a client near its limit was last logged.
    near_limit_logged: OnceAMinute,
}

/// The number of open tunnels of one route.
pub type RouteTunnels = Arc<AtomicUsize>;

type ClientTable = HashMap<ClientKey, ClientCounts>;

/// The limits that a new tunnel is checked against.
#[derive(Clone, Copy, Debug)]
pub struct TunnelLimits {
    /// Open tunnels of the process.
    pub total: usize,
    /// Open tunnels of one client key.
    pub per_client: usize,
    /// Open tunnels of the route; `None` for no limit.
    pub per_route: Option<usize>,
}

/// The right to hold one connection or tunnel open. Dropping it releases the count.
#[derive(Debug)]
pub struct Permit {
    counts: Arc<ConcurrencyLimits>,
    /// Absent for a connection that is not counted for a client, or not yet.
    key: Option<ClientKey>,
    /// Present for a tunnel, absent for a connection.
    route: Option<RouteTunnels>,
}

/// The right to have one plain request served. Dropping it releases the count.
#[derive(Debug)]
pub struct RequestPermit {
    counts: Arc<ConcurrencyLimits>,
    key: ClientKey,
}

#[derive(Debug, Default)]
struct ClientCounts {
    connections: usize,
    tunnels: usize,
    requests: usize,
}

impl ClientCounts {
    fn is_zero(&self) -> bool {
        self.connections == 0 && self.tunnels == 0 && self.requests == 0
    }
}

impl Default for ConcurrencyLimits {
    fn default() -> Self {
        Self {
            connections: AtomicUsize::new(0),
            tunnels: AtomicUsize::new(0),
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            near_limit_logged: OnceAMinute::default(),
        }
    }
}

impl ConcurrencyLimits {
    /// Counts a connection towards the total limit. [`Permit::assign_client`] counts it for its
    /// client, once that is known.
    ///
    /// # Errors
    /// [`DropReason::ProxyLimit`] if `limit` connections are open, and `make_room` does not end one.
    pub fn admit_connection(
        self: &Arc<Self>,
        limit: usize,
        make_room: impl FnOnce() -> bool,
    ) -> Result<Permit, DropReason> {
        if increment(&self.connections, limit).is_none() {
            if !make_room() {
                return Err(DropReason::ProxyLimit);
            }
            self.connections.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Permit { counts: self.clone(), key: None, route: None })
    }

    /// Counts a tunnel of this client and route.
    ///
    /// # Errors
    /// The limit that is reached: per client, in total or per route, in this order.
    pub fn admit_tunnel(
        self: &Arc<Self>,
        key: ClientKey,
        route: &RouteTunnels,
        limits: TunnelLimits,
    ) -> Result<Permit, RejectReason> {
        let mut shard = self.shard(key);
        let client = shard.entry(key).or_default();
        let counted = if client.tunnels >= limits.per_client {
            Err(RejectReason::ClientLimit)
        } else {
            self.count_tunnel(route, limits)
        };
        let tunnels = client.tunnels + 1;
        match counted {
            Ok(()) => client.tunnels = tunnels,
            Err(reason) => {
                remove_if_zero(&mut shard, key);
                return Err(reason);
            }
        }
        drop(shard);
        if Some(tunnels) == near_limit(limits.per_client) {
            self.log_near_limit(key, tunnels, limits.per_client);
        }
        Ok(Permit { counts: self.clone(), key: Some(key), route: Some(route.clone()) })
    }

    /// Counts a plain request of this client until its response has ended.
    ///
    /// # Errors
    /// [`RejectReason::ClientRequestLimit`] if `limit` requests of the client are being served.
    pub fn admit_request(
        self: &Arc<Self>,
        key: ClientKey,
        limit: usize,
    ) -> Result<RequestPermit, RejectReason> {
        let mut shard = self.shard(key);
        let client = shard.entry(key).or_default();
        if client.requests >= limit {
            remove_if_zero(&mut shard, key);
            return Err(RejectReason::ClientRequestLimit);
        }
        client.requests += 1;
        drop(shard);
        Ok(RequestPermit { counts: self.clone(), key })
    }

    /// Number of open connections, including those that carry a tunnel.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Number of open tunnels.
    pub fn tunnels(&self) -> usize {
        self.tunnels.load(Ordering::Relaxed)
    }

    /// Warns before clients behind one address are rejected; at most once a minute for all clients.
    fn log_near_limit(&self, client: ClientKey, tunnels: usize, limit: usize) {
        if !self.near_limit_logged.is_due(now()) {
            return;
        }
        warn!(
            %client,
            tunnels,
            limit,
            key = "concurrency.tunnels_per_client",
            "a client is near its limit of tunnels; if many users share this address, raise the limit"
        );
    }

    fn count_tunnel(&self, route: &RouteTunnels, limits: TunnelLimits) -> Result<(), RejectReason> {
        increment(&self.tunnels, limits.total).ok_or(RejectReason::ProxyLimit)?;
        if increment(route, limits.per_route.unwrap_or(usize::MAX)).is_none() {
            self.tunnels.fetch_sub(1, Ordering::Relaxed);
            return Err(RejectReason::RouteLimit);
        }
        Ok(())
    }

    fn shard(&self, key: ClientKey) -> MutexGuard<'_, ClientTable> {
        let index = self.hasher.hash_one(key) as usize % SHARDS;
        // No code that could panic runs between related updates, so the counts are still correct.
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Counts the connection for its client as well. Must be called at most once.
    ///
    /// # Errors
    /// [`DropReason::ClientLimit`] if the client has `limit` open connections, and `make_room` does not end one.
    pub fn assign_client(
        &mut self,
        key: ClientKey,
        limit: usize,
        make_room: impl FnOnce() -> bool,
    ) -> Result<(), DropReason> {
        let mut shard = self.counts.shard(key);
        let client = shard.entry(key).or_default();
        if client.connections >= limit && !make_room() {
            remove_if_zero(&mut shard, key);
            return Err(DropReason::ClientLimit);
        }
        client.connections += 1;
        drop(shard);
        self.key = Some(key);
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let mut shard = self.counts.shard(key);
            let is_zero = shard.get_mut(&key).is_some_and(|client| {
                match &self.route {
                    Some(_) => client.tunnels = client.tunnels.saturating_sub(1),
                    None => client.connections = client.connections.saturating_sub(1),
                }
                client.is_zero()
            });
            if is_zero {
                remove_if_zero(&mut shard, key);
            }
        }
        match &self.route {
            Some(route) => {
                route.fetch_sub(1, Ordering::Relaxed);
                self.counts.tunnels.fetch_sub(1, Ordering::Relaxed);
            }
            None => {
                self.counts.connections.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        let mut shard = self.counts.shard(self.key);
        let Some(client) = shard.get_mut(&self.key) else { return };
        client.requests = client.requests.saturating_sub(1);
        // Its connection usually counts as well.
        if client.is_zero() {
            remove_if_zero(&mut shard, self.key);
        }
    }
}

/// Increments the count unless it has reached the limit; returns the previous value.
fn increment(count: &AtomicUsize, limit: usize) -> Option<usize> {
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| (now < limit).then_some(now + 1))
        .ok()
}

/// The number of tunnels at which a client is near this limit: four fifths. `None` for a limit so low
/// that it is meant to be reached.
fn near_limit(limit: usize) -> Option<usize> {
    (limit >= 20).then(|| limit - limit / 5)
}

fn remove_if_zero(shard: &mut ClientTable, key: ClientKey) {
    if shard.get(&key).is_some_and(ClientCounts::is_zero) {
        shard.remove(&key);
        // Frees the memory that a surge of clients took.
        if shard.is_empty() {
            shard.shrink_to_fit();
        }
    }
}

const SHARDS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn tunnel(
        counts: &Arc<ConcurrencyLimits>,
        client: u8,
        route: &RouteTunnels,
    ) -> Result<Permit, RejectReason> {
        let limits = TunnelLimits { total: 3, per_client: 2, per_route: Some(2) };
        counts.admit_tunnel(ClientKey::sample(client), route, limits)
    }

    #[test]
    fn each_limit_has_its_reason_and_is_released() {
        let counts = Arc::new(ConcurrencyLimits::default());
        let (a, b) = (RouteTunnels::default(), RouteTunnels::default());
        let first = tunnel(&counts, 1, &a).unwrap();
        let second = tunnel(&counts, 1, &a).unwrap();
        assert_eq!(tunnel(&counts, 1, &b).unwrap_err(), RejectReason::ClientLimit);
        assert_eq!(tunnel(&counts, 2, &a).unwrap_err(), RejectReason::RouteLimit);
        let third = tunnel(&counts, 2, &b).unwrap();
        assert_eq!(tunnel(&counts, 3, &b).unwrap_err(), RejectReason::ProxyLimit);
        assert_eq!(counts.tunnels(), 3);
        drop(first);
        let again = tunnel(&counts, 3, &a).unwrap();
        drop((second, third, again));
        assert_eq!((counts.tunnels(), counts.connections()), (0, 0));
        assert_eq!(a.load(Ordering::Relaxed) + b.load(Ordering::Relaxed), 0);
        assert!(counts.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }

    fn connection(
        counts: &Arc<ConcurrencyLimits>,
        last: u8,
        total: usize,
        per_client: usize,
    ) -> Result<Permit, DropReason> {
        let mut permit = counts.admit_connection(total, || false)?;
        permit.assign_client(ClientKey::sample(last), per_client, || false).map(|()| permit)
    }

    #[test]
    fn connections_and_tunnels_are_counted_separately() {
        let counts = Arc::new(ConcurrencyLimits::default());
        let held = connection(&counts, 1, 2, 1).unwrap();
        assert_eq!(connection(&counts, 1, 2, 1).unwrap_err(), DropReason::ClientLimit);
        let other = connection(&counts, 2, 2, 1).unwrap();
        assert_eq!(connection(&counts, 3, 2, 1).unwrap_err(), DropReason::ProxyLimit);
        assert!(tunnel(&counts, 1, &RouteTunnels::default()).is_ok());
        drop((held, other));
        assert_eq!(counts.connections(), 0);
    }

    #[test]
    fn connection_without_client_counts_only_in_total() {
        let counts = Arc::new(ConcurrencyLimits::default());
        let admit = || counts.admit_connection(2, || false);
        let permits = [admit().unwrap(), admit().unwrap()];
        assert_eq!(admit().unwrap_err(), DropReason::ProxyLimit);
        assert!(counts.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
        drop(permits);
        assert_eq!(counts.connections(), 0);
    }

    #[test]
    fn requests_of_a_client_are_limited() {
        let counts = Arc::new(ConcurrencyLimits::default());
        let request = |client| counts.admit_request(ClientKey::sample(client), 2);
        let held = [request(1).unwrap(), request(1).unwrap()];
        assert_eq!(request(1).unwrap_err(), RejectReason::ClientRequestLimit);
        drop(request(2).unwrap());
        drop(held);
        drop(request(1).unwrap());
        assert!(counts.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }

    #[test]
    fn rejected_client_leaves_no_entry() {
        let counts = Arc::new(ConcurrencyLimits::default());
        let route = RouteTunnels::default();
        let limits = TunnelLimits { total: 0, per_client: 1, per_route: None };
        assert!(counts.admit_tunnel(ClientKey::sample(1), &route, limits).is_err());
        assert!(connection(&counts, 1, 1, 0).is_err());
        assert!(counts.admit_request(ClientKey::sample(1), 0).is_err());
        assert_eq!(counts.connections(), 0);
        let entries: usize = counts.shards.iter().map(|s| s.lock().unwrap().len()).sum();
        assert_eq!(entries, 0);
    }
}
