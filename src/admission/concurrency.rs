//! How many are inside: connections and tunnels, in all, by client key and by route. A [`Permit`]
//! is a share of the count and gives it back when dropped, so it lives in what it pays for.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::client::ClientKey;
use crate::reject::{DropReason, RejectReason};

/// The counts of the whole process. They survive reloads; the caps are arguments, so that a
/// reload's new caps are held against the same counts.
#[derive(Debug)]
pub struct ConcurrencyLimits {
    connections: AtomicUsize,
    tunnels: AtomicUsize,
    /// Entries vanish at zero, so the table is bounded by what is open.
    shards: [Mutex<HashMap<ClientKey, HeldPlaces>>; SHARDS],
    hasher: RandomState,
}

/// Tunnels of one route.
pub type RouteTunnels = Arc<AtomicUsize>;

/// A share of the counts.
#[derive(Debug)]
pub struct Permit {
    occupancy: Arc<ConcurrencyLimits>,
    /// Absent for a connection that counts for no client, or for none yet.
    key: Option<ClientKey>,
    /// Present for a tunnel, absent for a connection.
    route: Option<RouteTunnels>,
}

#[derive(Debug, Default)]
struct HeldPlaces {
    connections: usize,
    tunnels: usize,
}

impl Default for ConcurrencyLimits {
    fn default() -> Self {
        Self {
            connections: AtomicUsize::new(0),
            tunnels: AtomicUsize::new(0),
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
        }
    }
}

impl ConcurrencyLimits {
    /// Counts a connection in, whosever it is, or says that there are too many. It counts for its
    /// client from [`Permit::count_for`] on.
    pub fn connection(self: &Arc<Self>, most: usize) -> Result<Permit, DropReason> {
        take(&self.connections, most).ok_or(DropReason::ProxyLimit)?;
        Ok(Permit { occupancy: self.clone(), key: None, route: None })
    }

    /// Counts a tunnel in, or says which of the three caps is reached.
    pub fn tunnel(
        self: &Arc<Self>,
        key: ClientKey,
        most: usize,
        most_per_client: usize,
        route: &RouteTunnels,
        most_on_route: Option<usize>,
    ) -> Result<Permit, RejectReason> {
        let mut shard = self.shard(key);
        let held = shard.entry(key).or_default();
        let counted = if held.tunnels >= most_per_client {
            Err(RejectReason::ClientLimit)
        } else {
            self.count_tunnel(most, route, most_on_route)
        };
        match counted {
            Ok(()) => held.tunnels += 1,
            Err(refusal) => {
                forget_if_empty(&mut shard, key);
                return Err(refusal);
            }
        }
        drop(shard);
        Ok(Permit { occupancy: self.clone(), key: Some(key), route: Some(route.clone()) })
    }

    /// Connections open now, tunnels included until their socket closes.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Tunnels open now.
    pub fn tunnels(&self) -> usize {
        self.tunnels.load(Ordering::Relaxed)
    }

    fn count_tunnel(
        &self,
        most: usize,
        route: &RouteTunnels,
        most_on_route: Option<usize>,
    ) -> Result<(), RejectReason> {
        take(&self.tunnels, most).ok_or(RejectReason::ProxyLimit)?;
        if take(route, most_on_route.unwrap_or(usize::MAX)).is_none() {
            self.tunnels.fetch_sub(1, Ordering::Relaxed);
            return Err(RejectReason::RouteLimit);
        }
        Ok(())
    }

    fn shard(&self, key: ClientKey) -> MutexGuard<'_, HashMap<ClientKey, HeldPlaces>> {
        let index = self.hasher.hash_one(key) as usize % SHARDS;
        // The counts stay true whatever panicked elsewhere while the lock was held.
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Counts a connection for its client, too, now that it is known; or says that this one has
    /// too many. To be called once.
    pub fn count_for(&mut self, key: ClientKey, most_per_client: usize) -> Result<(), DropReason> {
        let mut shard = self.occupancy.shard(key);
        let held = shard.entry(key).or_default();
        if held.connections >= most_per_client {
            forget_if_empty(&mut shard, key);
            return Err(DropReason::ClientLimit);
        }
        held.connections += 1;
        drop(shard);
        self.key = Some(key);
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let mut shard = self.occupancy.shard(key);
            if let Some(held) = shard.get_mut(&key) {
                match &self.route {
                    Some(_) => held.tunnels = held.tunnels.saturating_sub(1),
                    None => held.connections = held.connections.saturating_sub(1),
                }
            }
            forget_if_empty(&mut shard, key);
        }
        match &self.route {
            Some(route) => {
                route.fetch_sub(1, Ordering::Relaxed);
                self.occupancy.tunnels.fetch_sub(1, Ordering::Relaxed);
            }
            None => {
                self.occupancy.connections.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

/// One more, unless there are `most` already.
fn take(count: &AtomicUsize, most: usize) -> Option<usize> {
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| (now < most).then_some(now + 1))
        .ok()
}

fn forget_if_empty(shard: &mut HashMap<ClientKey, HeldPlaces>, key: ClientKey) {
    if shard.get(&key).is_some_and(|held| held.connections == 0 && held.tunnels == 0) {
        shard.remove(&key);
        // A wave of clients must not leave its table behind.
        if shard.is_empty() {
            shard.shrink_to_fit();
        }
    }
}

const SHARDS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{ClientAddr, KeyPrefixes};

    fn key(last: u8) -> ClientKey {
        let addr = format!("192.0.2.{last}:1").parse().unwrap();
        ClientKey::new(&ClientAddr::new(addr), KeyPrefixes::default())
    }

    fn tunnel(
        occupancy: &Arc<ConcurrencyLimits>,
        client: u8,
        route: &RouteTunnels,
    ) -> Result<Permit, RejectReason> {
        occupancy.tunnel(key(client), 3, 2, route, Some(2))
    }

    #[test]
    fn each_cap_has_its_name_and_gives_back() {
        let occupancy = Arc::new(ConcurrencyLimits::default());
        let (a, b) = (RouteTunnels::default(), RouteTunnels::default());
        let first = tunnel(&occupancy, 1, &a).unwrap();
        let second = tunnel(&occupancy, 1, &a).unwrap();
        assert_eq!(tunnel(&occupancy, 1, &b).unwrap_err(), RejectReason::ClientLimit);
        assert_eq!(tunnel(&occupancy, 2, &a).unwrap_err(), RejectReason::RouteLimit);
        let third = tunnel(&occupancy, 2, &b).unwrap();
        assert_eq!(tunnel(&occupancy, 3, &b).unwrap_err(), RejectReason::ProxyLimit);
        assert_eq!(occupancy.tunnels(), 3);
        drop(first);
        let again = tunnel(&occupancy, 3, &a).unwrap();
        drop((second, third, again));
        assert_eq!((occupancy.tunnels(), occupancy.connections()), (0, 0));
        assert_eq!(a.load(Ordering::Relaxed) + b.load(Ordering::Relaxed), 0);
        assert!(occupancy.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }

    fn connection(
        occupancy: &Arc<ConcurrencyLimits>,
        last: u8,
        most: usize,
        most_per_client: usize,
    ) -> Result<Permit, DropReason> {
        let mut permit = occupancy.connection(most)?;
        permit.count_for(key(last), most_per_client).map(|()| permit)
    }

    #[test]
    fn connections_and_tunnels_are_counted_apart() {
        let occupancy = Arc::new(ConcurrencyLimits::default());
        let held = connection(&occupancy, 1, 2, 1).unwrap();
        assert_eq!(connection(&occupancy, 1, 2, 1).unwrap_err(), DropReason::ClientLimit);
        let other = connection(&occupancy, 2, 2, 1).unwrap();
        assert_eq!(connection(&occupancy, 3, 2, 1).unwrap_err(), DropReason::ProxyLimit);
        assert!(tunnel(&occupancy, 1, &RouteTunnels::default()).is_ok());
        drop((held, other));
        assert_eq!(occupancy.connections(), 0);
    }

    #[test]
    fn a_connection_without_a_client_counts_for_the_whole_alone() {
        let occupancy = Arc::new(ConcurrencyLimits::default());
        let unnamed = [occupancy.connection(2).unwrap(), occupancy.connection(2).unwrap()];
        assert_eq!(occupancy.connection(2).unwrap_err(), DropReason::ProxyLimit);
        assert!(occupancy.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
        drop(unnamed);
        assert_eq!(occupancy.connections(), 0);
    }

    #[test]
    fn a_refused_stranger_leaves_no_entry() {
        let occupancy = Arc::new(ConcurrencyLimits::default());
        let route = RouteTunnels::default();
        assert!(occupancy.tunnel(key(1), 0, 1, &route, None).is_err());
        assert!(connection(&occupancy, 1, 1, 0).is_err());
        assert_eq!(occupancy.connections(), 0);
        let entries: usize = occupancy.shards.iter().map(|s| s.lock().unwrap().len()).sum();
        assert_eq!(entries, 0);
    }
}
