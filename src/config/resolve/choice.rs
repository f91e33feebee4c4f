//! How pools choose among their backends.

use std::path::Path;

use super::defaults::value_or;
use super::pin::pin;
use crate::config::schema::pool::{BackendItem, ChoiceKeys};
use crate::config::settings::choice::{Balance, ChoiceSettings};
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::sink::DiagnosticSink;
use crate::config::toml::value::{Located, Parsed};
use crate::config::values::hash_source::HashSource;
use crate::config::values::scalars::OrOff;

/// Converts the keys of a pool about choosing a backend.
pub(crate) fn choice(
    keys: &ChoiceKeys,
    dir: &Path,
    sink: &mut DiagnosticSink<'_>,
) -> ChoiceSettings {
    let default = ChoiceSettings::default();
    let settings = ChoiceSettings {
        hash: value_or(&keys.hash, default.hash),
        balance: value_or(&keys.balance, default.balance),
        hash_balance_factor: value_or(&keys.hash_balance_factor, OrOff(None)).0.map(|of| of.0),
        slow_start: value_or(&keys.slow_start, OrOff(None)).0,
        pin: pin(&keys.pin, dir, sink),
    };
    if settings.balance != Balance::Hash {
        let factor = keys.hash_balance_factor.location();
        let factor = factor.filter(|_| settings.hash_balance_factor.is_some());
        for location in [keys.hash.location(), factor].into_iter().flatten() {
            let problem =
                format!("this has no effect with balance = \"{}\"", settings.balance.name());
            let help = "remove it, or write balance = \"hash\"";
            sink.report(location, Problem::new(problem).help(help));
        }
    }
    if let (HashSource::Cookie(name), Some(pin)) = (&settings.hash, &settings.pin)
        && *name == pin.cookie
        && let Some(location) = keys.hash.location()
    {
        let problem = Problem::new(format!("{name} is the pin cookie, which names a backend"));
        sink.report(location, problem.help("remove hash, or hash a cookie of the application"));
    }
    settings
}

/// Reports a list that consists of backups, none of which another backend precedes.
pub(crate) fn check_backups(
    backends: &Parsed<Vec<Located<BackendItem>>>,
    sink: &mut DiagnosticSink<'_>,
) {
    let Some(Located { value: items, .. }) = backends.located() else { return };
    let mut backups = Vec::new();
    for item in items {
        match item.value.backup.located() {
            Some(backup) if backup.value => backups.push(&backup.location),
            Some(_) | None => return,
        }
    }
    if let [first, ..] = backups[..] {
        let problem = Problem::new("every backend of this list is a backup");
        sink.report(first, problem.help("remove backup from those that are used first"));
    }
}
