//! Names that are often written instead of a key, and what to write.

mod names;

use self::names::SYNONYMS;
pub(crate) use self::names::Synonym;
use super::key_path::{header, without_indices};

impl Synonym {
    /// The entry for a key, a path such as `route[0].heartbeat.patience`.
    pub(crate) fn of(key: &str) -> Option<&'static Self> {
        let key = without_indices(key).replace("[].", ".");
        SYNONYMS.iter().find(|entry| entry.names.iter().any(|name| is_end(&key, name)))
    }

    /// The first of the `keys` of this table, a path such as `route[0].limits`, that does the same.
    pub(crate) fn key_in<'k>(&self, table: &str, keys: &[&'k str]) -> Option<&'k str> {
        let table = without_indices(table);
        // Tables of a route have the keys of those at the top level, and a pool has those of a route that
        // concern backends.
        let is_table = |of: &str| {
            let of_route = of.strip_prefix("route[]");
            of == table
                || table.strip_prefix("route[].") == Some(of)
                || of_route.is_some() && table.strip_prefix("pool[]") == of_route
        };
        self.keys.iter().find_map(|meant| {
            let (of, name) = meant.rsplit_once('.').unwrap_or(("", meant));
            keys.iter().copied().find(|key| *key == name && is_table(of))
        })
    }

    /// What to write, with the table that it belongs in.
    pub(crate) fn help(&self) -> String {
        let write = |key: &&str| match key.rsplit_once('.') {
            Some((table, key)) => format!("{key} in {}", header(table)),
            None => header(key),
        };
        let keys: Vec<String> = self.keys.iter().map(write).collect();
        match (keys.is_empty(), self.note.is_empty()) {
            (true, _) => self.note.to_owned(),
            (false, true) => format!("write {}", keys.join(" or ")),
            (false, false) => format!("write {}: {}", keys.join(" or "), self.note),
        }
    }
}

/// Whether a path ends with this name, as a whole step or several.
fn is_end(key: &str, name: &str) -> bool {
    let mut key = plain(key);
    plain(name).all(|byte| key.next() == Some(byte)) && matches!(key.next(), None | Some(b'.'))
}

/// A name from its end on, in the form in which names are compared.
fn plain(name: &str) -> impl Iterator<Item = u8> {
    let bytes = name.bytes().rev().filter(|byte| !matches!(byte, b'_' | b'-'));
    bytes.map(|byte| byte.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::schema::known_keys;

    #[test]
    fn every_suggested_key_exists() {
        let known = known_keys();
        for key in SYNONYMS.iter().flat_map(|entry| entry.keys) {
            let is_table = known.iter().any(|known| known.starts_with(&format!("{key}.")));
            assert!(is_table || known.iter().any(|known| known == key), "{key}");
        }
    }

    #[test]
    fn every_name_occurs_once_and_leads_to_something() {
        let mut seen = BTreeSet::new();
        for entry in SYNONYMS {
            assert!(!entry.help().is_empty() && entry.help().len() <= 150, "{}", entry.help());
            for name in entry.names {
                assert!(seen.insert(plain(name).collect::<Vec<_>>()), "{name} occurs twice");
                let found = Synonym::of(name).map(Synonym::help);
                assert_eq!(found, Some(entry.help()), "{name}");
            }
        }
    }
}
