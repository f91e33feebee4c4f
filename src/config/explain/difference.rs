//! Differences between two configurations in meaning, regardless of how they are written.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::effect;
use super::effect::AppliesTo;
use super::listing::key_group::{KeyEntry, KeyGroup};
use super::listing::{route, tables};
use crate::config::schema::known_keys;
use crate::config::settings::Settings;
use crate::control_protocol::response::{Change, ChangedKey};

/// One difference and the tunnels it affects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingChange {
    /// The change; its number of tunnels is 0, because only a running process knows it.
    pub change: Change,
    /// The affected tunnels.
    pub affected: AffectedTunnels,
}

/// The open tunnels that a change affects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AffectedTunnels {
    /// No tunnel: the values were copied when the tunnel opened, or do not concern tunnels.
    None,
    /// All tunnels.
    All,
    /// Tunnels accepted by one listener.
    Listener(Arc<str>),
    /// Tunnels of some routes.
    Routes(Vec<Arc<str>>),
    /// Tunnels to one backend.
    Backend {
        /// Names of the routes that use it.
        routes: Vec<Arc<str>>,
        /// Id of the backend.
        id: Arc<str>,
    },
}

/// All differences in the order of the file's tables. Listeners are matched by their address,
/// certificates by their file, routes and pools by their name, backends by their id.
pub fn differences(before: &Settings, after: &Settings) -> Vec<SettingChange> {
    let both = BothSettings { before, after };
    let routes: Vec<IndexPair> = pairs(
        before.routes.iter().map(|route| &route.name),
        after.routes.iter().map(|route| &route.name),
    );
    let mut found = both.listeners();
    found.extend(both.certificates());
    for pair in &routes {
        both.route(*pair, &mut found);
    }
    both.pools(&mut found);
    found.extend(both.tables(&routes));
    found
}

/// The indices of one item before and after the change.
type IndexPair = (Option<usize>, Option<usize>);

struct BothSettings<'s> {
    before: &'s Settings,
    after: &'s Settings,
}

impl BothSettings<'_> {
    fn listeners(&self) -> Vec<SettingChange> {
        let [before, after] = [self.before, self.after].map(|settings| &settings.listeners);
        let addresses = pairs(
            before.iter().map(|listener| listener.address),
            after.iter().map(|listener| listener.address),
        );
        let to_change = |pair: IndexPair| {
            let found = self.change(pair, tables::listener, |_, _| true)?;
            let before = pair.0.and_then(|index| before.get(index));
            let latest = pair.1.and_then(|index| after.get(index)).or(before)?;
            let effect = match found.kind {
                ADDED => effect::LISTENER_ADDED.to_owned(),
                REMOVED => effect::LISTENER_REMOVED.to_owned(),
                _ => effect::describe(found.keys()),
            };
            let affected = before.map_or(AffectedTunnels::None, |listener| {
                AffectedTunnels::Listener(listener.name.clone())
            });
            Some(found.into_change("listener", &latest.name, effect, affected))
        };
        addresses.into_iter().filter_map(to_change).collect()
    }

    fn certificates(&self) -> Vec<SettingChange> {
        let chains = |settings: &Settings| {
            let groups = (0..).map_while(|index| tables::certificate(settings, index));
            groups.filter_map(|group| Some(group.entries.first()?.value.text.clone())).collect()
        };
        let [before, after]: [Vec<String>; 2] = [self.before, self.after].map(chains);
        let to_change = |pair: IndexPair| {
            let found = self.change(pair, tables::certificate, |_, _| true)?;
            let chain = pair.1.map(|index| &after[index]).or(pair.0.map(|index| &before[index]))?;
            let effect = effect::CERTIFICATE.to_owned();
            // The certificate that a connection received is not recorded.
            Some(found.into_change(
                "certificate",
                chain.trim_matches('"'),
                effect,
                AffectedTunnels::None,
            ))
        };
        pairs(before.iter(), after.iter()).into_iter().filter_map(to_change).collect()
    }

    /// Compares a route, then its backends.
    fn route(&self, pair: IndexPair, found: &mut Vec<SettingChange>) {
        let before = pair.0.and_then(|index| self.before.routes.get(index));
        let after = pair.1.and_then(|index| self.after.routes.get(index));
        if before == after {
            return;
        }
        let Some(latest) = after.or(before) else { return };
        let is_reported = |before: &str, after: &str| {
            // Values that both take from the top-level tables are reported once, for those tables.
            !(is_top_level_value(self.before, before) && is_top_level_value(self.after, after))
        };
        if let Some(change) = self.change(pair, route::route, is_reported) {
            let effect = match change.kind {
                ADDED => effect::ROUTE_ADDED.to_owned(),
                REMOVED => effect::ROUTE_REMOVED.to_owned(),
                _ => effect::describe(change.keys()),
            };
            let affected = AffectedTunnels::Routes(vec![latest.name.clone()]);
            found.push(change.into_change("route", &latest.name, effect, affected));
        }
        self.backends_of_route(pair, found);
    }

    /// Compares the tables that exist once.
    fn tables(&self, routes: &[IndexPair]) -> Vec<SettingChange> {
        let [before, after] = [self.before, self.after].map(|settings| {
            let (leading, trailing) = tables::process(settings);
            leading.into_iter().chain(route::top_level_policy(settings)).chain(trailing)
        });
        let to_change = |(before, after): (KeyGroup, KeyGroup)| {
            let table = after.prefix.clone();
            let mut routes_affected = Vec::new();
            let found = self.compare(Some(before), Some(after), |key, _| {
                let inheriting = is_route_key(key).then(|| self.inheriting_routes(routes, key));
                // A top-level key that every route sets itself has no effect, except that
                // `timeouts.idle` is also the write timeout of connections.
                let is_reported = table == "timeouts"
                    || inheriting.as_ref().is_none_or(|names| !names.is_empty());
                routes_affected.extend(inheriting.unwrap_or_default());
                is_reported
            })?;
            let affected = match table.as_str() {
                "limits" | "heartbeat" => AffectedTunnels::Routes(unique(routes_affected)),
                "drain" => AffectedTunnels::All,
                _ => AffectedTunnels::None,
            };
            let effect = effect::describe(found.keys());
            Some(found.into_change(&table, "", effect, affected))
        };
        before.zip(after).filter_map(to_change).collect()
    }

    /// The routes that use the top-level value of a key before and after.
    fn inheriting_routes(&self, routes: &[IndexPair], key: &str) -> Vec<Arc<str>> {
        let if_inheriting = |pair: &IndexPair| {
            let (before, after) = (pair.0?, pair.1?);
            let route_key = |index: usize| format!("route[{index}].{key}");
            let both = is_top_level_value(self.before, &route_key(before))
                && is_top_level_value(self.after, &route_key(after));
            both.then(|| self.after.routes.get(after).map(|route| route.name.clone())).flatten()
        };
        routes.iter().filter_map(if_inheriting).collect()
    }

    fn change(
        &self,
        pair: IndexPair,
        group: impl Fn(&Settings, usize) -> Option<KeyGroup>,
        is_reported: impl FnMut(&str, &str) -> bool,
    ) -> Option<GroupChanges> {
        let before = pair.0.and_then(|index| group(self.before, index));
        self.compare(before, pair.1.and_then(|index| group(self.after, index)), is_reported)
    }

    /// The keys that differ and that `is_reported`, called with the key before and after, selects. For
    /// an added or removed group: the keys that are in the file.
    fn compare(
        &self,
        before: Option<KeyGroup>,
        after: Option<KeyGroup>,
        mut is_reported: impl FnMut(&str, &str) -> bool,
    ) -> Option<GroupChanges> {
        let (before, after) = match (before, after) {
            (Some(before), Some(after)) => (before, after),
            (None, Some(after)) => {
                let keys = keys_in_file(self.after, &after, |value| (None, Some(value)));
                return Some(GroupChanges { kind: ADDED, keys });
            }
            (Some(before), None) => {
                let keys = keys_in_file(self.before, &before, |value| (Some(value), None));
                return Some(GroupChanges { kind: REMOVED, keys });
            }
            (None, None) => return None,
        };
        let mut keys = Vec::new();
        for (entry_before, entry_after) in rows(&before.entries, &after.entries) {
            let value = |entry: &KeyEntry| entry.value.text.clone();
            let (before, after, is_same) = match (entry_before, entry_after) {
                (Some(of_before), Some(of_after)) => (
                    before.key(of_before),
                    after.key(of_after),
                    of_before.value.is_same(&of_after.value),
                ),
                (Some(entry), None) => (before.key(entry), before.key(entry), false),
                (None, Some(entry)) => (after.key(entry), after.key(entry), false),
                (None, None) => continue,
            };
            let Some(entry) = entry_after.or(entry_before) else { continue };
            if !is_same && is_reported(&before, &after) {
                let (before, key) = (entry_before.map(value), after);
                let after = entry_after.map(value);
                keys.push((ChangedKey { key, before, after }, entry.applies_to));
            }
        }
        (!keys.is_empty()).then_some(GroupChanges { kind: CHANGED, keys })
    }
}

/// Pairs the rows of a group by their names. Most groups have the same rows before and after.
fn rows<'e>(
    before: &'e [KeyEntry],
    after: &'e [KeyEntry],
) -> Vec<(Option<&'e KeyEntry>, Option<&'e KeyEntry>)> {
    let names = |rows: &'e [KeyEntry]| rows.iter().map(|row| &row.name);
    if names(before).eq(names(after)) {
        return before.iter().map(Some).zip(after.iter().map(Some)).collect();
    }
    let by_index = pairs(names(before), names(after)).into_iter();
    let row = |rows: &'e [KeyEntry], index: Option<usize>| index.and_then(|index| rows.get(index));
    by_index.map(|(left, right)| (row(before, left), row(after, right))).collect()
}

/// The differences of one group.
struct GroupChanges {
    kind: &'static str,
    keys: Vec<(ChangedKey, AppliesTo)>,
}

impl GroupChanges {
    fn keys(&self) -> impl Iterator<Item = (&str, AppliesTo)> + Clone {
        self.keys.iter().map(|(key, applies_to)| (key.key.as_str(), *applies_to))
    }

    fn into_change(
        self,
        section: &str,
        name: &str,
        effect: String,
        affected: AffectedTunnels,
    ) -> SettingChange {
        let (section, name, action) = (section.to_owned(), name.to_owned(), self.kind.to_owned());
        let keys = self.keys.into_iter().map(|(key, _)| key).collect();
        SettingChange {
            change: Change { section, name, action, keys, tunnels: 0, effect },
            affected,
        }
    }
}

/// The keys of a group that are in the file; `place` makes each value that before or that after.
fn keys_in_file(
    settings: &Settings,
    group: &KeyGroup,
    place: impl Fn(String) -> (Option<String>, Option<String>),
) -> Vec<(ChangedKey, AppliesTo)> {
    let key = |entry: &KeyEntry| {
        group.line(entry, settings)?;
        let (before, after) = place(entry.value.text.clone());
        Some((ChangedKey { key: group.key(entry), before, after }, entry.applies_to))
    };
    group.entries.iter().filter_map(key).collect()
}

/// Whether a route uses the top-level value of this key.
fn is_top_level_value(settings: &Settings, key: &str) -> bool {
    let below = key.split_once("].").map_or("", |(_, below)| below);
    let is_set = |key: &str| settings.source_map.line(key).is_some();
    let follows_own = followed_key(below)
        .is_some_and(|followed| !is_set(below) && is_set(&key.replace(below, followed)));
    is_route_key(below) && !is_set(key) && !follows_own
}

/// The key of the same table whose value determines that of this key where it is not set.
fn followed_key(key: &str) -> Option<&'static str> {
    let follows = ["limits.fragments_from_client", "limits.message_age_from_client"];
    follows.contains(&key).then_some("limits.message_from_client")
}

/// Whether a key of a table that exists once may also be set in a route.
fn is_route_key(key: &str) -> bool {
    known_keys().binary_search(&format!("route[].{key}")).is_ok()
}

/// Pairs the items that have the same key before and after, in the order of `after`, followed by
/// the removed items. Items with equal keys are paired in order.
fn pairs<K: Eq + Hash>(
    before: impl Iterator<Item = K>,
    after: impl Iterator<Item = K>,
) -> Vec<IndexPair> {
    let mut indices: HashMap<K, Vec<usize>> = HashMap::new();
    let mut is_unpaired = Vec::new();
    for (index, key) in before.enumerate() {
        indices.entry(key).or_default().push(index);
        is_unpaired.push(true);
    }
    indices.values_mut().for_each(|indices| indices.reverse());
    let mut pairs: Vec<IndexPair> = Vec::new();
    for (index, key) in after.enumerate() {
        let before = indices.get_mut(&key).and_then(Vec::pop);
        before.into_iter().for_each(|before| is_unpaired[before] = false);
        pairs.push((before, Some(index)));
    }
    let removed = is_unpaired.iter().enumerate().filter(|(_, is_unpaired)| **is_unpaired);
    pairs.extend(removed.map(|(index, _)| (Some(index), None)));
    pairs
}

fn unique(mut names: Vec<Arc<str>>) -> Vec<Arc<str>> {
    names.sort();
    names.dedup();
    names
}

mod pools;

const ADDED: &str = "added";
const REMOVED: &str = "removed";
const CHANGED: &str = "changed";
