//! The session policy: limits and timers. Missing keys have the defaults of [`SessionPolicy`].

use std::num::NonZeroU64;
use std::time::Duration;

use ws::{
    AgeLimit, HeartbeatPolicy, Limit, LimitAction, Limits, PingProof, RateLimit, SessionPolicy,
    Side,
};

use super::defaults::value_or;
use super::ineffective::{check_burst, check_limits};
use super::scope::{KeyScope, first_location_in_route};
use crate::config::schema::ConfigFile;
use crate::config::schema::limits::{
    DirectionKeys, HeartbeatKeys, HeartbeatTable, LimitValue, RateValue,
};
use crate::config::schema::route::RouteTable;
use crate::config::source_map::HeartbeatValues;
use crate::config::toml::diagnostic::{Location, Problem};
use crate::config::toml::sink::DiagnosticSink;
use crate::config::toml::value::Parsed;
use crate::config::values::choices::CheckUtf8;
use crate::config::values::scalars::OrOff;
use crate::config::values::units::{ByteSize, show_in_one_unit};

/// The session policy of a route, or with `None` that of routes without limits of their own.
pub(crate) fn session_policy(
    file: &ConfigFile,
    route: Option<&RouteTable>,
    sink: &mut DiagnosticSink<'_>,
) -> SessionPolicy {
    let limits = KeyScope::new(route.map(|route| &route.limits), &file.limits);
    let heartbeat = KeyScope::new(route.map(|route| &route.heartbeat), &file.heartbeat);
    let drain = KeyScope::new(route.map(|route| &route.drain), &file.drain.close);
    let client_heartbeat = heartbeat.part(|table| &table.client);
    let backend_heartbeat = heartbeat.part(|table| &table.backend);
    let from_client = limits.part(|table| &table.from_client);
    let from_backend = limits.part(|table| &table.from_backend);
    check_limits(file, route, limits.table(), sink);

    let default = SessionPolicy::default();
    let proof = heartbeat.pick(|table| &table.proof);
    let idle = limits.pick(|table| &table.idle);
    let lifetime = limits.pick(|table| &table.lifetime);
    let min_write_rate = limits.pick(|table| &table.min_write_rate).value();
    let policy = SessionPolicy {
        from_client: direction_limits(&from_client, default.from_client),
        from_backend: direction_limits(&from_backend, default.from_backend),
        strict: route.map_or(default.strict, |route| value_or(&route.strict, default.strict)),
        utf8: route.is_some_and(|route| value_or(&route.utf8, CheckUtf8(false)).0),
        heartbeat_client: heartbeat_policy(&client_heartbeat, proof, default.heartbeat_client),
        heartbeat_backend: heartbeat_policy(&backend_heartbeat, proof, default.heartbeat_backend),
        idle: value_or(idle, OrOff(default.idle)).0,
        lifetime: value_or(lifetime, OrOff(default.lifetime)).0,
        close_grace: value_or(limits.pick(|table| &table.close_grace), default.close_grace),
        write_timeout: value_or(limits.pick(|table| &table.write_timeout), default.write_timeout),
        min_write_rate: min_write_rate
            .map_or(default.min_write_rate, |rate| rate.0.map(|rate| rate.0)),
        drain_code: value_or(drain.pick(|keys| &keys.code), default.drain_code),
        drain_reason: drain
            .pick(|keys| &keys.reason)
            .value()
            .map_or(default.drain_reason, |reason| reason.0.clone()),
    };
    check_backend_timeout(file, &heartbeat, sink);
    let route = route.map(|route| &route.location);
    check_burst(&from_client, &policy, Side::Client, route, sink);
    check_burst(&from_backend, &policy, Side::Backend, route, sink);
    for timer in
        [SessionTimer::idle(idle, policy.idle), SessionTimer::lifetime(lifetime, policy.lifetime)]
    {
        timer.check_heartbeat(Side::Client, &policy, &client_heartbeat, route, sink);
        timer.check_heartbeat(Side::Backend, &policy, &backend_heartbeat, route, sink);
    }
    policy
}

fn direction_limits(keys: &KeyScope<'_, DirectionKeys>, default: Limits) -> Limits {
    let message = limit(keys.pick(|keys| &keys.message), default.message, ByteSize::get);
    // Raising the size of messages is enough for larger messages to arrive.
    let default = match default.message {
        Some(_) => {
            let Limits { fragments, message_age, .. } = Limits::for_messages(message);
            Limits { fragments, message_age, ..default }
        }
        None => default,
    };
    Limits {
        message,
        frame: limit(keys.pick(|keys| &keys.frame), default.frame, ByteSize::get),
        fragments: limit(keys.pick(|keys| &keys.fragments), default.fragments, |number| {
            u64::from(number.get())
        }),
        message_age: match keys.pick(|keys| &keys.message_age).value() {
            Some(OrOff(age)) => {
                age.as_ref().map(|age| AgeLimit { max: age.max.value, action: age.action() })
            }
            None => default.message_age,
        },
        messages: rate(keys.pick(|keys| &keys.messages), default.messages, |rate| {
            (u64::from(rate.rate.0.get()), rate.burst.map(NonZeroU64::from))
        }),
        bytes: rate(keys.pick(|keys| &keys.bytes), default.bytes, |rate| {
            (rate.rate.0.get(), rate.burst.and_then(|burst| NonZeroU64::new(burst.get())))
        }),
        control_frames: rate(
            keys.pick(|keys| &keys.control_frames),
            default.control_frames,
            |rate| (u64::from(rate.rate.0.get()), rate.burst.map(NonZeroU64::from)),
        ),
    }
}

impl<T> LimitValue<T> {
    pub(crate) fn action(&self) -> LimitAction {
        self.action.unwrap_or(LimitAction::Close)
    }
}

fn limit<T: Copy>(
    parsed: &Parsed<OrOff<LimitValue<T>>>,
    default: Option<Limit>,
    number: impl Fn(T) -> u64,
) -> Option<Limit> {
    let Some(OrOff(limit)) = parsed.value() else {
        return default;
    };
    limit.as_ref().map(|limit| Limit { max: number(limit.max.value), action: limit.action() })
}

/// Without an explicit action, a rate has the action of the default rate, or delays if there is
/// none.
fn rate<R, B>(
    parsed: &Parsed<OrOff<RateValue<R, B>>>,
    default: Option<RateLimit>,
    numbers: impl Fn(&RateValue<R, B>) -> (u64, Option<NonZeroU64>),
) -> Option<RateLimit> {
    let Some(OrOff(rate)) = parsed.value() else {
        return default;
    };
    rate.as_ref().map(|rate| {
        let action = default.map_or(LimitAction::Delay, |default| default.action);
        let (per_second, burst) = numbers(rate);
        let limit = RateLimit::new(per_second, rate.action.unwrap_or(action));
        RateLimit { burst: burst.unwrap_or(limit.burst), ..limit }
    })
}

fn heartbeat_policy(
    keys: &KeyScope<'_, HeartbeatKeys>,
    proof: &Parsed<PingProof>,
    default: Option<HeartbeatPolicy>,
) -> Option<HeartbeatPolicy> {
    let interval = default.map(|heartbeat| heartbeat.interval);
    // A heartbeat that is off by default has the other defaults of the client's heartbeat.
    let default = HeartbeatValues::default(default);
    Some(HeartbeatPolicy {
        interval: value_or(keys.pick(|keys| &keys.interval), OrOff(interval)).0?,
        timeout: value_or(keys.pick(|keys| &keys.timeout), default.client_timeout),
        proof: value_or(proof, default.proof),
    })
}

/// The heartbeat values that are listed also where the heartbeat is off: those of the top-level
/// table, then those of each route.
pub(crate) fn heartbeat_values(file: &ConfigFile) -> Vec<HeartbeatValues> {
    let default = HeartbeatValues::default(None);
    let values_of = |own: Option<&HeartbeatTable>| {
        let keys = KeyScope::new(own, &file.heartbeat);
        let timeout = |key| value_or(key, default.client_timeout);
        HeartbeatValues {
            client_timeout: timeout(keys.pick(|table| &table.client.timeout)),
            backend_timeout: timeout(keys.pick(|table| &table.backend.timeout)),
            proof: value_or(keys.pick(|table| &table.proof), default.proof),
        }
    };
    let routes = file.routes.value().into_iter().flatten();
    let own_tables = std::iter::once(None).chain(routes.map(|route| Some(&route.heartbeat)));
    own_tables.map(values_of).collect()
}

/// A pong timeout for backends requires that backends are pinged. A key set explicitly to its default
/// is always accepted.
fn check_backend_timeout(
    file: &ConfigFile,
    heartbeat: &KeyScope<'_, HeartbeatTable>,
    sink: &mut DiagnosticSink<'_>,
) {
    let Some(timeout) = heartbeat.table().backend.timeout.located() else {
        return;
    };
    let default = SessionPolicy::default().heartbeat_client.map(|default| default.timeout);
    let is_set = |interval: &Parsed<OrOff<Duration>>| !matches!(interval, Parsed::Missing);
    let mut routes = file.routes.value().into_iter().flatten();
    if is_set(heartbeat.pick(|table| &table.backend.interval))
        || Some(timeout.value) == default
        || heartbeat.is_top_level() && routes.any(|route| is_set(&route.heartbeat.backend.interval))
    {
        return;
    }
    let problem = Problem::new("backends are not pinged, so there is no pong to wait for");
    sink.report(&timeout.location, problem.help("set the interval: backend_interval = \"30s\""));
}

/// A timer that ends a tunnel and must be longer than a heartbeat.
struct SessionTimer<'f> {
    key: &'static str,
    parsed: &'f Parsed<OrOff<Duration>>,
    time: Option<Duration>,
    /// What happens when the timer fires; completes "before the tunnel ..." in the help text.
    event_text: &'static str,
}

impl<'f> SessionTimer<'f> {
    fn idle(parsed: &'f Parsed<OrOff<Duration>>, time: Option<Duration>) -> Self {
        Self { key: "limits.idle", parsed, time, event_text: "counts as idle" }
    }

    fn lifetime(parsed: &'f Parsed<OrOff<Duration>>, time: Option<Duration>) -> Self {
        Self { key: "limits.lifetime", parsed, time, event_text: "reaches its lifetime" }
    }

    /// A peer that stopped responding must be detected before the timer ends the tunnel; otherwise the
    /// heartbeat has no effect.
    fn check_heartbeat(
        &self,
        to: Side,
        policy: &SessionPolicy,
        keys: &KeyScope<'_, HeartbeatKeys>,
        route: Option<&Location>,
        sink: &mut DiagnosticSink<'_>,
    ) {
        let interval = keys.pick(|keys| &keys.interval);
        let timeout = keys.pick(|keys| &keys.timeout);
        let invalid = self.parsed.is_invalid() || interval.is_invalid() || timeout.is_invalid();
        let (Some(heartbeat), Some(time), false) = (policy.heartbeat(to), self.time, invalid)
        else {
            return;
        };
        let detection_time = heartbeat.interval.saturating_add(heartbeat.timeout);
        if detection_time < time {
            return;
        }
        let locations = [self.parsed.location(), interval.location(), timeout.location()];
        let Some(location) = first_location_in_route(route, locations) else {
            return;
        };
        let (interval_key, timeout_key) = match to {
            Side::Client => ("heartbeat.interval", "heartbeat.timeout"),
            Side::Backend => ("heartbeat.backend_interval", "heartbeat.backend_timeout"),
        };
        let (key, event_text) = (self.key, self.event_text);
        let [time, shortest] = show_in_one_unit([time, detection_time]);
        let problem = format!(
            "{key} = {time} is not longer than {interval_key} + {timeout_key} = {shortest}"
        );
        let help = format!(
            "a peer that stopped responding must be detected before the tunnel {event_text}:\n\
             set {key} to more than {shortest} or \"off\", or set {interval_key} to \"off\"",
        );
        sink.report(location, Problem::new(problem).help(help));
    }
}
