//! Every effective key, its value as it would be written in the file, and where the value comes
//! from. The listing is derived from the settings, so it always shows the values in use.

pub(crate) mod key_group;
pub(crate) mod pool;
pub(crate) mod probe;
pub(crate) mod route;
pub(crate) mod tables;
pub(crate) mod value;

use std::collections::HashMap;
use std::sync::LazyLock;

use self::key_group::KeyGroup;
use self::pool::{BackendList, pool};
use self::route::{route, top_level_policy};
use self::tables::{certificate, listener, process};
use crate::config::explain::effect::AppliesTo;
use crate::config::settings::Settings;
use crate::config::toml::key_path::without_indices;
use crate::control_protocol::response::EffectiveKey;

/// All keys with their values in use. Values that look like credentials are hidden.
pub fn effective(settings: &Settings) -> Vec<EffectiveKey> {
    let mut keys = Vec::new();
    groups(settings, |group| {
        for entry in &group.entries {
            let line = group.line(entry, settings);
            let inherited_from =
                entry.inherited_from.clone().filter(|key| settings.source_map.line(key).is_some());
            let source = inherited_from.unwrap_or_else(|| "default".to_owned());
            keys.push(EffectiveKey {
                key: group.key(entry),
                value: entry.value.text.clone(),
                line,
                from: line.is_none().then_some(source),
            });
        }
    });
    keys
}

/// When a change of a key takes effect, for example of `route[0].limits.idle`. `None` if there is
/// no such key.
pub fn when_effective(key: &str) -> Option<AppliesTo> {
    APPLIES_TO.get(&without_indices(key)).copied()
}

/// Taken from the listing of a configuration that has each table once, so that there is no second
/// list of keys.
static APPLIES_TO: LazyLock<HashMap<String, AppliesTo>> = LazyLock::new(|| {
    let text = "[[listener]]\naddress = \"127.0.0.1:1\"\n\
                [[certificate]]\nchain = \"c\"\nkey = \"k\"\n\
                [acme]\naccept_terms = true\n\
                [[route]]\nhost = \"*\"\norigins = [\"*\"]\nbackends = [\"127.0.0.1:2\"]\n\
                [[pool]]\nname = \"p\"\nbackends = [\"127.0.0.1:2\"]\ntls = true\n";
    let mut applies_to = HashMap::new();
    if let Ok(settings) = Settings::parse(text, "") {
        groups(&settings, |group| {
            let keys = group.entries.iter();
            let keys = keys.map(|entry| (without_indices(&group.key(entry)), entry.applies_to));
            applies_to.extend(keys);
        });
    }
    applies_to
});

/// Passes all groups to `each` one by one, since there may be 100,000 of them.
fn groups(settings: &Settings, mut each: impl FnMut(KeyGroup)) {
    (0..settings.listeners.len()).filter_map(|n| listener(settings, n)).for_each(&mut each);
    (0..settings.certificates.len()).filter_map(|n| certificate(settings, n)).for_each(&mut each);
    for (n, values) in settings.routes.iter().enumerate() {
        route(settings, n).into_iter().for_each(&mut each);
        if values.pool.name.is_none() {
            backends(settings, BackendList::Route(n), &mut each);
        }
    }
    for n in 0..settings.pools.len() {
        pool(settings, n).into_iter().for_each(&mut each);
        backends(settings, BackendList::Pool(n), &mut each);
    }
    let (leading, trailing) = process(settings);
    leading.into_iter().chain(top_level_policy(settings)).chain(trailing).for_each(each);
}

fn backends(settings: &Settings, list: BackendList, each: impl FnMut(KeyGroup)) {
    (0..list.backends(settings).len()).filter_map(|n| list.backend(settings, n)).for_each(each);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::known_keys;

    #[test]
    fn every_key_takes_effect_at_some_time() {
        let leaves = known_keys().iter().filter(|key| {
            let below = |other: &String| {
                other.strip_prefix(key.as_str()).is_some_and(|rest| rest.starts_with(['.', '[']))
            };
            !known_keys().iter().any(below)
        });
        let mut count = 0;
        for key in leaves {
            assert!(when_effective(key).is_some(), "{key}");
            count += 1;
        }
        assert!(count > 100, "{count}");
        assert_eq!(when_effective("route[7].limits.idle"), Some(AppliesTo::Tunnels));
        assert_eq!(when_effective("zebra.x"), None);
    }
}
