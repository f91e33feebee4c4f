//! The listing's rows for `[pool.probe]`.

use std::ops::RangeInclusive;

use super::key_group::KeyGroup;
use super::value::{duration, header_fields, list, or_auto, or_off, plain, text};
use crate::config::explain::effect::AppliesTo::Immediately;
use crate::config::settings::probe::{ProbeKind, ProbeSettings};

/// Adds the keys of the table; those that do not apply to the kind have their defaults.
pub fn probe(group: &mut KeyGroup, probe: Option<&ProbeSettings>) {
    let kind = probe.map(|probe| &probe.kind);
    let request = kind.and_then(ProbeKind::request);
    let (statuses, subprotocol) = match kind {
        Some(ProbeKind::Http(_, statuses)) => (&statuses[..], None),
        Some(ProbeKind::WebSocket(_, subprotocol)) => {
            (&ProbeSettings::STATUSES[..], subprotocol.as_deref())
        }
        Some(ProbeKind::Tcp) | None => (&ProbeSettings::STATUSES[..], None),
    };
    let host = request.and_then(|request| request.host.as_ref());
    let interval = probe.map_or(ProbeSettings::INTERVAL, |probe| probe.interval);
    let timeout = probe.map_or(ProbeSettings::TIMEOUT, |probe| probe.timeout);
    let mut add = |name: &str, value| group.add(&format!("probe.{name}"), Immediately, value);
    add("kind", text(kind.map_or("off", ProbeKind::as_str)));
    add("path", text(request.map_or("/".to_owned(), |request| request.target.to_string())));
    add("host", or_auto(host, |host| text(host.to_str().unwrap_or_default())));
    add("headers", header_fields(request.map_or(&[], |request| &request.headers)));
    add("status", list(statuses.iter().map(shown)));
    add("subprotocol", or_off(subprotocol, text));
    add("interval", duration(interval));
    add("timeout", duration(timeout));
    add("rise", plain(probe.map_or(ProbeSettings::RISE, |probe| probe.rise)));
    add("fall", plain(probe.map_or(ProbeSettings::FALL, |probe| probe.fall)));
}

/// One code, or `2xx`.
fn shown(statuses: &RangeInclusive<u16>) -> String {
    match statuses.start() == statuses.end() {
        true => statuses.start().to_string(),
        false => format!("{}xx", statuses.start() / 100),
    }
}
