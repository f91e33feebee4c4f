//! The keys of routes and of what they are held to.

use ws::{LimitKind, Limits, SessionPolicy, Side, Strictness};

use super::value::{
    DisplayValue, age, cap, fields, list, or_off, per_second, plain, rate, size, text, time,
};
use crate::config::explain::listing::KeyGroup;
use crate::config::settings::{Compression, HeaderRules, OnBackendLoss, Settings};
use crate::config::values::origin::OriginRule;
use crate::config::written::PongTimeouts;

/// `[[route]]`, without its backends.
pub fn route(settings: &Settings, place: usize) -> Option<KeyGroup> {
    let of = settings.routes.get(place)?;
    let mut group = KeyGroup::new(format!("route[{place}]"));
    group.add("host", text(&of.host));
    group.add("path", text(of.path.as_str()));
    group.add_or("name", text(&of.name), format!("route[{place}].host"));
    group.add("origins", list(of.origins.iter().map(origin)));
    group.add("on_backend_loss", lost(of.on_backend_loss));
    group.add("http", plain(of.http));
    group.add("tunnels", or_off(of.tunnels, plain));
    group.add(
        "compression",
        text(match of.compression {
            Compression::Inspect => "inspect",
            Compression::Strip => "strip",
            Compression::Pass => "pass",
        }),
    );
    group.add(
        "strict",
        text(match of.terms.strict {
            Strictness::Enforce => "enforce",
            Strictness::Report => "report",
        }),
    );
    group.add("proxy_protocol", plain(of.send_proxy));
    group.add("forwarded", plain(of.send_forwarded));
    headers(&mut group, "request_headers", &of.request_headers);
    headers(&mut group, "response_headers", &of.response_headers);
    for (key, value) in terms(&of.terms, settings.written.heartbeat_timeouts(Some(place))) {
        group.add_or(&key, value, key.clone());
    }
    Some(group)
}

/// An item of a route's `backends`.
pub fn backend(settings: &Settings, route: usize, place: usize) -> Option<KeyGroup> {
    let of = settings.routes.get(route)?.backends.get(place)?;
    let mut group = KeyGroup::new(format!("route[{route}].backends[{place}]"));
    let address = format!("{}.address", group.prefix);
    // One that is written short is its address.
    let short = settings.written.line(&address).is_none();
    let address = if short { group.prefix.clone() } else { address };
    group.add("address", text(&of.address));
    group.add("weight", plain(of.weight));
    group.add_or("id", text(&of.id), address);
    Some(group)
}

/// `[limits]` and `[heartbeat]`
pub fn common(settings: &Settings) -> [KeyGroup; 2] {
    let mut groups = ["limits", "heartbeat"].map(KeyGroup::new);
    for (key, value) in terms(&settings.written.common, settings.written.heartbeat_timeouts(None)) {
        for group in &mut groups {
            let sub = key.strip_prefix(&group.prefix).and_then(|sub| sub.strip_prefix('.'));
            sub.into_iter().for_each(|sub| group.add(sub, value.clone()));
        }
    }
    groups
}

/// `limits.idle` and all the others.
fn terms(terms: &SessionPolicy, timeouts: PongTimeouts) -> Vec<(String, DisplayValue)> {
    let mut keys = Vec::new();
    let standard = SessionPolicy::default();
    for rule in LimitKind::ALL.into_iter().filter(|rule| *rule != LimitKind::Inflated) {
        for side in Side::BOTH {
            let value = limit(rule, terms.limits(side), standard.limits(side));
            keys.push((rule.key(side).to_owned(), value));
        }
    }
    let mut add = |key: &str, value| keys.push((key.to_owned(), value));
    add("limits.idle", or_off(terms.idle, time));
    add("limits.lifetime", or_off(terms.lifetime, time));
    add("limits.close_grace", time(terms.close_grace));
    add("limits.write_timeout", time(terms.write_timeout));
    let trickle = terms.min_write_rate.map(|rate| size(rate.get()));
    add("limits.min_write_rate", or_off(trickle, |rate| per_second(&rate)));
    let [client, backend] = timeouts;
    let interval = |side| or_off(terms.heartbeat(side), |heartbeat| time(heartbeat.interval));
    add("heartbeat.interval", interval(Side::Client));
    add("heartbeat.timeout", time(client));
    add("heartbeat.backend_interval", interval(Side::Backend));
    add("heartbeat.backend_timeout", time(backend));
    keys
}

fn limit(rule: LimitKind, limits: &Limits, standard: &Limits) -> DisplayValue {
    match rule {
        LimitKind::Message | LimitKind::Inflated => cap(limits.message, size),
        LimitKind::Frame => cap(limits.frame, size),
        LimitKind::Fragments => cap(limits.fragments, plain),
        LimitKind::MessageAge => age(limits.message_age),
        LimitKind::Messages => rate(limits.messages, standard.messages, plain),
        LimitKind::Bytes => rate(limits.bytes, standard.bytes, size),
        LimitKind::ControlFrames => rate(limits.control_frames, standard.control_frames, plain),
    }
}

fn headers(group: &mut KeyGroup, table: &str, rules: &HeaderRules) {
    let remove = rules.remove.iter().map(|name| name.as_str().to_owned());
    group.add(&format!("{table}.remove"), list(remove));
    group.add(&format!("{table}.set"), fields(&rules.set));
}

fn lost(lost: OnBackendLoss) -> DisplayValue {
    match lost {
        OnBackendLoss::Keep => text("keep"),
        OnBackendLoss::Drain => text("drain"),
        OnBackendLoss::CloseAfter(after) => time(after),
    }
}

fn origin(rule: &OriginRule) -> String {
    match rule {
        OriginRule::Any => "*".to_owned(),
        OriginRule::SameOrigin => "same-origin".to_owned(),
        OriginRule::Null => "null".to_owned(),
        OriginRule::Missing => "missing".to_owned(),
        OriginRule::Exact(origin) => origin.to_string(),
        OriginRule::Subdomains(parent) => parent.to_string().replacen("://", "://*.", 1),
    }
}
