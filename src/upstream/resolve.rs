//! The addresses of one backend. Names are looked up by the system's resolver, which may hang: at
//! most one look-up of a backend is waited for at a time, and the last good answer stands in.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex as Turn;
use tokio::time::Instant;

use crate::config::values::patterns::BackendAddress;
use crate::net::network::Net;

/// What is known of where a backend is.
#[derive(Debug, Default)]
pub struct ResolvedNames {
    last: Mutex<Option<ResolvedAddresses>>,
    turn: Turn<()>,
}

#[derive(Clone, Debug)]
struct ResolvedAddresses {
    at: Instant,
    addresses: Arc<[SocketAddr]>,
}

impl ResolvedNames {
    /// The addresses to try, in the resolver's order; an address needs no resolver.
    ///
    /// # Errors
    /// The name has never been found, and was not found now.
    pub async fn addresses(
        &self,
        net: &dyn Net,
        of: &BackendAddress,
    ) -> io::Result<Arc<[SocketAddr]>> {
        if let Ok(ip) = of.host.parse::<IpAddr>() {
            return Ok([SocketAddr::new(ip, of.port)].into());
        }
        if let Some(fresh) = self.known().filter(|answer| answer.at.elapsed() < FRESH) {
            return Ok(fresh.addresses);
        }
        let _turn = match (self.turn.try_lock(), self.known()) {
            (Ok(turn), _) => turn,
            // Somebody is asking; what was good a while ago is better than to wait.
            (Err(_), Some(stale)) => return Ok(stale.addresses),
            (Err(_), None) => self.turn.lock().await,
        };
        // Whoever had the turn before may have had luck.
        if let Some(fresh) = self.known().filter(|answer| answer.at.elapsed() < FRESH) {
            return Ok(fresh.addresses);
        }
        match net.resolve(&of.host, of.port).await {
            Ok(found) => {
                let addresses: Arc<[SocketAddr]> = found.into_iter().take(ADDRESSES_MAX).collect();
                let answer = ResolvedAddresses { at: Instant::now(), addresses: addresses.clone() };
                *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
                Ok(addresses)
            }
            Err(error) => self.known().map(|stale| stale.addresses).ok_or(error),
        }
    }

    fn known(&self) -> Option<ResolvedAddresses> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How long an answer is not asked for again.
const FRESH: Duration = Duration::from_secs(10);
/// Most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::network::SystemNet;

    fn at(host: &str) -> BackendAddress {
        BackendAddress { host: host.into(), port: 9 }
    }

    #[tokio::test]
    async fn an_address_is_its_own_answer_and_a_name_is_remembered() {
        let names = ResolvedNames::default();
        let found = names.addresses(&SystemNet, &at("::1")).await.unwrap();
        assert_eq!(*found, ["[::1]:9".parse().unwrap()]);
        assert!(names.known().is_none());
        assert!(
            names
                .addresses(&SystemNet, &at("localhost"))
                .await
                .unwrap()
                .iter()
                .all(|a| a.port() == 9)
        );
        assert!(names.known().is_some());
    }

    // Requirements: BM21.
    #[tokio::test(start_paused = true)]
    async fn last_good_answer_is_used_on_failure() {
        let names = ResolvedNames::default();
        let good: Arc<[SocketAddr]> = ["192.0.2.1:9".parse().unwrap()].into();
        *names.last.lock().unwrap() =
            Some(ResolvedAddresses { at: Instant::now(), addresses: good.clone() });
        tokio::time::advance(FRESH * 2).await;
        // The resolver hangs in somebody else's turn.
        let _hangs = names.turn.try_lock().unwrap();
        assert_eq!(names.addresses(&SystemNet, &at("name.invalid")).await.unwrap(), good);
    }
}
