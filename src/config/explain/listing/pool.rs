//! The listing's rows for pools and for backends.

use super::key_group::KeyGroup;
use super::probe::probe;
use super::value::{on_backend_loss, plain, text};
use crate::config::explain::effect::AppliesTo::{Immediately, Requests};
use crate::config::settings::Settings;
use crate::config::settings::pool::{BackendSettings, PoolSettings};

/// A list of backends in the file, by the index of its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendList {
    /// That of a `[[route]]`.
    Route(usize),
    /// That of a `[[pool]]`.
    Pool(usize),
}

impl BackendList {
    /// The pool that consists of these backends.
    pub fn pool(self, settings: &Settings) -> Option<&PoolSettings> {
        match self {
            Self::Route(index) => settings.routes.get(index).map(|route| &*route.pool),
            Self::Pool(index) => settings.pools.get(index).map(|pool| &**pool),
        }
    }

    /// The backends.
    pub fn backends(self, settings: &Settings) -> &[BackendSettings] {
        self.pool(settings).map_or(&[], |pool| &pool.backends)
    }

    /// The keys of one backend.
    pub fn backend(self, settings: &Settings, index: usize) -> Option<KeyGroup> {
        let backend = self.backends(settings).get(index)?;
        let mut group = KeyGroup::new(match self {
            Self::Route(table) => format!("route[{table}].backends[{index}]"),
            Self::Pool(table) => format!("pool[{table}].backends[{index}]"),
        });
        let address = format!("{}.address", group.prefix);
        // A backend in short form consists of its address.
        let is_short = settings.source_map.line(&address).is_none();
        let address = if is_short { group.prefix.clone() } else { address };
        group.add("address", Requests, text(&backend.address));
        group.add("weight", Requests, plain(backend.weight));
        group.add_inherited("id", Requests, text(&backend.id), address);
        Some(group)
    }
}

/// The keys of a `[[pool]]` without its backends.
pub fn pool(settings: &Settings, index: usize) -> Option<KeyGroup> {
    let pool = settings.pools.get(index)?;
    let name = pool.name.as_deref()?;
    let mut group = KeyGroup::new(format!("pool[{index}]"));
    group.add("name", Requests, text(name));
    group.add("on_backend_loss", Immediately, on_backend_loss(pool.on_backend_loss));
    probe(&mut group, pool.probe.as_ref());
    Some(group)
}
