//! Entries in order of age, by client key, which knows the client with the most.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::client::ClientKey;

/// The entries. Their numbers grow with each entry that is added.
#[derive(Debug)]
pub struct ClientEntries<T> {
    /// Every client with entries. Those are sorted by number.
    clients: HashMap<ClientKey, VecDeque<(u64, T)>>,
    /// Each client once: the number of its entries, and the first of them.
    ranking: BTreeSet<(usize, Reverse<u64>, ClientKey)>,
    /// Each client once, by the number of its first entry.
    ages: BTreeMap<u64, ClientKey>,
}

impl<T> Default for ClientEntries<T> {
    fn default() -> Self {
        Self { clients: HashMap::new(), ranking: BTreeSet::new(), ages: BTreeMap::new() }
    }
}

impl<T> ClientEntries<T> {
    /// Adds an entry, whose number must be higher than all others.
    pub fn push(&mut self, client: ClientKey, number: u64, entry: T) {
        self.change(client, |entries| entries.push_back((number, entry)));
    }

    /// Removes the entry with this number, if it exists.
    pub fn remove(&mut self, client: ClientKey, number: u64) -> Option<T> {
        self.change(client, |entries| {
            let index = entries.binary_search_by_key(&number, |(number, _)| *number).ok()?;
            entries.remove(index).map(|(_, entry)| entry)
        })
    }

    /// Number of entries of this client.
    pub fn count(&self, client: ClientKey) -> usize {
        self.clients.get(&client).map_or(0, VecDeque::len)
    }

    /// The client with the most entries, and how many. Among several, the one with the oldest entry.
    pub fn most(&self) -> Option<(ClientKey, usize)> {
        self.ranking.last().map(|(count, _, client)| (*client, *count))
    }

    /// The client with the oldest of all entries.
    pub fn eldest(&self) -> Option<ClientKey> {
        self.ages.first_key_value().map(|(_, client)| *client)
    }

    /// The oldest entry of this client.
    pub fn oldest(&self, client: ClientKey) -> Option<&T> {
        self.clients.get(&client)?.front().map(|(_, entry)| entry)
    }

    /// Removes the oldest entry of this client.
    pub fn pop_oldest(&mut self, client: ClientKey) -> Option<T> {
        self.change(client, |entries| entries.pop_front().map(|(_, entry)| entry))
    }

    /// Removes the newest entry of this client.
    pub fn pop_newest(&mut self, client: ClientKey) -> Option<T> {
        self.change(client, |entries| entries.pop_back().map(|(_, entry)| entry))
    }

    /// Changes the entries of a client and updates its rank.
    fn change<R>(
        &mut self,
        client: ClientKey,
        change: impl FnOnce(&mut VecDeque<(u64, T)>) -> R,
    ) -> R {
        let mut entries = match self.clients.entry(client) {
            Entry::Occupied(entries) => entries,
            Entry::Vacant(none) => none.insert_entry(VecDeque::new()),
        };
        let before = rank(client, entries.get());
        let result = change(entries.get_mut());
        let after = rank(client, entries.get());
        if after.is_none() {
            entries.remove();
            // Frees the memory that a surge of clients took.
            if self.clients.is_empty() && self.clients.capacity() > KEPT_CLIENTS {
                self.clients.shrink_to_fit();
            }
        }
        if before != after {
            if let Some(before) = before {
                self.ranking.remove(&before);
                self.ages.remove(&before.1.0);
            }
            self.ages.extend(after.map(|(_, oldest, client)| (oldest.0, client)));
            self.ranking.extend(after);
        }
        result
    }
}

fn rank<T>(
    client: ClientKey,
    entries: &VecDeque<(u64, T)>,
) -> Option<(usize, Reverse<u64>, ClientKey)> {
    entries.front().map(|(oldest, _)| (entries.len(), Reverse(*oldest), client))
}

/// Room for this number of clients is kept, so that one that comes and goes does not allocate each time.
const KEPT_CLIENTS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_who_has_most_and_the_oldest() {
        let [a, b, c] = [1, 2, 3].map(ClientKey::sample);
        let mut all = ClientEntries::default();
        for (number, client) in [a, b, c, b, a, b].into_iter().enumerate() {
            all.push(client, number as u64, number);
        }
        assert_eq!((all.most(), all.oldest(b)), (Some((b, 3)), Some(&1)));
        assert_eq!(all.eldest(), Some(a));
        assert_eq!([all.remove(b, 3), all.remove(b, 3), all.remove(b, 4)], [Some(3), None, None]);
        // As many as the other one, whose first is older.
        assert_eq!((all.most(), all.count(b)), (Some((a, 2)), 2));
        assert_eq!([all.pop_oldest(a), all.pop_newest(b)], [Some(0), Some(5)]);
        assert_eq!((all.most(), all.oldest(a)), (Some((b, 1)), Some(&4)));
        assert_eq!(all.eldest(), Some(b));
        assert_eq!([all.pop_newest(b), all.pop_oldest(b)], [Some(1), None]);
        assert_eq!(all.most(), Some((c, 1)));
        all.remove(c, 2);
        all.remove(a, 4);
        assert_eq!((all.most(), all.clients.len(), all.ranking.len()), (None, 0, 0));
        assert_eq!(all.eldest(), None);
    }
}
