//! The changes of a reload or a preview: with the number of open tunnels that each affects, and as
//! one line for the log.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use hyper::StatusCode;

use crate::config::explain::difference::{AffectedTunnels, SettingChange, differences};
use crate::config::explain::effect::AppliesTo;
use crate::config::explain::listing::value::text;
use crate::config::explain::listing::when_effective;
use crate::config::settings::{ERROR_PAGES, Settings};
use crate::control_protocol::response::{Change, ChangedKey};
use crate::downstream::error_pages::ErrorPages;
use crate::proxy::state::ProxyState;

/// The differences between two configurations, the contents of their error pages included, with the number of
/// open tunnels that each affects.
pub fn changes(
    state: &ProxyState,
    before: (&Settings, &ErrorPages),
    after: (&Settings, &ErrorPages),
) -> Vec<Change> {
    let found = differences(before.0, after.0);
    let mut found: Vec<Change> = if found.is_empty() {
        Vec::new()
    } else {
        let open = TunnelCounts::count(state);
        let with_tunnels =
            |SettingChange { change, affected }| Change { tunnels: open.of(&affected), ..change };
        found.into_iter().map(with_tunnels).collect()
    };
    found.iter_mut().for_each(|change| keep_value(state, change));
    let pages = changed_pages(before, after);
    if pages.is_empty() {
        return found;
    }
    match found.iter_mut().find(|change| change.section == ERROR_PAGES_TABLE) {
        Some(change) => change.keys.extend(pages),
        None => found.push(Change {
            section: ERROR_PAGES_TABLE.to_owned(),
            action: CHANGED.to_owned(),
            keys: pages,
            effect: AppliesTo::Requests.sentence().to_owned(),
            ..Change::default()
        }),
    }
    found
}

/// The error pages whose file is the same, but not its content.
fn changed_pages(
    before: (&Settings, &ErrorPages),
    after: (&Settings, &ErrorPages),
) -> Vec<ChangedKey> {
    let files = before.0.error_pages.iter().zip(&after.0.error_pages);
    let changed =
        |((key, status), (before_file, file)): ((&str, StatusCode), (_, &Option<PathBuf>))| {
            let file = file.as_ref().filter(|_| before_file == file)?;
            let is_same = before.1.body(status) == after.1.body(status);
            let shown = text(file.display()).text;
            (!is_same).then(|| ChangedKey {
                key: format!("{ERROR_PAGES_TABLE}.{key}"),
                after: Some(format!("{shown} # content changed")),
                before: Some(shown),
            })
        };
    ERROR_PAGES.into_iter().zip(files).filter_map(changed).collect()
}

/// The changed keys that take effect only after a restart.
pub fn needs_restart(changes: &[Change]) -> impl Iterator<Item = &ChangedKey> {
    let keys = changes.iter().flat_map(|change| &change.keys);
    keys.filter(|key| when_effective(&key.key) == Some(AppliesTo::Restart))
}

/// Corrects the effect of a change that takes back an earlier one, which no restart has applied.
fn keep_value(state: &ProxyState, change: &mut Change) {
    let kept: Vec<bool> =
        needs_restart(std::slice::from_ref(change)).map(|key| state.still_has(key)).collect();
    if !kept.is_empty() && kept.iter().all(|is_kept| *is_kept) {
        change.effect = change.effect.replace(AppliesTo::Restart.sentence(), KEPT);
    }
}

/// The number of open tunnels by listener, route and backend.
#[derive(Default)]
struct TunnelCounts {
    all: u64,
    by_listener: HashMap<Arc<str>, u64>,
    by_route: HashMap<Arc<str>, u64>,
    by_backend: HashMap<(Arc<str>, Arc<str>), u64>,
}

impl TunnelCounts {
    fn count(state: &ProxyState) -> Self {
        let mut open = Self::default();
        for session in state.registry.sessions() {
            let info = &session.info;
            let (route, id) = (&info.counts.route.name, info.counts.listed_id());
            open.all += 1;
            *open.by_listener.entry(info.connection.client.listener.clone()).or_default() += 1;
            *open.by_route.entry(route.clone()).or_default() += 1;
            *open.by_backend.entry((route.clone(), id.clone())).or_default() += 1;
        }
        open
    }

    fn of(&self, about: &AffectedTunnels) -> u64 {
        match about {
            AffectedTunnels::None => 0,
            AffectedTunnels::All => self.all,
            AffectedTunnels::Listener(name) => self.by_listener.get(name).copied().unwrap_or(0),
            AffectedTunnels::Routes(names) => {
                names.iter().filter_map(|name| self.by_route.get(name)).sum()
            }
            AffectedTunnels::Backend { routes, id } => {
                let of = |route: &Arc<str>| self.by_backend.get(&(route.clone(), id.clone()));
                routes.iter().filter_map(of).sum()
            }
        }
    }
}

/// One line: `routes: chat changed (limits.idle), old removed; limits: idle`.
pub fn summary(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "no changes in the file; certificates loaded again".to_owned();
    }
    let mut parts: Vec<(&str, Vec<&Change>)> = Vec::new();
    for change in changes {
        match parts.iter_mut().find(|(part, _)| *part == change.section) {
            Some((_, changes)) => changes.push(change),
            None => parts.push((&change.section, vec![change])),
        }
    }
    let parts: Vec<String> =
        parts.iter().map(|(part, changes)| part_summary(part, changes)).collect();
    truncate(&parts.join("; "), SUMMARY_MAX)
}

fn part_summary(part: &str, changes: &[&Change]) -> String {
    let plural = match part {
        "listener" | "certificate" | "route" | "pool" | "backend" => "s",
        _ => "",
    };
    let mut items: Vec<String> =
        changes.iter().take(ITEMS_MAX).map(|change| change_summary(change)).collect();
    if changes.len() > ITEMS_MAX {
        items.push(format!("and {} more", changes.len() - ITEMS_MAX));
    }
    format!("{part}{plural}: {}", items.join(", "))
}

fn change_summary(change: &Change) -> String {
    let name = truncate(&change.name, NAME_MAX);
    if change.action != CHANGED {
        return format!("{name} {}", change.action);
    }
    let mut keys: Vec<&str> =
        change.keys.iter().take(KEYS_MAX).map(|key| relative_key(&key.key)).collect();
    if change.keys.len() > KEYS_MAX {
        keys.push("...");
    }
    let keys = keys.join(", ");
    if name.is_empty() { keys } else { format!("{name} changed ({keys})") }
}

/// The key relative to its item or table: `limits.idle` of `route[0].limits.idle`, `idle` of
/// `limits.idle`.
fn relative_key(key: &str) -> &str {
    let item = key.rsplit_once("].").map(|(_, rest)| rest);
    item.or(key.split_once('.').map(|(_, rest)| rest)).unwrap_or(key)
}

/// The first `max` characters of a text, with an ellipsis if it is longer.
pub fn truncate(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

const CHANGED: &str = "changed";
const KEPT: &str = "the process still has this value, so nothing changes";
const ERROR_PAGES_TABLE: &str = "error_pages";
/// Changes listed per kind.
const ITEMS_MAX: usize = 5;
/// Keys listed per change.
const KEYS_MAX: usize = 6;
/// Characters of a name.
const NAME_MAX: usize = 60;
/// Characters of the whole line.
const SUMMARY_MAX: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    fn change(part: &str, name: &str, what: &str, keys: &[&str]) -> Change {
        let key = |key: &&str| ChangedKey { key: (*key).to_owned(), before: None, after: None };
        Change {
            section: part.into(),
            name: name.into(),
            action: what.into(),
            keys: keys.iter().map(key).collect(),
            ..Change::default()
        }
    }

    #[test]
    fn summary_names_the_changes_and_stays_short() {
        let found = [
            change("route", "chat", "changed", &["route[3].limits.idle", "route[3].http"]),
            change("backend", "b of chat", "changed", &["route[3].backends[1].weight"]),
            change("route", "old", "removed", &["route[4].host"]),
            change("log", "", "changed", &["log.level", "log.format"]),
        ];
        assert_eq!(
            summary(&found),
            "routes: chat changed (limits.idle, http), old removed; \
             backends: b of chat changed (weight); log: level, format"
        );
        let restart: Vec<&str> = needs_restart(&found).map(|key| key.key.as_str()).collect();
        assert_eq!(restart, ["log.format"]);
        assert!(summary(&[]).starts_with("no changes in the file"));
        let many = vec![change("route", &"é".repeat(1000), "added", &[]); 30_000];
        let line = summary(&many);
        assert!(line.ends_with("added, and 29995 more"), "{line}");
        assert!(line.chars().count() < 510, "{line}");
    }
}
