//! The listing's rows for routes, and the top-level limits and heartbeats.

use std::num::NonZeroU32;

use ws::{LimitKind, Limits, PingProof, SessionPolicy, Side, Strictness};

use super::key_group::KeyGroup;
use super::tables::{addresses, drain_close, request_timeouts};
use super::value::{
    DisplayValue, duration, header_fields, limit, list, max_age, on_backend_loss, or_off,
    per_second, plain, rate, size, text,
};
use crate::config::explain::effect::AppliesTo::{Immediately, Requests, Tunnels};
use crate::config::settings::{Compression, HeaderRules, LogRequests, Settings};
use crate::config::source_map::HeartbeatValues;
use crate::config::values::units::show_long_duration;

/// The keys of a `[[route]]` without its backends.
pub fn route(settings: &Settings, index: usize) -> Option<KeyGroup> {
    let route = settings.routes.get(index)?;
    let mut group = KeyGroup::new(format!("route[{index}]"));
    group.add("host", Requests, text(&route.host));
    group.add("path", Requests, text(route.path.as_str()));
    group.add("case_sensitive", Requests, plain(route.case_sensitive));
    let ambiguous_paths = if route.allows_ambiguous_paths { "allow" } else { "reject" };
    group.add("ambiguous_paths", Requests, text(ambiguous_paths));
    group.add_inherited("name", Requests, text(&route.name), format!("route[{index}].host"));
    addresses(&mut group, Requests, &route.addresses);
    group.add("origins", Requests, list(route.origins.iter().map(ToString::to_string)));
    group.add("pool", Requests, or_off(route.pool.name.as_deref(), text));
    let loss = on_backend_loss(route.on_backend_loss);
    let named = route.pool.name.as_ref();
    match named.and_then(|_| settings.pools.iter().position(|pool| pool.name == route.pool.name)) {
        Some(pool) => {
            let of_pool = format!("pool[{pool}].on_backend_loss");
            group.add_inherited("on_backend_loss", Immediately, loss, of_pool);
        }
        None => group.add("on_backend_loss", Immediately, loss),
    }
    let file = route.maintenance_file.as_deref();
    group.add("maintenance_file", Requests, or_off(file, |file| text(file.display())));
    group.add("http", Requests, plain(route.http));
    let log_requests = match route.log_requests {
        LogRequests::Off => "off".to_owned(),
        LogRequests::OneOf(NonZeroU32::MIN) => "all".to_owned(),
        LogRequests::OneOf(count) => format!("1/{count}"),
    };
    group.add("log_requests", Requests, text(log_requests));
    group.add("tunnels", Requests, or_off(route.tunnels, plain));
    group.add(
        "compression",
        Tunnels,
        text(match route.compression {
            Compression::Inspect => "inspect",
            Compression::Strip => "strip",
            Compression::Pass => "pass",
        }),
    );
    group.add(
        "strict",
        Tunnels,
        text(match route.policy.strict {
            Strictness::Enforce => "enforce",
            Strictness::Report => "report",
        }),
    );
    group.add("utf8", Tunnels, text(if route.policy.utf8 { "check" } else { "off" }));
    group.add("proxy_protocol", Requests, plain(route.send_proxy));
    group.add("forwarded", Requests, plain(route.send_forwarded));
    group.add("via", Requests, or_off(route.via.as_deref(), text));
    group.add("hsts", Requests, or_off(route.hsts, |age| text(show_long_duration(age))));
    let kept = route.underscore_headers.iter().map(|name| name.as_str().to_owned());
    group.add("underscore_headers", Requests, list(kept));
    headers(&mut group, "request_headers", &route.request_headers);
    headers(&mut group, "response_headers", &route.response_headers);
    group.add("response_head_size", Requests, size(route.response_head.bytes as u64));
    group.add("response_head_fields", Requests, plain(route.response_head.fields));
    for (key, value) in policy_keys(&route.policy, settings.source_map.heartbeat(Some(index))) {
        group.add_inherited(&key, Tunnels, value, key.clone());
    }
    for (name, value) in request_timeouts(&route.timeouts) {
        let key = format!("timeouts.{name}");
        group.add_inherited(&key, Requests, value, key.clone());
    }
    for (name, value) in drain_close(&route.policy) {
        let key = format!("drain.{name}");
        group.add_inherited(&key, Tunnels, value, key.clone());
    }
    Some(group)
}

/// The keys of `[limits]` and `[heartbeat]`.
pub fn top_level_policy(settings: &Settings) -> [KeyGroup; 2] {
    let mut groups = ["limits", "heartbeat"].map(KeyGroup::new);
    let source_map = &settings.source_map;
    for (key, value) in policy_keys(&source_map.top_level_policy, source_map.heartbeat(None)) {
        for group in &mut groups {
            let name = key.strip_prefix(&group.prefix).and_then(|name| name.strip_prefix('.'));
            name.into_iter().for_each(|name| group.add(name, Tunnels, value.clone()));
        }
    }
    groups
}

/// All keys of `[limits]` and `[heartbeat]` with their values.
fn policy_keys(policy: &SessionPolicy, values: HeartbeatValues) -> Vec<(String, DisplayValue)> {
    let mut keys = Vec::new();
    let standard = SessionPolicy::default();
    for kind in LimitKind::ALL.into_iter().filter(|kind| *kind != LimitKind::Inflated) {
        for side in Side::BOTH {
            let value = limit_value(kind, policy.limits(side), standard.limits(side));
            keys.push((kind.key(side).to_owned(), value));
        }
    }
    let mut add = |key: &str, value| keys.push((key.to_owned(), value));
    add("limits.idle", or_off(policy.idle, duration));
    add("limits.lifetime", or_off(policy.lifetime, duration));
    add("limits.close_grace", duration(policy.close_grace));
    add("limits.write_timeout", duration(policy.write_timeout));
    let min_write_rate = policy.min_write_rate.map(|rate| size(rate.get()));
    add("limits.min_write_rate", or_off(min_write_rate, |rate| per_second(&rate)));
    let interval = |side| or_off(policy.heartbeat(side), |heartbeat| duration(heartbeat.interval));
    add("heartbeat.interval", interval(Side::Client));
    add("heartbeat.timeout", duration(values.client_timeout));
    add("heartbeat.backend_interval", interval(Side::Backend));
    add("heartbeat.backend_timeout", duration(values.backend_timeout));
    add(
        "heartbeat.proof",
        text(match values.proof {
            PingProof::Any => "any",
            PingProof::Pong => "pong",
        }),
    );
    keys
}

fn limit_value(kind: LimitKind, limits: &Limits, standard: &Limits) -> DisplayValue {
    match kind {
        LimitKind::Message | LimitKind::Inflated => limit(limits.message, size),
        LimitKind::Frame => limit(limits.frame, size),
        LimitKind::Fragments => limit(limits.fragments, plain),
        LimitKind::MessageAge => max_age(limits.message_age),
        LimitKind::Messages => rate(limits.messages, standard.messages, plain),
        LimitKind::Bytes => rate(limits.bytes, standard.bytes, size),
        LimitKind::ControlFrames => rate(limits.control_frames, standard.control_frames, plain),
    }
}

fn headers(group: &mut KeyGroup, table: &str, rules: &HeaderRules) {
    let remove = rules.remove.iter().map(|name| name.as_str().to_owned());
    group.add(&format!("{table}.remove"), Requests, list(remove));
    group.add(&format!("{table}.set"), Requests, header_fields(&rules.set));
}
