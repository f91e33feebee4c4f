//! `ctl reload`, `config` and `log-level`, and `check --diff`.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::arg_values::LogLevelArg;
use super::format::count;
use super::output::{CommandFailure, Output, write_line};
use super::table::{Align, TextTable, sanitize};
use crate::control_protocol::response::{
    Change, EffectiveConfig, EffectiveKey, LogLevel, ReloadResult,
};
use crate::control_protocol::{ControlRequest, encode};

/// Reloads the configuration and prints the changes.
///
/// # Errors
///
/// As for [`Output::print`].
pub fn reload(output: &Output) -> Result<(), CommandFailure> {
    output.print_within(&ControlRequest::Reload, Some(RELOAD_TIMEOUT), |result: ReloadResult| {
        let heading = format!("reloaded; configuration {} is now active", result.generation);
        show_changes(&heading, "nothing changed", &result.changes)
    })
}

/// Prints what a reload would change.
///
/// # Errors
///
/// As for [`Output::print`].
pub fn diff(output: &Output, file: &Path, text: String) -> Result<(), CommandFailure> {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let request = ControlRequest::Diff { path: absolute.display().to_string(), text };
    output.print_within(&request, Some(RELOAD_TIMEOUT), |result: ReloadResult| {
        let heading =
            format!("compared with the active configuration, number {}", result.generation);
        show_changes(&heading, "nothing would change", &result.changes)
    })
}

/// Formats a heading and a block for each change.
fn show_changes(heading: &str, if_empty: &str, changes: &[Change]) -> String {
    if changes.is_empty() {
        return format!("{heading}: {if_empty}\n");
    }
    let mut text = format!("{heading}: {}\n", count(changes.len() as u64, "change"));
    for change in changes {
        let space = if change.name.is_empty() { "" } else { " " };
        let line =
            sanitize(&format!("{}{space}{}: {}", change.section, change.name, change.action));
        text.push_str(&format!("{line}, {}", count(change.tunnels, "open tunnel")));
        if !change.effect.is_empty() {
            text.push_str(&format!("; {}", sanitize(&change.effect)));
        }
        text.push('\n');
        for key in &change.keys {
            let value = |value: &Option<String>| match value {
                Some(value) => sanitize(value),
                None => "(unset)".to_owned(),
            };
            let (before, after) = (value(&key.before), value(&key.after));
            text.push_str(&format!("    {}: {before} -> {after}\n", sanitize(&key.key)));
        }
    }
    text
}

/// Prints the effective configuration; with `changed`, only keys that are set.
///
/// # Errors
///
/// As for [`Output::print`].
pub fn effective(output: &Output, changed: bool) -> Result<(), CommandFailure> {
    if output.json && changed {
        let line = output.client.request(&ControlRequest::Config)?;
        output.parse::<EffectiveConfig>(&ControlRequest::Config, &line)?;
        return write_line(&only_set(&line));
    }
    output.print(&ControlRequest::Config, |config: EffectiveConfig| {
        let mut table =
            TextTable::new(&[("KEY", Align::Left), ("FROM", Align::Left), ("VALUE", Align::Left)]);
        for key in config.keys.iter().filter(|key| !changed || is_set(key)) {
            table.push([key.key.clone(), origin(key), key.value.clone()]);
        }
        let file = config.file.as_deref().map_or("no file".to_owned(), sanitize);
        let body = output.table(&table, "every key has its default value");
        format!("configuration {} from {file}\n\n{body}", config.generation)
    })
}

/// Whether a key is set in the file or by `tidegate ctl`.
fn is_set(key: &EffectiveKey) -> bool {
    key.line.is_some() || key.from.as_deref() == Some(FROM_CTL)
}

fn origin(key: &EffectiveKey) -> String {
    match (&key.from, key.line) {
        (Some(from), _) => from.clone(),
        (None, Some(line)) => format!("line {line}"),
        (None, None) => "default".to_owned(),
    }
}

/// Removes default and inherited keys from a response; the others stay as received.
fn only_set(response: &[u8]) -> Vec<u8> {
    let mut response: Value = serde_json::from_slice(response).unwrap_or_default();
    if let Some(Value::Array(keys)) = response.pointer_mut("/ok/keys") {
        keys.retain(|key| {
            serde_json::from_value(key.clone()).is_ok_and(|key: EffectiveKey| is_set(&key))
        });
    }
    let mut line = encode(&response);
    line.pop();
    line
}

/// Prints the log level and, if one is given, sets it before.
///
/// # Errors
///
/// As for [`Output::print`].
pub fn log_level(output: &Output, level: Option<LogLevelArg>) -> Result<(), CommandFailure> {
    let level = level.map(|level| level.as_str().to_owned());
    output.print(&ControlRequest::LogLevel { level }, |current: LogLevel| {
        format!("{}\n", sanitize(&current.level))
    })
}

/// A reload reads certificates and may resolve names.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(120);
const FROM_CTL: &str = "ctl";
