//! The room as a whole, from text to settings or rendered faults; rows of `requirements.md` 7.CF.

use std::time::Duration;

use proptest::prelude::*;
use ws::CloseCode;

use super::settings::{CertificateSource, LogFormat};
use super::*;
use crate::config::explain::difference::differences;
use crate::config::settings::Settings;
use crate::config::toml::diagnostic::Diagnostic;

/// One certificate, one route and one backend.
const PLAIN: &str = r#"[[listener]]
address = "0.0.0.0:443"

[[certificate]]
chain = "fullchain.pem"
key = "privkey.pem"

[[route]]
host = "chat.example.com"
origins = ["same-origin"]
backends = ["127.0.0.1:9001"]
"#;

fn parse(text: &str) -> Settings {
    Settings::parse(text, "proxy.toml").unwrap_or_else(|faults| panic!("{faults}"))
}

fn rendered(text: &str) -> String {
    Settings::parse(text, "proxy.toml").expect_err("faults").to_string()
}

/// `key: problem (help)` of each fault, in the order of the file; help in one line.
fn told(text: &str) -> Vec<String> {
    let faults = Settings::parse(text, "proxy.toml").expect_err("faults");
    let help = |fault: &Diagnostic| {
        fault.help().map(|help| format!(" ({})", help.replace('\n', " "))).unwrap_or_default()
    };
    faults
        .iter()
        .map(|fault| format!("{}: {}{}", fault.key(), fault.problem(), help(fault)))
        .collect()
}

/// What is told of these lines below the plain configuration, whose last table is the route.
fn told_below(lines: &str) -> Vec<String> {
    told(&format!("{PLAIN}{lines}\n"))
}

/// What is told when one line of the plain configuration is another.
fn told_instead(old: &str, new: &str) -> Vec<String> {
    assert!(PLAIN.contains(old), "{old}");
    told(&PLAIN.replace(old, new))
}

mod differing;
mod listing;
mod outside;
mod policies;
mod reading;
mod rules;
mod slips;
mod unmet;

/// What differs, whomever it is about.
fn changes(before: &Settings, after: &Settings) -> Vec<crate::protocol::response::Change> {
    differences(before, after).into_iter().map(|difference| difference.change).collect()
}
