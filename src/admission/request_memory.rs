//! The memory of the requests of each client: one of them must not use up the budget of all.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::pending_memory::{MemoryCharge, PendingMemory, REQUEST_BYTES_MAX};
use crate::client::ClientKey;

/// What the requests of each client take together, in bytes. Has an entry for each client with requests.
#[derive(Debug, Default)]
pub struct RequestMemory {
    clients: Mutex<HashMap<ClientKey, u64>>,
}

/// The memory of one request, which counts until it is dropped.
#[derive(Debug)]
pub struct RequestCharge {
    _all: MemoryCharge,
    of_client: Arc<RequestMemory>,
    client: ClientKey,
    bytes: u64,
}

impl RequestMemory {
    /// Counts the memory of a request of this client; `None` if the client has its share of the budget.
    pub fn charge(
        self: &Arc<Self>,
        client: ClientKey,
        bytes: u64,
        memory: &Arc<PendingMemory>,
    ) -> Option<RequestCharge> {
        let mut clients = self.lock();
        let used = clients.get(&client).copied().unwrap_or_default().saturating_add(bytes);
        if used > (memory.limit() / CLIENTS_MIN).max(SHARE_MIN) {
            return None;
        }
        clients.insert(client, used);
        drop(clients);
        let _all = MemoryCharge::new(memory.clone(), bytes);
        Some(RequestCharge { _all, of_client: self.clone(), client, bytes })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClientKey, u64>> {
        // No code that could panic runs while it is locked.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RequestCharge {
    fn drop(&mut self) {
        if let Entry::Occupied(mut used) = self.of_client.lock().entry(self.client) {
            let left = used.get().saturating_sub(self.bytes);
            if left == 0 {
                used.remove();
            } else {
                used.insert(left);
            }
        }
    }
}

/// How many clients it takes at least to use up the budget. The eighth part of the default on a machine with 1 GiB is
/// room for a thousand requests with heads of 1 KiB.
const CLIENTS_MIN: u64 = 8;
/// Room for one request, however small the budget is.
const SHARE_MIN: u64 = REQUEST_BYTES_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_has_an_eighth_of_the_budget() {
        let (requests, memory) = (Arc::<RequestMemory>::default(), Arc::<PendingMemory>::default());
        memory.set_limit(CLIENTS_MIN * 100 * SHARE_MIN);
        let charge =
            |client, part| requests.charge(ClientKey::sample(client), part * SHARE_MIN, &memory);
        let held = [charge(1, 60), charge(1, 40), charge(2, 100)].map(Option::unwrap);
        assert!(charge(1, 1).is_none() && charge(2, 1).is_none());
        assert_eq!(memory.used(), 200 * SHARE_MIN);
        assert!(charge(3, 101).is_none());
        drop(held);
        assert_eq!((memory.used(), requests.lock().len()), (0, 0));
        assert!(charge(1, 100).is_some());
        memory.set_limit(1);
        assert!(charge(1, 1).is_some() && charge(1, 2).is_none());
    }
}
