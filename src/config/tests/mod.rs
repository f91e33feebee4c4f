//! Tests of the whole module, from text to settings or displayed errors.

use std::time::Duration;

use proptest::prelude::*;
use ws::CloseCode;

use super::settings::{CertificateSource, LogFormat};
use super::*;
use crate::config::explain::difference::differences;
use crate::config::settings::Settings;
use crate::config::toml::diagnostic::Diagnostic;

/// A minimal configuration: one listener, certificate, route and backend.
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
    Settings::parse(text, "proxy.toml").unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
}

fn rendered(text: &str) -> String {
    Settings::parse(text, "proxy.toml").expect_err("errors").to_string()
}

/// `key: message (help)` of each error in file order; the help in one line.
fn errors(text: &str) -> Vec<String> {
    let diagnostics = Settings::parse(text, "proxy.toml").expect_err("errors");
    let help = |diagnostic: &Diagnostic| {
        diagnostic.help().map(|help| format!(" ({})", help.replace('\n', " "))).unwrap_or_default()
    };
    diagnostics
        .iter()
        .map(|diagnostic| {
            format!("{}: {}{}", diagnostic.key(), diagnostic.message(), help(diagnostic))
        })
        .collect()
}

/// The errors of [`PLAIN`] followed by these lines. The last table of [`PLAIN`] is the route.
fn errors_below(lines: &str) -> Vec<String> {
    errors(&format!("{PLAIN}{lines}\n"))
}

/// The errors of [`PLAIN`] with `old` replaced by `new`.
fn errors_replacing(old: &str, new: &str) -> Vec<String> {
    assert!(PLAIN.contains(old), "{old}");
    errors(&PLAIN.replace(old, new))
}

mod acme;
mod choice;
mod difference;
mod foreign;
mod headers_and_logs;
mod http_policies;
mod ineffective;
mod listing;
mod policies;
mod pool_tls;
mod pools;
mod probes;
mod reading;
mod route_overrides;
mod rules;
mod suggestions;
mod synonyms;
mod underscores;

/// The differences without the affected tunnels.
fn changes(before: &Settings, after: &Settings) -> Vec<crate::control_protocol::response::Change> {
    differences(before, after).into_iter().map(|difference| difference.change).collect()
}
