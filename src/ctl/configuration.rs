//! `ctl reload`, `config` and `log-level`, and `check --diff`.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::args::LogLevelArg;
use super::format::count;
use super::output::{CommandFailure, Output, say_line};
use super::table::{Align, TextTable, sanitize};
use crate::protocol::response::{Change, EffectiveConfig, EffectiveKey, LogLevel, ReloadResult};
use crate::protocol::{ControlRequest, encode};

/// Reads the configuration again, and waits for the outcome.
pub fn reload(output: &Output) -> Result<(), CommandFailure> {
    output.put_within(&ControlRequest::Reload, Some(RELOAD_PATIENCE), |reloaded: ReloadResult| {
        let head = format!("configuration {} is in force", reloaded.generation);
        told(&head, "nothing changed", &reloaded.changes)
    })
}

/// Tells what a reload would change.
pub fn diff(output: &Output, file: &Path, text: String) -> Result<(), CommandFailure> {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let request = ControlRequest::Diff { path: absolute.display().to_string(), text };
    output.put_within(&request, Some(RELOAD_PATIENCE), |reloaded: ReloadResult| {
        let head = format!("against configuration {} in force", reloaded.generation);
        told(&head, "nothing would change", &reloaded.changes)
    })
}

/// A head, then a block for each change.
fn told(head: &str, nothing: &str, changes: &[Change]) -> String {
    if changes.is_empty() {
        return format!("{head}: {nothing}\n");
    }
    let mut text = format!("{head}: {}\n", count(changes.len() as u64, "change"));
    for change in changes {
        let name = if change.name.is_empty() { "" } else { " " };
        let what = sanitize(&format!("{}{name}{}: {}", change.section, change.name, change.action));
        text.push_str(&format!("{what}, {}", count(change.tunnels, "live tunnel")));
        if !change.effect.is_empty() {
            text.push_str(&format!("; {}", sanitize(&change.effect)));
        }
        text.push('\n');
        for key in &change.keys {
            let value = |value: &Option<String>| match value {
                Some(value) => sanitize(value),
                None => "(nothing)".to_owned(),
            };
            let (before, after) = (value(&key.before), value(&key.after));
            text.push_str(&format!("    {}: {before} -> {after}\n", sanitize(&key.key)));
        }
    }
    text
}

/// Shows the configuration in force.
pub fn effective(output: &Output, changed: bool) -> Result<(), CommandFailure> {
    if output.json && changed {
        let answer = output.client.line(&ControlRequest::Config)?;
        output.sift::<EffectiveConfig>(&ControlRequest::Config, &answer)?;
        return say_line(&only_set(&answer));
    }
    output.put(&ControlRequest::Config, |effective: EffectiveConfig| {
        let mut table =
            TextTable::new(&[("KEY", Align::Left), ("FROM", Align::Left), ("VALUE", Align::Left)]);
        for key in effective.keys.iter().filter(|key| !changed || is_set(key)) {
            table.row([key.key.clone(), origin(key), key.value.clone()]);
        }
        let file = effective.file.as_deref().map_or("no file".to_owned(), sanitize);
        let body = output.table(&table, "everything is as by default");
        format!("configuration {}, of {file}\n\n{body}", effective.generation)
    })
}

/// It has a line of its own, or came over the socket.
fn is_set(key: &EffectiveKey) -> bool {
    key.line.is_some() || key.from.as_deref() == Some(BY_CTL)
}

fn origin(key: &EffectiveKey) -> String {
    match (&key.from, key.line) {
        (Some(from), _) => from.clone(),
        (None, Some(line)) => format!("line {line}"),
        (None, None) => "default".to_owned(),
    }
}

/// An answer with the keys that are set, each as it came.
fn only_set(answer: &[u8]) -> Vec<u8> {
    let mut answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    if let Some(Value::Array(keys)) = answer.pointer_mut("/ok/keys") {
        keys.retain(|key| {
            serde_json::from_value(key.clone()).is_ok_and(|key: EffectiveKey| is_set(&key))
        });
    }
    let mut answer = encode(&answer);
    answer.pop();
    answer
}

/// Tells how much is logged, or changes it.
pub fn log_level(output: &Output, level: Option<LogLevelArg>) -> Result<(), CommandFailure> {
    let level = level.map(|level| level.name().to_owned());
    output.put(&ControlRequest::LogLevel { level }, |now: LogLevel| {
        format!("{}\n", sanitize(&now.level))
    })
}

/// It reads certificates, and may have to look for names.
const RELOAD_PATIENCE: Duration = Duration::from_secs(120);
const BY_CTL: &str = "ctl";
