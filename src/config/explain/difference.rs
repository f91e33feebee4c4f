//! What differs between two configurations: in meaning, not in how they are written.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::effect;
use super::listing::{KeyEntry, KeyGroup, line, route, tables};
use crate::config::settings::{RouteSettings, Settings};
use crate::protocol::response::{Change, ChangedKey};

/// One thing that differs, and whom it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingChange {
    /// Without its number of tunnels, which only a running process knows.
    pub change: Change,
    /// The tunnels it is about.
    pub about: AffectedTunnels,
}

/// Which of the open tunnels a change is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AffectedTunnels {
    /// None: what they have was decided when they began, or is not theirs.
    Nobody,
    /// All.
    Everybody,
    /// Those that came in by a listener.
    Listener(Arc<str>),
    /// Those on some routes.
    Routes(Vec<Arc<str>>),
    /// Those to a backend of a route.
    Backend {
        /// Name of the route.
        route: Arc<str>,
        /// Its id.
        id: Arc<str>,
    },
}

/// What differs, in the order of the file's tables: listeners by their address, certificates by
/// their file, routes by their name, backends by their id.
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

/// The places of one thing before and after.
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
            let was = pair.0.and_then(|place| before.get(place));
            let now = pair.1.and_then(|place| after.get(place)).or(was)?;
            let effect = match found.what {
                ADDED => effect::LISTENER_ADDED.to_owned(),
                REMOVED => effect::LISTENER_REMOVED.to_owned(),
                _ => effect::of_keys(found.keys()),
            };
            let about = was
                .map_or(AffectedTunnels::Nobody, |was| AffectedTunnels::Listener(was.name.clone()));
            Some(found.told("listener", &now.name, effect, about))
        };
        addresses.into_iter().filter_map(of).collect()
    }

    fn certificates(&self) -> Vec<SettingChange> {
        let chains = |settings: &Settings| {
            let groups = (0..).map_while(|place| tables::certificate(settings, place));
            groups.filter_map(|group| Some(group.entries.first()?.value.text.clone())).collect()
        };
        let [before, after]: [Vec<String>; 2] = [self.before, self.after].map(chains);
        let of = |pair: IndexPair| {
            let found = self.change(pair, tables::certificate, |_, _| true)?;
            let chain = pair.1.map(|place| &after[place]).or(pair.0.map(|place| &before[place]))?;
            let effect = effect::CERTIFICATE.to_owned();
            // Which of them a connection was shown is not remembered.
            Some(found.told(
                "certificate",
                chain.trim_matches('"'),
                effect,
                AffectedTunnels::Nobody,
            ))
        };
        pairs(before.iter(), after.iter()).into_iter().filter_map(of).collect()
    }

    /// A route, then its backends.
    fn route(&self, pair: IndexPair, found: &mut Vec<SettingChange>) {
        let was = pair.0.and_then(|place| self.before.routes.get(place));
        let now = pair.1.and_then(|place| self.after.routes.get(place));
        if was == now {
            return;
        }
        let Some(of) = now.or(was) else { return };
        let own = |before: &str, after: &str| {
            // What both take from the common tables is told there, once.
            !(is_common(self.before, before) && is_common(self.after, after))
        };
        if let Some(change) = self.change(pair, route::route, own) {
            let effect = match change.what {
                ADDED => effect::ROUTE_ADDED.to_owned(),
                REMOVED => effect::ROUTE_REMOVED.to_owned(),
                _ => effect::of_keys(change.keys()),
            };
            let about = AffectedTunnels::Routes(vec![of.name.clone()]);
            found.push(change.told("route", &of.name, effect, about));
        }
        if let (Some(was), Some(now), (Some(from), Some(to))) = (was, now, pair) {
            self.backends((was, from), (now, to), found);
        }
    }

    /// The backends of a route that was there and is.
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
                pair.0.and_then(|place| Some((route::backend(self.before, from, place)?, place)));
            let after =
                pair.1.and_then(|place| Some((route::backend(self.after, to, place)?, place)));
            let id = match (&after, &before) {
                (Some((_, place)), _) => &now.backends[*place].id,
                (None, Some((_, place))) => &was.backends[*place].id,
                (None, None) => continue,
            };
            let (before, after) = (before.map(|(group, _)| group), after.map(|(group, _)| group));
            let Some(change) = self.compare(before, after, |_, _| true) else { continue };
            let effect = match change.what {
                ADDED => effect::BACKEND_ADDED.to_owned(),
                REMOVED => effect::of_lost_backend(now.on_backend_loss, &self.after.drain),
                _ => effect::BACKEND_CHANGED.to_owned(),
            };
            let about = AffectedTunnels::Backend { route: was.name.clone(), id: id.clone() };
            let name = format!("{id} of {}", was.name);
            found.push(change.told("backend", &name, effect, about));
        }
    }

    /// The tables that there are once.
    fn tables(&self, routes: &[IndexPair]) -> Vec<SettingChange> {
        let [(first, last), (first_after, last_after)] =
            [self.before, self.after].map(tables::process);
        let [common, common_after] = [self.before, self.after].map(route::common);
        let before = first.into_iter().chain(common).chain(last);
        let after = first_after.into_iter().chain(common_after).chain(last_after);
        let of = |(before, after): (KeyGroup, KeyGroup)| {
            let table = after.prefix.clone();
            let is_common = matches!(table.as_str(), "limits" | "heartbeat");
            let mut held = Vec::new();
            let found = self.compare(Some(before), Some(after), |key, _| {
                let heirs = is_common.then(|| self.heirs(routes, key));
                // Of no meaning to anybody.
                let counts = heirs.as_ref().is_none_or(|heirs| !heirs.is_empty());
                held.extend(heirs.unwrap_or_default());
                counts
            })?;
            let about = match table.as_str() {
                "limits" | "heartbeat" => AffectedTunnels::Routes(unique(held)),
                "drain" => AffectedTunnels::Everybody,
                _ => AffectedTunnels::Nobody,
            };
            let effect = effect::of_keys(found.keys());
            Some(found.told(&table, "", effect, about))
        };
        before.zip(after).filter_map(of).collect()
    }

    /// The routes that take a key of `[limits]` or `[heartbeat]` from there, before and after.
    fn heirs(&self, routes: &[IndexPair], key: &str) -> Vec<Arc<str>> {
        let heir = |pair: &IndexPair| {
            let (before, after) = (pair.0?, pair.1?);
            let of = |place: usize| format!("route[{place}].{key}");
            let both = is_common(self.before, &of(before)) && is_common(self.after, &of(after));
            both.then(|| self.after.routes.get(after).map(|route| route.name.clone())).flatten()
        };
        routes.iter().filter_map(heir).collect()
    }

    fn change(
        &self,
        pair: IndexPair,
        group: impl Fn(&Settings, usize) -> Option<KeyGroup>,
        counts: impl FnMut(&str, &str) -> bool,
    ) -> Option<GroupChanges> {
        let before = pair.0.and_then(|place| group(self.before, place));
        self.compare(before, pair.1.and_then(|place| group(self.after, place)), counts)
    }

    /// The keys that differ and, by `counts` of their names before and after, are to be told of
    /// here. Of what was not there, or is no more, those that were written.
    fn compare(
        &self,
        before: Option<KeyGroup>,
        after: Option<KeyGroup>,
        mut counts: impl FnMut(&str, &str) -> bool,
    ) -> Option<GroupChanges> {
        let (before, after) = match (before, after) {
            (Some(before), Some(after)) => (before, after),
            (None, Some(after)) => {
                let written = written(self.after, &after, |value| (None, Some(value)));
                return Some(GroupChanges { what: ADDED, keys: written });
            }
            (Some(before), None) => {
                let written = written(self.before, &before, |value| (Some(value), None));
                return Some(GroupChanges { what: REMOVED, keys: written });
            }
            (None, None) => return None,
        };
        let mut keys = Vec::new();
        for (was, now) in before.entries.iter().zip(&after.entries) {
            let key = after.key(now);
            if !was.value.is_same(&now.value) && counts(&before.key(was), &key) {
                let (before, after) = (was.value.text.clone(), now.value.text.clone());
                keys.push(ChangedKey { key, before: Some(before), after: Some(after) });
            }
        }
        (!keys.is_empty()).then_some(GroupChanges { what: CHANGED, keys })
    }
}

/// What was found of one group.
struct GroupChanges {
    what: &'static str,
    keys: Vec<ChangedKey>,
}

impl GroupChanges {
    fn keys(&self) -> impl Iterator<Item = &str> + Clone {
        self.keys.iter().map(|key| key.key.as_str())
    }

    fn told(
        self,
        section: &str,
        name: &str,
        effect: String,
        about: AffectedTunnels,
    ) -> SettingChange {
        let (section, name, action) = (section.to_owned(), name.to_owned(), self.what.to_owned());
        SettingChange {
            change: Change { section, name, action, keys: self.keys, tunnels: 0, effect },
            about,
        }
    }
}

fn written(
    settings: &Settings,
    group: &KeyGroup,
    side: impl Fn(String) -> (Option<String>, Option<String>),
) -> Vec<ChangedKey> {
    let key = |entry: &KeyEntry| {
        line(settings, group, entry)?;
        let (before, after) = side(entry.value.text.clone());
        Some(ChangedKey { key: group.key(entry), before, after })
    };
    group.entries.iter().filter_map(key).collect()
}

/// Whether a route takes this key from `[limits]` or `[heartbeat]`.
fn is_common(settings: &Settings, key: &str) -> bool {
    let below = key.split_once("].").map_or("", |(_, below)| below);
    (below.starts_with("limits.") || below.starts_with("heartbeat."))
        && settings.written.line(key).is_none()
}

/// The places of what is the same before and after, in the order of the latter; then what was
/// removed. The second of several that are called the same is the second of them.
fn pairs<K: Eq + Hash>(
    before: impl Iterator<Item = K>,
    after: impl Iterator<Item = K>,
) -> Vec<IndexPair> {
    let mut places: HashMap<K, Vec<usize>> = HashMap::new();
    let mut left = Vec::new();
    for (place, key) in before.enumerate() {
        places.entry(key).or_default().push(place);
        left.push(true);
    }
    places.values_mut().for_each(|places| places.reverse());
    let mut pairs: Vec<IndexPair> = Vec::new();
    for (place, key) in after.enumerate() {
        let was = places.get_mut(&key).and_then(Vec::pop);
        was.into_iter().for_each(|was| left[was] = false);
        pairs.push((was, Some(place)));
    }
    let removed = left.iter().enumerate().filter(|(_, left)| **left);
    pairs.extend(removed.map(|(place, _)| (Some(place), None)));
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
