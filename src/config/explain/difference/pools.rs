//! Differences of pools and of the backends of routes.

use std::sync::Arc;

use super::{ADDED, AffectedTunnels, BothSettings, IndexPair, REMOVED, SettingChange, pairs};
use crate::config::explain::effect;
use crate::config::explain::listing::pool::{BackendList, pool};
use crate::config::settings::pool::OnBackendLoss;
use crate::config::settings::{RouteSettings, Settings};

/// The backends before and after a change.
struct BackendLists {
    before: Option<BackendList>,
    after: Option<BackendList>,
    /// The name of the route, or that of the pool.
    owner: String,
    /// The routes whose tunnels are affected.
    routes: Vec<Arc<str>>,
    /// What happens to the tunnels of a backend that is removed.
    removed: String,
}

impl BothSettings<'_> {
    /// Compares the pools that have a name.
    pub(super) fn pools(&self, found: &mut Vec<SettingChange>) {
        let [before, after] = [self.before, self.after].map(|settings| &settings.pools);
        let names =
            pairs(before.iter().map(|pool| &pool.name), after.iter().map(|pool| &pool.name));
        for pair in names {
            let pool_before = pair.0.and_then(|index| before.get(index));
            let pool_after = pair.1.and_then(|index| after.get(index));
            if pool_before == pool_after {
                continue;
            }
            let latest = pool_after.or(pool_before);
            let Some(name) = latest.and_then(|pool| pool.name.as_ref()) else { continue };
            if let Some(change) = self.change(pair, pool, |_, _| true) {
                let effect = match change.kind {
                    ADDED => effect::POOL_ADDED.to_owned(),
                    REMOVED => effect::POOL_REMOVED.to_owned(),
                    _ => effect::describe(change.keys()),
                };
                found.push(change.into_change("pool", name, effect, AffectedTunnels::None));
            }
            let uses_it = |route: &&RouteSettings| route.pool.name.as_ref() == Some(name);
            let lists = BackendLists {
                before: pair.0.map(BackendList::Pool),
                after: pair.1.map(BackendList::Pool),
                owner: format!("pool {name}"),
                routes: self
                    .before
                    .routes
                    .iter()
                    .filter(uses_it)
                    .map(|of| of.name.clone())
                    .collect(),
                removed: self.removed_effect(self.after.routes.iter().filter(uses_it)),
            };
            self.backends(lists, found);
        }
    }

    /// Compares the backends of a route, which are added or removed together with it. Those of a pool are
    /// compared only if the route changes to another pool.
    pub(super) fn backends_of_route(&self, pair: IndexPair, found: &mut Vec<SettingChange>) {
        let before = pair.0.and_then(|index| self.before.routes.get(index));
        let after = pair.1.and_then(|index| self.after.routes.get(index));
        let Some(latest) = after.or(before) else { return };
        let name_before = before.map_or(&latest.pool.name, |route| &route.pool.name);
        let name_after = after.map_or(&latest.pool.name, |route| &route.pool.name);
        let has_no_other = name_before == name_after || before.is_none() || after.is_none();
        if latest.pool.name.is_some() && has_no_other {
            return;
        }
        let list = |settings: &Settings, index: Option<usize>| {
            let name = &settings.routes.get(index?)?.pool.name;
            let named = name
                .as_ref()
                .and_then(|_| settings.pools.iter().position(|pool| pool.name == *name));
            Some(named.map_or(BackendList::Route(index?), BackendList::Pool))
        };
        let removed = match after {
            Some(after) => self.removed_effect([after].into_iter()),
            None => effect::BACKEND_REMOVED_WITH_ROUTE.to_owned(),
        };
        let lists = BackendLists {
            before: list(self.before, pair.0),
            after: list(self.after, pair.1),
            owner: latest.name.to_string(),
            routes: vec![latest.name.clone()],
            removed,
        };
        self.backends(lists, found);
    }

    fn backends(&self, lists: BackendLists, found: &mut Vec<SettingChange>) {
        let ids = |settings: &Settings, list: Option<BackendList>| -> Vec<Arc<str>> {
            let backends = list.into_iter().flat_map(|list| list.backends(settings));
            backends.map(|backend| backend.id.clone()).collect()
        };
        let ids_before = ids(self.before, lists.before);
        let ids_after = ids(self.after, lists.after);
        for pair in pairs(ids_before.iter(), ids_after.iter()) {
            let id = match pair {
                (_, Some(index)) => &ids_after[index],
                (Some(index), None) => &ids_before[index],
                (None, None) => continue,
            };
            let group = |settings, list: Option<BackendList>, index: Option<usize>| {
                list?.backend(settings, index?)
            };
            let before = group(self.before, lists.before, pair.0);
            let after = group(self.after, lists.after, pair.1);
            let Some(change) = self.compare(before, after, |_, _| true) else { continue };
            let effect = match change.kind {
                ADDED => effect::BACKEND_ADDED.to_owned(),
                REMOVED => lists.removed.clone(),
                _ => effect::BACKEND_CHANGED.to_owned(),
            };
            let affected =
                AffectedTunnels::Backend { routes: lists.routes.clone(), id: id.clone() };
            let name = format!("{id} of {}", lists.owner);
            found.push(change.into_change("backend", &name, effect, affected));
        }
    }

    /// Describes what happens to the tunnels of a backend that these routes no longer have.
    fn removed_effect<'r>(&self, mut routes: impl Iterator<Item = &'r RouteSettings>) -> String {
        let first = routes.next().map_or(OnBackendLoss::Keep, |route| route.on_backend_loss);
        match routes.all(|route| route.on_backend_loss == first) {
            true => effect::describe_removed_backend(first, &self.after.drain),
            false => effect::BACKEND_REMOVED_FROM_POOL.to_owned(),
        }
    }
}
