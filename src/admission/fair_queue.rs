//! A queue that is fair by client key: clients take turns, and the entries of one client keep their order.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use crate::client::ClientKey;

/// The queue. Every client with entries is in `clients` once.
#[derive(Debug)]
pub struct FairQueue<T> {
    clients: VecDeque<ClientKey>,
    entries: HashMap<ClientKey, VecDeque<T>>,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { clients: VecDeque::new(), entries: HashMap::new() }
    }
}

impl<T> FairQueue<T> {
    /// Adds an entry behind the others of this client.
    pub fn push(&mut self, client: ClientKey, entry: T) {
        match self.entries.entry(client) {
            Entry::Occupied(mut waiting) => waiting.get_mut().push_back(entry),
            Entry::Vacant(none) => {
                none.insert(VecDeque::from([entry]));
                self.clients.push_back(client);
            }
        }
    }

    /// Takes the first entry of the client that has waited longest since its last one was taken.
    pub fn pop(&mut self) -> Option<T> {
        let client = self.clients.pop_front()?;
        let Entry::Occupied(mut waiting) = self.entries.entry(client) else { return None };
        let entry = waiting.get_mut().pop_front();
        if waiting.get().is_empty() {
            waiting.remove();
        } else {
            self.clients.push_back(client);
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_take_turns() {
        let mut queue = FairQueue::default();
        for (key, entry) in [(1, "a1"), (1, "a2"), (1, "a3"), (2, "b1"), (3, "c1"), (2, "b2")] {
            queue.push(ClientKey::sample(key), entry);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, ["a1", "b1", "c1", "a2", "b2", "a3"]);
        assert!(queue.clients.is_empty() && queue.entries.is_empty());
    }

    #[test]
    fn newcomer_waits_for_one_entry_of_each_client() {
        let mut queue = FairQueue::default();
        (0..100).for_each(|n| queue.push(ClientKey::sample(1), n));
        assert_eq!(queue.pop(), Some(0));
        queue.push(ClientKey::sample(2), 1000);
        assert_eq!([queue.pop(), queue.pop(), queue.pop()], [Some(1), Some(1000), Some(2)]);
    }
}
