//! Reports the effective configuration: the file with the changes made by commands, and the
//! start-up values of keys that need a restart.

use crate::config::explain::listing::effective;
use crate::control_protocol::response::{
    CommandError, CommandErrorKind, EffectiveConfig, EffectiveKey, LogLevel,
};
use crate::proxy::state::ProxyState;
use crate::telemetry::log;
use crate::upstream::pool::Pool;

/// Lists every key with its effective value.
pub(super) fn config(state: &ProxyState) -> EffectiveConfig {
    let snapshot = state.snapshot();
    let settings = &snapshot.settings;
    let mut keys = effective(settings);
    for overdue in state.keys_requiring_restart() {
        let from = Some("start; a restart applies the file's value".to_owned());
        replace(&mut keys, &overdue.key, overdue.value, from);
    }
    let from_ctl = || Some("ctl".to_owned());
    let level = log::log_level();
    if level != settings.log.level {
        let level = format!("\"{}\"", level.to_string().to_lowercase());
        replace(&mut keys, "log.level", level, from_ctl());
    }
    let named = |pool: &Pool| settings.pools.iter().position(|named| named.name == pool.name);
    let list = |route: usize, pool: &Pool| match named(pool) {
        Some(index) => format!("pool[{index}]"),
        None => format!("route[{route}]"),
    };
    for (route, number) in snapshot.route_list.iter().zip(0..) {
        let canary = &route.pool.settings().canary;
        if let Some(share) = route.pool.state().canary.get(canary) {
            let key = format!("{}.canary.share", list(number, &route.pool));
            replace(&mut keys, &key, format!("\"{share}\""), from_ctl());
        }
        let listed = settings.routes.get(number).map_or(&[][..], |route| &route.pool.backends);
        for (backend, index) in listed.iter().zip(0..) {
            let overridden = route.pool.admin_override(&backend.id);
            if let Some(weight) = overridden.and_then(|(_, of)| of.weight()) {
                let key = format!("{}.backends[{index}].weight", list(number, &route.pool));
                replace(&mut keys, &key, weight.to_string(), from_ctl());
            }
        }
    }
    let file = settings.file.as_ref().map(|file| file.display().to_string());
    EffectiveConfig { generation: snapshot.generation, file, keys }
}

fn replace(keys: &mut [EffectiveKey], key: &str, value: String, from: Option<String>) {
    if let Some(found) = keys.iter_mut().find(|found| found.key == key) {
        (found.value, found.from, found.line) = (value, from, None);
    }
}

/// Sets the log level, if one is given, and returns the current one.
pub(super) fn log_level(new: Option<&str>) -> Result<LogLevel, CommandError> {
    if let Some(new) = new {
        // The parser would also accept the numbers 0 to 5.
        let is_name = !new.contains(|c: char| c.is_ascii_digit());
        let level = new.parse().ok().filter(|_| is_name).ok_or_else(|| {
            let message =
                format!("unknown log level \"{new}\"; use error, warn, info, debug or trace");
            CommandError::new(CommandErrorKind::BadRequest, message)
        })?;
        log::set_log_level(level);
    }
    Ok(LogLevel { level: log::log_level().to_string().to_lowercase() })
}
