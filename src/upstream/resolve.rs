//! Resolving the host name of a backend, with a cache. The system's resolver may block for a long
//! time, so at most one lookup per backend runs at a time, and an expired result is used meanwhile.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

use super::choice::rendezvous::KeyHash;
use crate::client::ClientKey;
use crate::net::network::Net;

/// The cached addresses of one backend.
#[derive(Debug, Default)]
pub struct CachedResolver {
    cache: Mutex<Option<ResolvedAddresses>>,
    /// Held during a lookup.
    lookup: AsyncMutex<()>,
    /// Whether a timer calls [`refresh`](Self::refresh), so that no result expires.
    is_refreshed: bool,
}

#[derive(Clone, Debug)]
struct ResolvedAddresses {
    resolved_at: Instant,
    addresses: Arc<[SocketAddr]>,
}

impl CachedResolver {
    /// A resolver whose results are used until a timer [refreshes](Self::refresh) them.
    pub fn refreshed() -> Self {
        Self { is_refreshed: true, ..Self::default() }
    }

    /// Returns the addresses of a backend, sorted, with the family first that the resolver prefers. An IP
    /// address is returned as it is, and a cached result for ten seconds or until it is refreshed; if a later lookup
    /// fails, the last result is returned again.
    ///
    /// # Errors
    /// The lookup failed and no earlier result exists.
    pub async fn addresses(
        &self,
        net: &dyn Net,
        host: &str,
        port: u16,
    ) -> io::Result<Arc<[SocketAddr]>> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok([SocketAddr::new(ip, port)].into());
        }
        if let Some(addresses) = self.fresh() {
            return Ok(addresses);
        }
        let _lookup = match (self.lookup.try_lock(), self.cached()) {
            (Ok(lookup), _) => lookup,
            // Another task is resolving the name; an expired result is better than waiting.
            (Err(_), Some(expired)) => return Ok(expired.addresses),
            (Err(_), None) => self.lookup.lock().await,
        };
        // The lookup that this one has waited for may have succeeded.
        if let Some(addresses) = self.fresh() {
            return Ok(addresses);
        }
        let found = self.look_up(net, host, port).await;
        found.or_else(|error| self.last().ok_or(error))
    }

    /// Looks the name up, whatever is cached, and returns its addresses. A lookup that is already running is waited
    /// for.
    ///
    /// # Errors
    /// The lookup failed, or the answer has no address. The last result stays in use.
    pub async fn refresh(
        &self,
        net: &dyn Net,
        host: &str,
        port: u16,
    ) -> io::Result<Arc<[SocketAddr]>> {
        let _lookup = self.lookup.lock().await;
        self.look_up(net, host, port).await
    }

    /// The last result, however old.
    pub fn last(&self) -> Option<Arc<[SocketAddr]>> {
        self.cached().map(|cached| cached.addresses)
    }

    /// Looks the name up and keeps the result: the same list if it has the same addresses.
    async fn look_up(&self, net: &dyn Net, host: &str, port: u16) -> io::Result<Arc<[SocketAddr]>> {
        let mut found = net.resolve(host, port).await?;
        // Sorted within each family, so that the same addresses are kept each time.
        let prefers_v6 = found.first().is_some_and(SocketAddr::is_ipv6);
        found.sort_by_key(|address| (address.is_ipv6() != prefers_v6, *address));
        found.dedup();
        found.truncate(ADDRESSES_MAX);
        if found.is_empty() {
            return Err(io::Error::other("the answer has no address"));
        }
        let addresses = match self.last() {
            Some(last) if *last == *found => last,
            Some(_) | None => found.into(),
        };
        let resolved =
            ResolvedAddresses { resolved_at: Instant::now(), addresses: addresses.clone() };
        *self.cache.lock().unwrap_or_else(PoisonError::into_inner) = Some(resolved);
        Ok(addresses)
    }

    /// The cached result unless it has expired.
    fn fresh(&self) -> Option<Arc<[SocketAddr]>> {
        let resolved = self.cached()?;
        let is_fresh = self.is_refreshed || resolved.resolved_at.elapsed() < CACHE_TTL;
        is_fresh.then_some(resolved.addresses)
    }

    fn cached(&self) -> Option<ResolvedAddresses> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The addresses of one name in the order in which this client tries them, whatever the order in which a
/// resolver lists them. The family that the resolver prefers comes first, since the other one may not be
/// reachable (RFC 6724).
pub fn address_order(key: ClientKey, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let prefers_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let rank = |address: &SocketAddr| {
        let ip = match address.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        (address.is_ipv6() != prefers_v6, KeyHash::of_client(key).with(&ip.octets()))
    };
    let mut order = addresses.to_vec();
    order.sort_by_cached_key(rank);
    order
}

/// How long a result is used without another lookup.
const CACHE_TTL: Duration = Duration::from_secs(10);
/// Maximum number of addresses used per name.
const ADDRESSES_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::network::SystemNet;

    #[tokio::test]
    async fn addresses_need_no_lookup_and_names_are_cached() {
        let resolver = CachedResolver::default();
        let found = resolver.addresses(&SystemNet, "::1", 9).await.unwrap();
        assert_eq!(*found, ["[::1]:9".parse().unwrap()]);
        assert!(resolver.cached().is_none());
        assert!(
            resolver
                .addresses(&SystemNet, "localhost", 9)
                .await
                .unwrap()
                .iter()
                .all(|a| a.port() == 9)
        );
        assert!(resolver.cached().is_some());
    }

    // Requirements: BM21.
    #[tokio::test(start_paused = true)]
    async fn last_good_answer_is_used_on_failure() {
        let resolver = CachedResolver::default();
        let good: Arc<[SocketAddr]> = ["192.0.2.1:9".parse().unwrap()].into();
        *resolver.cache.lock().unwrap() =
            Some(ResolvedAddresses { resolved_at: Instant::now(), addresses: good.clone() });
        tokio::time::advance(CACHE_TTL * 2).await;
        // The lookup of another task blocks.
        let _lookup = resolver.lookup.try_lock().unwrap();
        assert_eq!(resolver.addresses(&SystemNet, "name.invalid", 9).await.unwrap(), good);
    }
}
