//! The names in a list of backends. Each address of a name is a backend of its own, unless all of them are those of
//! one machine: one of each family.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::admin_override::{AddressOverrides, AdminOverride};
use super::resolve::CachedResolver;
use crate::config::settings::pool::BackendSettings;
use crate::config::values::backend_address::BackendAddress;
use crate::net::network::Net;
use crate::telemetry::metrics::counters::Counter;

/// A name and its last answer. Shared by the routes that use its pool, and kept across reloads.
#[derive(Debug)]
pub struct BackendName {
    /// The name and the port, as in the configuration.
    pub address: BackendAddress,
    /// The last answer.
    pub resolver: Arc<CachedResolver>,
    /// Successful and failed lookups.
    pub lookups: [Counter; 2],
    state: Mutex<NameState>,
}

#[derive(Debug, Default)]
struct NameState {
    /// The last answer that was recorded, sorted.
    recorded: Option<Vec<SocketAddr>>,
    /// Why the last lookup failed.
    failure: Option<String>,
}

/// The names of one pool.
#[derive(Debug, Default)]
pub struct BackendNames(Mutex<HashMap<BackendAddress, Arc<BackendName>>>);

/// A name in the list of one route.
#[derive(Debug)]
pub struct ListedName {
    /// The id that it has in the configuration. It is that of the backend as long as the name has one machine.
    pub id: Arc<str>,
    /// The configured weight of each of its backends.
    pub weight: NonZeroU32,
    /// Drain and weight that an operator set for all of its backends, also for those that come later.
    pub admin_override: Arc<AdminOverride>,
    /// The same for single addresses.
    pub addresses: Arc<AddressOverrides>,
    /// The name.
    pub name: Arc<BackendName>,
}

/// What a lookup shows that the one before did not.
#[derive(Debug, PartialEq, Eq)]
pub enum NameChange {
    /// Lookups fail, for this reason.
    Failing(String),
    /// Lookups succeed again.
    Recovered,
    /// The addresses are others than before.
    Moved {
        /// Those that are new.
        added: Vec<SocketAddr>,
        /// Those that are gone.
        removed: Vec<SocketAddr>,
    },
}

impl BackendNames {
    /// The name with this address, created on first use.
    pub fn get(&self, address: &BackendAddress) -> Arc<BackendName> {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that a reload has removed.
        names.retain(|known, name| known == address || Arc::strong_count(name) > 1);
        let new = || Arc::new(BackendName::new(address.clone()));
        names.entry(address.clone()).or_insert_with(new).clone()
    }
}

impl BackendName {
    fn new(address: BackendAddress) -> Self {
        let resolver = Arc::new(CachedResolver::refreshed());
        Self { address, resolver, lookups: Default::default(), state: Mutex::default() }
    }

    /// The last answer; empty if there is none yet.
    pub fn answer(&self) -> Arc<[SocketAddr]> {
        self.resolver.last().unwrap_or_default()
    }

    /// Why the last lookup failed, if it did.
    pub fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    /// Looks the name up. May take as long as the system's resolver does.
    ///
    /// # Errors
    /// The lookup failed; the last answer stays in use.
    pub async fn look_up(&self, net: &dyn Net) -> io::Result<()> {
        let BackendAddress::Tcp { host, port } = &self.address else { return Ok(()) };
        self.resolver.refresh(net, host, *port).await.map(|_| ())
    }

    /// Records the end of a lookup, with the cause of a failure, and returns what it changes.
    pub fn record(&self, looked_up: Result<(), String>) -> Option<NameChange> {
        self.lookups[usize::from(looked_up.is_err())].inc();
        let answer = self.answer();
        let mut state = self.lock();
        if let Err(cause) = looked_up {
            let failing = NameChange::Failing(cause.clone());
            return state.failure.replace(cause).is_none().then_some(failing);
        }
        let has_failed = state.failure.take().is_some();
        let found = sorted(answer.to_vec());
        let Some(before) = state.recorded.replace(found.clone()) else {
            return has_failed.then_some(NameChange::Recovered);
        };
        let without = |all: &[SocketAddr], others: &[SocketAddr]| -> Vec<SocketAddr> {
            all.iter().filter(|address| others.binary_search(address).is_err()).copied().collect()
        };
        let (added, removed) = (without(&found, &before), without(&before, &found));
        match added.is_empty() && removed.is_empty() {
            true => has_failed.then_some(NameChange::Recovered),
            false => Some(NameChange::Moved { added, removed }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, NameState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ListedName {
    /// The settings of the backend at one address of the name, whose configured settings are `listed`.
    pub fn member(listed: &BackendSettings, address: SocketAddr) -> BackendSettings {
        let (host, port) = (address.ip().to_string(), address.port());
        BackendSettings {
            id: address.to_string().into(),
            address: BackendAddress::Tcp { host, port },
            ..listed.clone()
        }
    }
}

/// The addresses of an answer that are backends of their own, sorted; none if they are those of one machine, or there
/// is no answer yet.
pub fn separate_addresses(answer: &[SocketAddr]) -> Vec<SocketAddr> {
    let v6 = answer.iter().filter(|address| address.is_ipv6()).count();
    match v6 <= 1 && answer.len() - v6 <= 1 {
        true => Vec::new(),
        false => sorted(answer.to_vec()),
    }
}

/// The only address of an answer, if it has no other.
pub fn only_address(answer: &[SocketAddr]) -> Option<SocketAddr> {
    match answer {
        [only] => Some(*only),
        _ => None,
    }
}

fn sorted(mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    addresses.sort_unstable();
    addresses
}

#[cfg(test)]
pub(crate) mod tests;
