//! What holds at this moment, wherever it comes from: the file, an order, or the start.

use crate::config::explain::listing::effective;
use crate::protocol::answer::{
    CommandError, CommandErrorKind, EffectiveConfig, EffectiveKey, LogLevel,
};
use crate::proxy::state::ProxyState;
use crate::telemetry::log;

/// Every key, with the value that holds.
pub(super) fn config(gate: &ProxyState) -> EffectiveConfig {
    let generation = gate.snapshot();
    let settings = &generation.settings;
    let mut keys = effective(settings);
    for overdue in gate.overdue() {
        let from = Some("start; the file's takes a restart".to_owned());
        replace(&mut keys, &overdue.key, overdue.value, from);
    }
    let by_order = || Some("ctl".to_owned());
    let level = log::log_level();
    if level != settings.log.level {
        let level = format!("\"{}\"", level.to_string().to_lowercase());
        replace(&mut keys, "log.level", level, by_order());
    }
    for (route, number) in generation.route_list.iter().zip(0..) {
        for (backend, place) in route.pool.backends().iter().zip(0..) {
            if let Some(weight) = backend.standing.weight() {
                let key = format!("route[{number}].backends[{place}].weight");
                replace(&mut keys, &key, weight.to_string(), by_order());
            }
        }
    }
    let file = settings.file.as_ref().map(|file| file.display().to_string());
    EffectiveConfig { generation: generation.number, file, keys }
}

fn replace(keys: &mut [EffectiveKey], key: &str, value: String, from: Option<String>) {
    if let Some(found) = keys.iter_mut().find(|found| found.key == key) {
        (found.value, found.from, found.line) = (value, from, None);
    }
}

/// How much is logged; from now on, if that is wanted.
pub(super) fn log_level(wanted: Option<&str>) -> Result<LogLevel, CommandError> {
    if let Some(wanted) = wanted {
        let known = !wanted.contains(|c: char| c.is_ascii_digit());
        let level = wanted.parse().ok().filter(|_| known).ok_or_else(|| {
            let words = format!("\"{wanted}\" is none of error, warn, info, debug, trace");
            CommandError::new(CommandErrorKind::BadRequest, words)
        })?;
        log::set_log_level(level);
    }
    Ok(LogLevel { level: log::log_level().to_string().to_lowercase() })
}
