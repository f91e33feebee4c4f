//! `[pool.probe]`.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use hyper::Uri;
use hyper::header::HeaderName;

use super::defaults::value_or;
use crate::config::schema::probe::ProbeTable;
use crate::config::settings::probe::{ProbeKind, ProbeRequest, ProbeSettings};
use crate::config::toml::diagnostic::{Location, Problem};
use crate::config::toml::sink::DiagnosticSink;
use crate::config::toml::value::Parsed;
use crate::config::values::probe::{
    ProbeChoice, ProbeCount, ProbeInterval, ProbeTarget, Subprotocol,
};
use crate::config::values::scalars::{OrAuto, OrOff};
use crate::config::values::units::show_duration;

/// Converts the table; `None` if the backends are not probed.
pub(crate) fn probe(table: &ProbeTable, sink: &mut DiagnosticSink<'_>) -> Option<ProbeSettings> {
    let choice = value_or(&table.kind, ProbeChoice::Off);
    if !table.kind.is_invalid() {
        check_keys(table, choice, sink);
    }
    let interval = value_or(&table.interval, ProbeInterval(ProbeSettings::INTERVAL)).0;
    let timeout = value_or(&table.timeout, ProbeSettings::TIMEOUT.min(interval));
    if let Some(location) = table.timeout.location()
        && timeout > interval
        && !table.interval.is_invalid()
    {
        let [timeout, interval] = [timeout, interval].map(show_duration);
        let problem = format!("{timeout} is longer than the interval, {interval}");
        let help = "a backend has one probe at a time: write at most the interval";
        sink.report(location, Problem::new(problem).help(help));
    }
    let kind = match choice {
        ProbeChoice::Off => return None,
        ProbeChoice::Tcp => ProbeKind::Tcp,
        ProbeChoice::Http => ProbeKind::Http(request(table, sink), statuses(table, sink)),
        ProbeChoice::WebSocket => {
            let subprotocol = value_or(&table.subprotocol, OrOff(None)).0.map(|name| name.0);
            ProbeKind::WebSocket(request(table, sink), subprotocol)
        }
    };
    let rise = value_or(&table.rise, ProbeCount(ProbeSettings::RISE)).0;
    let fall = value_or(&table.fall, ProbeCount(ProbeSettings::FALL)).0;
    Some(ProbeSettings { kind, interval, timeout, rise, fall })
}

/// Reports keys that have no effect on a probe of this kind.
fn check_keys(table: &ProbeTable, choice: ProbeChoice, sink: &mut DiagnosticSink<'_>) {
    use ProbeChoice::{Http, Off, Tcp, WebSocket};
    let root = Uri::from_static("/");
    let keys: [(Option<&Location>, &[ProbeChoice]); 9] = [
        (unusual(&table.path, |ProbeTarget(path)| *path == root), &[Http, WebSocket]),
        (unusual(&table.host, |OrAuto(host)| host.is_none()), &[Http, WebSocket]),
        (unusual(&table.headers, Vec::is_empty), &[Http, WebSocket]),
        (unusual(&table.status, |given| ranges(given.iter().map(|s| &s.value.0))), &[Http]),
        (
            unusual(&table.subprotocol, |OrOff(name): &OrOff<Subprotocol>| name.is_none()),
            &[WebSocket],
        ),
        (
            unusual(&table.interval, |given| given.0 == ProbeSettings::INTERVAL),
            &[Tcp, Http, WebSocket],
        ),
        (
            unusual(&table.timeout, |given| *given == ProbeSettings::TIMEOUT),
            &[Tcp, Http, WebSocket],
        ),
        (unusual(&table.rise, |given| given.0 == ProbeSettings::RISE), &[Tcp, Http, WebSocket]),
        (unusual(&table.fall, |given| given.0 == ProbeSettings::FALL), &[Tcp, Http, WebSocket]),
    ];
    for (location, choices) in keys {
        let Some(location) = location.filter(|_| !choices.contains(&choice)) else { continue };
        let (problem, help) = match (choice, choices) {
            (Off, [only]) => ("without a kind, the backends are not probed", kind_help(*only)),
            (Off, _) => ("without a kind, the backends are not probed", ANY_KIND),
            (Tcp, [only]) => ("a TCP probe sends no request", kind_help(*only)),
            (Tcp, _) => ("a TCP probe sends no request", HTTP_OR_WEBSOCKET),
            (Http, _) => ("an HTTP probe opens no WebSocket", kind_help(WebSocket)),
            (WebSocket, _) => ("a WebSocket probe expects a 101", "remove this key"),
        };
        sink.report(location, Problem::new(problem).help(help));
    }
}

/// The location of a key with another value than the default.
fn unusual<T>(given: &Parsed<T>, is_default: impl FnOnce(&T) -> bool) -> Option<&Location> {
    given.located().filter(|key| !is_default(&key.value)).map(|key| &key.location)
}

fn ranges<'r>(given: impl Iterator<Item = &'r RangeInclusive<u16>>) -> bool {
    given.eq(&ProbeSettings::STATUSES)
}

fn kind_help(choice: ProbeChoice) -> &'static str {
    match choice {
        ProbeChoice::Http => "write kind = \"http\", or remove this key",
        ProbeChoice::Off | ProbeChoice::Tcp | ProbeChoice::WebSocket => {
            "write kind = \"websocket\", or remove this key"
        }
    }
}

fn request(table: &ProbeTable, sink: &mut DiagnosticSink<'_>) -> ProbeRequest {
    let fields = table.headers.value().map_or(&[][..], Vec::as_slice);
    let mut listed: HashMap<&HeaderName, &str> = HashMap::new();
    for field in fields {
        if let Some(other) = listed.insert(&field.value.name, &field.location.key) {
            let problem = format!("{} is already listed in {other}", field.value.name);
            sink.report(&field.location, Problem::new(problem).help("list a field once"));
        }
    }
    ProbeRequest {
        target: value_or(&table.path, ProbeTarget(Uri::from_static("/"))).0,
        host: value_or(&table.host, OrAuto(None)).0.map(|host| host.0),
        headers: fields.iter().map(|f| (f.value.name.clone(), f.value.value.clone())).collect(),
    }
}

fn statuses(table: &ProbeTable, sink: &mut DiagnosticSink<'_>) -> Vec<RangeInclusive<u16>> {
    let Some(given) = table.status.located() else { return ProbeSettings::STATUSES.to_vec() };
    if given.value.is_empty() {
        let problem = Problem::new("the list is empty, so every probe would fail");
        sink.report(&given.location, problem.help("write status = [\"2xx\"]"));
    }
    given.value.iter().map(|status| status.value.0.clone()).collect()
}

const ANY_KIND: &str = "write kind = \"tcp\", \"http\" or \"websocket\"";
const HTTP_OR_WEBSOCKET: &str = "write kind = \"http\" or \"websocket\", or remove this key";
