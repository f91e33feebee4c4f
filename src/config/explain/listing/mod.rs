//! Every key that is in force, its value as it would be written, and where it comes from. Made from
//! the settings, so that what is shown is what holds.

pub(crate) mod route;
pub(crate) mod tables;
pub(crate) mod value;

use crate::config::explain::listing::route::{backend, common, route};
use crate::config::explain::listing::tables::{certificate, listener, process};
use crate::config::explain::listing::value::DisplayValue;
use crate::config::settings::Settings;
use crate::protocol::response::EffectiveKey;

/// A table, or an item of a list: a part of a configuration that comes and goes as one.
#[derive(Debug)]
pub(crate) struct KeyGroup {
    /// `route[0]`
    pub(crate) prefix: String,
    pub(crate) entries: Vec<KeyEntry>,
}

/// A key of a group.
#[derive(Debug)]
pub(crate) struct KeyEntry {
    /// Below the group: `limits.idle`
    pub(crate) sub: String,
    pub(crate) value: DisplayValue,
    /// The key whose value it takes, if it has none of its own.
    pub(crate) other: Option<String>,
}

impl KeyGroup {
    fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), entries: Vec::new() }
    }

    fn add(&mut self, sub: &str, value: DisplayValue) {
        self.entries.push(KeyEntry { sub: sub.to_owned(), value, other: None });
    }

    fn add_or(&mut self, sub: &str, value: DisplayValue, other: impl Into<String>) {
        self.entries.push(KeyEntry { sub: sub.to_owned(), value, other: Some(other.into()) });
    }

    /// The whole key of an entry.
    pub(crate) fn key(&self, entry: &KeyEntry) -> String {
        format!("{}.{}", self.prefix, entry.sub)
    }
}

/// The line in which a key is given a value: its own, or, for an item written short, the item's.
pub(crate) fn line(settings: &Settings, group: &KeyGroup, entry: &KeyEntry) -> Option<usize> {
    let own = settings.written.line(&group.key(entry));
    let short = || (entry.sub == "address").then(|| settings.written.line(&group.prefix)).flatten();
    own.or_else(short)
}

/// Every key there is, with its value. What looks like a credential is hidden.
pub fn effective(settings: &Settings) -> Vec<EffectiveKey> {
    let mut keys = Vec::new();
    groups(settings, |group| {
        for entry in &group.entries {
            let line = line(settings, &group, entry);
            let other = entry.other.clone().filter(|other| settings.written.line(other).is_some());
            let from = other.unwrap_or_else(|| "default".to_owned());
            keys.push(EffectiveKey {
                key: group.key(entry),
                value: entry.value.text.clone(),
                line,
                from: line.is_none().then_some(from),
            });
        }
    });
    keys
}

/// All groups, one after the other: there may be a hundred thousand.
fn groups(settings: &Settings, mut each: impl FnMut(KeyGroup)) {
    (0..settings.listeners.len()).filter_map(|n| listener(settings, n)).for_each(&mut each);
    (0..settings.certificates.len()).filter_map(|n| certificate(settings, n)).for_each(&mut each);
    for (n, of) in settings.routes.iter().enumerate() {
        route(settings, n).into_iter().for_each(&mut each);
        (0..of.backends.len()).filter_map(|m| backend(settings, n, m)).for_each(&mut each);
    }
    let (before, after) = process(settings);
    before.into_iter().chain(common(settings)).chain(after).for_each(each);
}
