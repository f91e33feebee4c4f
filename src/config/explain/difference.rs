//! Differences between two configurations in meaning, regardless of how they are written.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::effect;
use super::effect::AppliesTo;
use super::listing::key_group::{KeyEntry, KeyGroup};
use super::listing::{route, tables};
use crate::config::schema::known_keys;
use crate::config::settings::{RouteSettings, Settings};
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
    /// Tunnels to one backend of a route.
    Backend {
        /// Name of the route.
        route: Arc<str>,
        /// Id of the backend.
        id: Arc<str>,
    },
}

/// All differences in the order of the file's tables. Listeners are matched by their address,
/// certificates by their file, routes by their name, backends by their id.
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
        let of = |pair: IndexPair| {
            let found = self.change(pair, tables::listener, |_, _| true)?;
            let was = pair.0.and_then(|index| before.get(index));
            let now = pair.1.and_then(|index| after.get(index)).or(was)?;
            let effect = match found.kind {
                ADDED => effect::LISTENER_ADDED.to_owned(),
                REMOVED => effect::LISTENER_REMOVED.to_owned(),
                _ => effect::describe(found.keys()),
            };
            let affected = was
                .map_or(AffectedTunnels::None, |was| AffectedTunnels::Listener(was.name.clone()));
            Some(found.into_change("listener", &now.name, effect, affected))
        };
        addresses.into_iter().filter_map(of).collect()
    }

    fn certificates(&self) -> Vec<SettingChange> {
        let chains = |settings: &Settings| {
            let groups = (0..).map_while(|index| tables::certificate(settings, index));
            groups.filter_map(|group| Some(group.entries.first()?.value.text.clone())).collect()
        };
        let [before, after]: [Vec<String>; 2] = [self.before, self.after].map(chains);
        let of = |pair: IndexPair| {
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
        pairs(before.iter(), after.iter()).into_iter().filter_map(of).collect()
    }

    /// Compares a route, then its backends.
    fn route(&self, pair: IndexPair, found: &mut Vec<SettingChange>) {
        let was = pair.0.and_then(|index| self.before.routes.get(index));
        let now = pair.1.and_then(|index| self.after.routes.get(index));
        if was == now {
            return;
        }
        let Some(of) = now.or(was) else { return };
        let own = |before: &str, after: &str| {
            // Values that both take from the common tables are reported once, for those tables.
            !(is_common(self.before, before) && is_common(self.after, after))
        };
        if let Some(change) = self.change(pair, route::route, own) {
            let effect = match change.kind {
                ADDED => effect::ROUTE_ADDED.to_owned(),
                REMOVED => effect::ROUTE_REMOVED.to_owned(),
                _ => effect::describe(change.keys()),
            };
            let affected = AffectedTunnels::Routes(vec![of.name.clone()]);
            found.push(change.into_change("route", &of.name, effect, affected));
        }
        if let (Some(was), Some(now), (Some(from), Some(to))) = (was, now, pair) {
            self.backends((was, from), (now, to), found);
        }
    }

    /// Compares the backends of a route that exists before and after.
    fn backends(
        &self,
        (was, from): (&RouteSettings, usize),
        (now, to): (&RouteSettings, usize),
        found: &mut Vec<SettingChange>,
    ) {
        let ids = pairs(
            was.backends.iter().map(|backend| &backend.id),
            now.backends.iter().map(|backend| &backend.id),
        );
        for pair in ids {
            let before =
                pair.0.and_then(|index| Some((route::backend(self.before, from, index)?, index)));
            let after =
                pair.1.and_then(|index| Some((route::backend(self.after, to, index)?, index)));
            let id = match (&after, &before) {
                (Some((_, index)), _) => &now.backends[*index].id,
                (None, Some((_, index))) => &was.backends[*index].id,
                (None, None) => continue,
            };
            let (before, after) = (before.map(|(group, _)| group), after.map(|(group, _)| group));
            let Some(change) = self.compare(before, after, |_, _| true) else { continue };
            let effect = match change.kind {
                ADDED => effect::BACKEND_ADDED.to_owned(),
                REMOVED => effect::describe_removed_backend(now.on_backend_loss, &self.after.drain),
                _ => effect::BACKEND_CHANGED.to_owned(),
            };
            let affected = AffectedTunnels::Backend { route: was.name.clone(), id: id.clone() };
            let name = format!("{id} of {}", was.name);
            found.push(change.into_change("backend", &name, effect, affected));
        }
    }

    /// Compares the tables that exist once.
    fn tables(&self, routes: &[IndexPair]) -> Vec<SettingChange> {
        let [(first, last), (first_after, last_after)] =
            [self.before, self.after].map(tables::process);
        let [common, common_after] = [self.before, self.after].map(route::common);
        let before = first.into_iter().chain(common).chain(last);
        let after = first_after.into_iter().chain(common_after).chain(last_after);
        let of = |(before, after): (KeyGroup, KeyGroup)| {
            let table = after.prefix.clone();
            let mut routes_affected = Vec::new();
            let found = self.compare(Some(before), Some(after), |key, _| {
                let inheriting = is_route_key(key).then(|| self.inheriting_routes(routes, key));
                // A common key that no route uses has no effect, except that `timeouts.idle` is also
                // the write timeout of connections.
                let counts = table == "timeouts"
                    || inheriting.as_ref().is_none_or(|names| !names.is_empty());
                routes_affected.extend(inheriting.unwrap_or_default());
                counts
            })?;
            let affected = match table.as_str() {
                "limits" | "heartbeat" => AffectedTunnels::Routes(unique(routes_affected)),
                "drain" => AffectedTunnels::All,
                _ => AffectedTunnels::None,
            };
            let effect = effect::describe(found.keys());
            Some(found.into_change(&table, "", effect, affected))
        };
        before.zip(after).filter_map(of).collect()
    }

    /// The routes that use the common value of a key before and after.
    fn inheriting_routes(&self, routes: &[IndexPair], key: &str) -> Vec<Arc<str>> {
        let inheriting = |pair: &IndexPair| {
            let (before, after) = (pair.0?, pair.1?);
            let of = |index: usize| format!("route[{index}].{key}");
            let both = is_common(self.before, &of(before)) && is_common(self.after, &of(after));
            both.then(|| self.after.routes.get(after).map(|route| route.name.clone())).flatten()
        };
        routes.iter().filter_map(inheriting).collect()
    }

    fn change(
        &self,
        pair: IndexPair,
        group: impl Fn(&Settings, usize) -> Option<KeyGroup>,
        counts: impl FnMut(&str, &str) -> bool,
    ) -> Option<GroupChanges> {
        let before = pair.0.and_then(|index| group(self.before, index));
        self.compare(before, pair.1.and_then(|index| group(self.after, index)), counts)
    }

    /// The keys that differ and that `counts`, called with the key before and after, selects. For
    /// an added or removed group: the keys that are in the file.
    fn compare(
        &self,
        before: Option<KeyGroup>,
        after: Option<KeyGroup>,
        mut counts: impl FnMut(&str, &str) -> bool,
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
        for (was, now) in before.entries.iter().zip(&after.entries) {
            let key = after.key(now);
            if !was.value.is_same(&now.value) && counts(&before.key(was), &key) {
                let (before, after) = (was.value.text.clone(), now.value.text.clone());
                let changed = ChangedKey { key, before: Some(before), after: Some(after) };
                keys.push((changed, now.applies_to));
            }
        }
        (!keys.is_empty()).then_some(GroupChanges { kind: CHANGED, keys })
    }
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

fn keys_in_file(
    settings: &Settings,
    group: &KeyGroup,
    side: impl Fn(String) -> (Option<String>, Option<String>),
) -> Vec<(ChangedKey, AppliesTo)> {
    let key = |entry: &KeyEntry| {
        group.line(entry, settings)?;
        let (before, after) = side(entry.value.text.clone());
        Some((ChangedKey { key: group.key(entry), before, after }, entry.applies_to))
    };
    group.entries.iter().filter_map(key).collect()
}

/// Whether a route uses the common value of this key.
fn is_common(settings: &Settings, key: &str) -> bool {
    let below = key.split_once("].").map_or("", |(_, below)| below);
    is_route_key(below) && settings.source_map.line(key).is_none()
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
    let mut left = Vec::new();
    for (index, key) in before.enumerate() {
        indices.entry(key).or_default().push(index);
        left.push(true);
    }
    indices.values_mut().for_each(|indices| indices.reverse());
    let mut pairs: Vec<IndexPair> = Vec::new();
    for (index, key) in after.enumerate() {
        let was = indices.get_mut(&key).and_then(Vec::pop);
        was.into_iter().for_each(|was| left[was] = false);
        pairs.push((was, Some(index)));
    }
    let removed = left.iter().enumerate().filter(|(_, left)| **left);
    pairs.extend(removed.map(|(index, _)| (Some(index), None)));
    pairs
}

fn unique(mut names: Vec<Arc<str>>) -> Vec<Arc<str>> {
    names.sort();
    names.dedup();
    names
}

const ADDED: &str = "added";
const REMOVED: &str = "removed";
const CHANGED: &str = "changed";
