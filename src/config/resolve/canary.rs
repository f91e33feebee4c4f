//! Canary backends, and which requests go to them.

use super::defaults::value_or;
use crate::config::schema::pool::{BackendItem, CanaryTable};
use crate::config::settings::choice::CanarySettings;
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::sink::DiagnosticSink;
use crate::config::toml::value::{Located, Parsed};
use crate::config::values::hash_source::CanaryMark;
use crate::config::values::scalars::OrOff;
use crate::config::values::share::Share;

/// Converts a table `[pool.canary]`.
pub(crate) fn canary(table: &CanaryTable) -> CanarySettings {
    CanarySettings {
        share: value_or(&table.share, Share::ZERO),
        request: value_or(&table.request, OrOff(None)).0.map(|CanaryMark(source)| source),
    }
}

/// Reports a list without other backends than canaries, canaries outside a pool, and keys of `[pool.canary]`
/// without a canary.
pub(crate) fn check_canaries(
    backends: &Parsed<Vec<Located<BackendItem>>>,
    table: Option<&CanaryTable>,
    sink: &mut DiagnosticSink<'_>,
) {
    let Some(items) = backends.value() else { return };
    let canaries = || items.iter().filter_map(|item| item.value.canary.located());
    let canaries = || canaries().filter(|canary| canary.value);
    let Some(table) = table else {
        for canary in canaries() {
            let problem = Problem::new("this backend would get no requests");
            let help = "move the backends to a [[pool]], and write [pool.canary]";
            sink.report(&canary.location, problem.help(help));
        }
        return;
    };
    match canaries().next() {
        Some(first) if canaries().count() == items.len() => {
            let problem = Problem::new("every backend of this pool is a canary");
            let help = "remove canary from those that serve the other requests";
            sink.report(&first.location, problem.help(help));
        }
        Some(_) => {}
        None => {
            let keys = [table.share.location(), table.request.location()];
            let is_set = canary(table) != CanarySettings::default();
            let is_certain = items.iter().all(|item| !item.value.canary.is_invalid());
            if let (Some(location), true) =
                (keys.into_iter().flatten().next(), is_set && is_certain)
            {
                let problem = Problem::new("this pool has no canary");
                sink.report(location, problem.help("write canary = true for a backend"));
            }
        }
    }
}
