//! The keys of routes and of what they are held to.

use ws::{Limits, Rule, Side, Strict, Terms};

use super::value::{
    Shown, age, cap, fields, list, or_off, per_second, plain, rate, size, text, time,
};
use crate::config::explain::listing::Group;
use crate::config::settings::{Compression, HeaderRules, LostBackends, Settings};
use crate::config::values::origin::OriginRule;
use crate::config::written::Patience;

/// `[[route]]`, without its backends.
pub fn route(settings: &Settings, place: usize) -> Option<Group> {
    let of = settings.routes.get(place)?;
    let mut group = Group::new(format!("route[{place}]"));
    group.add("host", text(&of.host));
    group.add("path", text(of.path.as_str()));
    group.add_or("name", text(&of.name), format!("route[{place}].host"));
    group.add("origins", list(of.origins.iter().map(origin)));
    group.add("lost_backends", lost(of.lost_backends));
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
            Strict::Enforce => "enforce",
            Strict::Report => "report",
        }),
    );
    group.add("proxy_protocol", plain(of.send_proxy));
    group.add("forwarded", plain(of.send_forwarded));
    headers(&mut group, "request_headers", &of.request_headers);
    headers(&mut group, "response_headers", &of.response_headers);
    for (key, value) in terms(&of.terms, settings.written.patience(Some(place))) {
        group.add_or(&key, value, key.clone());
    }
    Some(group)
}

/// An item of a route's `backends`.
pub fn backend(settings: &Settings, route: usize, place: usize) -> Option<Group> {
    let of = settings.routes.get(route)?.backends.get(place)?;
    let mut group = Group::new(format!("route[{route}].backends[{place}]"));
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
pub fn common(settings: &Settings) -> [Group; 2] {
    let mut groups = ["limits", "heartbeat"].map(Group::new);
    for (key, value) in terms(&settings.written.common, settings.written.patience(None)) {
        for group in &mut groups {
            let sub = key.strip_prefix(&group.prefix).and_then(|sub| sub.strip_prefix('.'));
            sub.into_iter().for_each(|sub| group.add(sub, value.clone()));
        }
    }
    groups
}

/// `limits.idle` and all the others.
fn terms(terms: &Terms, patience: Patience) -> Vec<(String, Shown)> {
    let mut keys = Vec::new();
    let standard = Terms::default();
    for rule in Rule::ALL.into_iter().filter(|rule| *rule != Rule::Inflated) {
        for side in Side::BOTH {
            let value = limit(rule, terms.limits(side), standard.limits(side));
            keys.push((rule.key(side).to_owned(), value));
        }
    }
    let mut add = |key: &str, value| keys.push((key.to_owned(), value));
    add("limits.idle", or_off(terms.idle, time));
    add("limits.lifetime", or_off(terms.lifetime, time));
    add("limits.close_grace", time(terms.close_grace));
    add("limits.write_stall", time(terms.write_stall));
    let trickle = terms.write_trickle.map(|rate| size(rate.get()));
    add("limits.write_trickle", or_off(trickle, |rate| per_second(&rate)));
    let [client, backend] = patience;
    let interval = |side| or_off(terms.heartbeat(side), |heartbeat| time(heartbeat.interval));
    add("heartbeat.interval", interval(Side::Client));
    add("heartbeat.patience", time(client));
    add("heartbeat.backend_interval", interval(Side::Backend));
    add("heartbeat.backend_patience", time(backend));
    keys
}

fn limit(rule: Rule, limits: &Limits, standard: &Limits) -> Shown {
    match rule {
        Rule::Message | Rule::Inflated => cap(limits.message, size),
        Rule::Frame => cap(limits.frame, size),
        Rule::Fragments => cap(limits.fragments, plain),
        Rule::MessageAge => age(limits.message_age),
        Rule::Messages => rate(limits.messages, standard.messages, plain),
        Rule::Bytes => rate(limits.bytes, standard.bytes, size),
        Rule::Controls => rate(limits.controls, standard.controls, plain),
    }
}

fn headers(group: &mut Group, table: &str, rules: &HeaderRules) {
    let remove = rules.remove.iter().map(|name| name.as_str().to_owned());
    group.add(&format!("{table}.remove"), list(remove));
    group.add(&format!("{table}.set"), fields(&rules.set));
}

fn lost(lost: LostBackends) -> Shown {
    match lost {
        LostBackends::Keep => text("keep"),
        LostBackends::Drain => text("drain"),
        LostBackends::CloseAfter(after) => time(after),
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
