//! A queue that is fair by owner, such as a client: owners take turns, and the entries of one owner keep their order.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// The queue. Every owner with entries is in `owners` once.
#[derive(Debug)]
pub struct FairQueue<K, T> {
    owners: VecDeque<K>,
    entries: HashMap<K, VecDeque<T>>,
}

impl<K, T> Default for FairQueue<K, T> {
    fn default() -> Self {
        Self { owners: VecDeque::new(), entries: HashMap::new() }
    }
}

impl<K: Copy + Eq + Hash, T> FairQueue<K, T> {
    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Adds an entry behind the others of this owner.
    pub fn push(&mut self, owner: K, entry: T) {
        match self.entries.entry(owner) {
            Entry::Occupied(mut waiting) => waiting.get_mut().push_back(entry),
            Entry::Vacant(none) => {
                none.insert(VecDeque::from([entry]));
                self.owners.push_back(owner);
            }
        }
    }

    /// Takes the first entry of the owner that has waited longest since its last one was taken.
    pub fn pop(&mut self) -> Option<T> {
        let owner = self.owners.pop_front()?;
        let Entry::Occupied(mut waiting) = self.entries.entry(owner) else { return None };
        let entry = waiting.get_mut().pop_front();
        if waiting.get().is_empty() {
            waiting.remove();
        } else {
            self.owners.push_back(owner);
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_take_turns() {
        let mut queue = FairQueue::default();
        for (key, entry) in [(1, "a1"), (1, "a2"), (1, "a3"), (2, "b1"), (3, "c1"), (2, "b2")] {
            queue.push(key, entry);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, ["a1", "b1", "c1", "a2", "b2", "a3"]);
        assert!(queue.owners.is_empty() && queue.entries.is_empty());
    }

    #[test]
    fn newcomer_waits_for_one_entry_of_each_owner() {
        let mut queue = FairQueue::default();
        (0..100).for_each(|n| queue.push(1, n));
        assert_eq!(queue.pop(), Some(0));
        queue.push(2, 1000);
        assert_eq!([queue.pop(), queue.pop(), queue.pop()], [Some(1), Some(1000), Some(2)]);
    }
}
