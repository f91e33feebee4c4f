//! The memory of the requests of each client: one of them must not use up the budget of all.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::pending_memory::{HTTP2_REQUEST_BYTES_MAX, MemoryCharge, PendingMemory};
use crate::client::ClientKey;
use crate::net::http2::unread::UnreadBudget;

/// What the requests of each client take together, in bytes. Has an entry for each client with requests.
#[derive(Debug, Default)]
pub struct RequestMemory {
    clients: Mutex<HashMap<ClientKey, Weak<ClientMemory>>>,
}

/// What the requests of one client take.
#[derive(Debug)]
struct ClientMemory {
    used: AtomicU64,
    client: ClientKey,
    of_clients: Arc<RequestMemory>,
    all: Arc<PendingMemory>,
}

/// The memory of one request, which counts until it is dropped, and of what it adds for its response.
#[derive(Debug)]
pub struct RequestCharge {
    _all: MemoryCharge,
    of_client: Arc<ClientMemory>,
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
        let known = clients.get(&client).and_then(Weak::upgrade);
        let of_client = known.unwrap_or_else(|| {
            let of_clients = self.clone();
            let (used, all) = (AtomicU64::new(0), memory.clone());
            let added = Arc::new(ClientMemory { used, client, of_clients, all });
            clients.insert(client, Arc::downgrade(&added));
            added
        });
        let used = of_client.used.load(Ordering::Relaxed).saturating_add(bytes);
        let is_within_share = used <= share(memory.limit());
        if is_within_share {
            of_client.used.fetch_add(bytes, Ordering::Relaxed);
        }
        // `of_client` may be the last reference, whose drop locks.
        drop(clients);
        is_within_share.then(|| {
            let _all = MemoryCharge::new(memory.clone(), bytes);
            RequestCharge { _all, of_client, bytes }
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClientKey, Weak<ClientMemory>>> {
        // No code that could panic runs while it is locked.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ClientMemory {
    fn drop(&mut self) {
        let mut clients = self.of_clients.lock();
        // There may be a new one.
        if clients.get(&self.client).is_some_and(|entry| entry.strong_count() == 0) {
            clients.remove(&self.client);
        }
    }
}

impl Drop for RequestCharge {
    fn drop(&mut self) {
        self.of_client.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The response takes more than is reserved with the request.
impl UnreadBudget for RequestCharge {
    fn has_room(&self) -> bool {
        let ClientMemory { used, all, .. } = &*self.of_client;
        !all.is_over() && used.load(Ordering::Relaxed) <= share(all.limit())
    }

    fn add(&self, bytes: usize) {
        self.of_client.used.fetch_add(bytes as u64, Ordering::Relaxed);
        self.of_client.all.add(bytes as u64);
    }

    fn remove(&self, bytes: usize) {
        self.of_client.used.fetch_sub(bytes as u64, Ordering::Relaxed);
        self.of_client.all.remove(bytes as u64);
    }
}

/// What one client may take of a budget.
fn share(limit: u64) -> u64 {
    (limit / CLIENTS_MIN).max(SHARE_MIN)
}

/// How many clients it takes at least to use up the budget. The eighth part of the default on a machine with 1 GiB is
/// room for a thousand requests with heads of 1 KiB.
const CLIENTS_MIN: u64 = 8;
/// Room for one request, and for one head of HTTP/2 of the default size in several frames, however small the budget is.
const SHARE_MIN: u64 = HTTP2_REQUEST_BYTES_MAX + (112 << 10);

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

    #[test]
    fn response_adds_to_the_share_of_its_client() {
        let (requests, memory) = (Arc::<RequestMemory>::default(), Arc::<PendingMemory>::default());
        memory.set_limit(CLIENTS_MIN * 2 * SHARE_MIN);
        let charge =
            |client| requests.charge(ClientKey::sample(client), SHARE_MIN, &memory).unwrap();
        let (one, other) = (charge(1), charge(2));
        one.add(SHARE_MIN as usize);
        assert!(one.has_room());
        one.add(1);
        assert!(!one.has_room() && other.has_room());
        assert!(requests.charge(ClientKey::sample(1), 1, &memory).is_none());
        assert_eq!(memory.used(), 3 * SHARE_MIN + 1);
        memory.set_limit(memory.used() - 1);
        assert!(!other.has_room(), "the budget of all is used up");
        one.remove(1);
        assert!(other.has_room());
        one.remove(SHARE_MIN as usize);
        drop((one, other));
        assert_eq!((memory.used(), requests.lock().len()), (0, 0));
    }
}
