//! Resolving the host name of a backend, with a cache. The system's resolver may block for a long
//! time, so at most one lookup per backend runs at a time, and an expired result is used meanwhile.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

use crate::net::network::Net;

/// The cached addresses of one backend.
#[derive(Debug, Default)]
pub struct CachedResolver {
    cache: Mutex<Option<ResolvedAddresses>>,
    /// Held during a lookup.
    lookup: AsyncMutex<()>,
}

#[derive(Clone, Debug)]
struct ResolvedAddresses {
    resolved_at: Instant,
    addresses: Arc<[SocketAddr]>,
}

impl CachedResolver {
    /// Returns the addresses of a backend, sorted, with the family first that the resolver prefers. An IP
    /// address is returned as it is, and a cached result for ten seconds; if a later lookup fails, the
    /// last result is returned again.
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
        match net.resolve(host, port).await {
            Ok(mut found) => {
                // Sorted within each family, so that the same addresses are kept each time.
                let prefers_v6 = found.first().is_some_and(SocketAddr::is_ipv6);
                found.sort_by_key(|address| (address.is_ipv6() != prefers_v6, *address));
                let addresses: Arc<[SocketAddr]> = found.into_iter().take(ADDRESSES_MAX).collect();
                let resolved =
                    ResolvedAddresses { resolved_at: Instant::now(), addresses: addresses.clone() };
                *self.cache.lock().unwrap_or_else(PoisonError::into_inner) = Some(resolved);
                Ok(addresses)
            }
            Err(error) => self.cached().map(|expired| expired.addresses).ok_or(error),
        }
    }

    /// The cached result unless it has expired.
    fn fresh(&self) -> Option<Arc<[SocketAddr]>> {
        let resolved = self.cached()?;
        (resolved.resolved_at.elapsed() < CACHE_TTL).then_some(resolved.addresses)
    }

    fn cached(&self) -> Option<ResolvedAddresses> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How long a result is used without another lookup.
const CACHE_TTL: Duration = Duration::from_secs(10);
/// Maximum number of addresses used per name.
const ADDRESSES_MAX: usize = 64;

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
