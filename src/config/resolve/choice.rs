//! How pools choose among their backends.

use std::path::Path;
use std::time::Duration;

use super::canary::canary;
use super::defaults::{count, value_or};
use super::pin::pin;
use crate::config::schema::pool::{BackendItem, ChoiceKeys};
use crate::config::settings::choice::{Balance, ChoiceSettings, QueueSettings, RebalanceMode};
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::sink::DiagnosticSink;
use crate::config::toml::value::{Located, Parsed};
use crate::config::values::hash_source::HashSource;
use crate::config::values::scalars::OrOff;
use crate::config::values::units::PerSecond;

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
        canary: canary(&keys.canary),
        queue: queue(keys),
        pin: pin(&keys.pin, dir, sink),
        rebalance: value_or(&keys.rebalance, default.rebalance),
        rebalance_rate: value_or(&keys.rebalance_rate, PerSecond(default.rebalance_rate)).0,
    };
    check_rebalance(keys, &settings, sink);
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

/// Reports `rebalance` if the clients of the pool have no backend that follows from their key alone.
fn check_rebalance(keys: &ChoiceKeys, settings: &ChoiceSettings, sink: &mut DiagnosticSink<'_>) {
    let cause = if settings.balance != Balance::Hash {
        format!("balance = \"{}\"", settings.balance.name())
    } else if settings.pin.is_some() {
        "a pin cookie".to_owned()
    } else if settings.hash_balance_factor.is_some() {
        "hash_balance_factor".to_owned()
    } else {
        return;
    };
    if let (Some(location), RebalanceMode::OnScaleOut) =
        (keys.rebalance.location(), settings.rebalance)
    {
        let problem = Problem::new(format!("this has no effect with {cause}"));
        sink.report(location, problem.help("remove it: no client has a backend by its hash alone"));
    }
}

fn queue(keys: &ChoiceKeys) -> Option<QueueSettings> {
    let length = value_or(&keys.queue, OrOff(None)).0.map(count)?;
    Some(QueueSettings { length, time: value_or(&keys.queue_time, QUEUE_TIME) })
}

/// Reports a queue that no handshake can enter, since some backend has no limit, and a time without a queue.
pub(crate) fn check_queue(
    keys: &ChoiceKeys,
    backends: &Parsed<Vec<Located<BackendItem>>>,
    sink: &mut DiagnosticSink<'_>,
) {
    let is_limited = |item: &Located<BackendItem>| match &item.value.max_tunnels {
        Parsed::Valid(of) => of.value.0.is_some(),
        Parsed::Missing => false,
        Parsed::Invalid => true,
    };
    let Some(Located { value: OrOff(Some(_)), location }) = keys.queue.located() else {
        let is_changed = |time: &&Located<Duration>| time.value != QUEUE_TIME;
        let time = keys.queue_time.located().filter(is_changed);
        if let (Some(Located { location, .. }), false) = (time, keys.queue.is_invalid()) {
            let problem = Problem::new("this has no effect without a queue");
            sink.report(location, problem.help("write queue = 100, or remove queue_time"));
        }
        return;
    };
    if let Some(items) = backends.value()
        && !items.iter().all(is_limited)
    {
        let problem =
            Problem::new("no handshake waits, since a backend of this pool has no max_tunnels");
        sink.report(location, problem.help("write max_tunnels for every backend, or remove queue"));
    }
}

/// How long a handshake waits by default: less than clients do.
pub(crate) const QUEUE_TIME: Duration = Duration::from_secs(5);

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
