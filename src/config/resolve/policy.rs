//! The session policy: limits and timers. Missing keys have the defaults of [`SessionPolicy`].

use std::num::NonZeroU64;
use std::time::Duration;

use ws::{
    AgeLimit, HeartbeatPolicy, Limit, LimitAction, Limits, PingProof, RateLimit, SessionPolicy,
    Side,
};

use super::defaults::value_or;
use super::ineffective::{check_burst, check_limits};
use super::scope::{KeyScope, nearest_place};
use crate::config::schema::ConfigFile;
use crate::config::schema::limits::{
    DirectionKeys, HeartbeatKeys, HeartbeatTable, LimitValue, RateValue,
};
use crate::config::schema::route::RouteTable;
use crate::config::source_map::HeartbeatValues;
use crate::config::toml::diagnostic::{Location, Problem};
use crate::config::toml::sink::DiagnosticSink;
use crate::config::toml::value::Parsed;
use crate::config::values::scalars::OrOff;
use crate::config::values::units::{ByteSize, show_duration};

/// The session policy of a route, or with `None` that of routes without limits of their own.
pub(crate) fn session_policy(
    file: &ConfigFile,
    route: Option<&RouteTable>,
    sink: &mut DiagnosticSink<'_>,
) -> SessionPolicy {
    let limits = KeyScope::new(route.map(|route| &route.limits), &file.limits);
    let heartbeat = KeyScope::new(route.map(|route| &route.heartbeat), &file.heartbeat);
    let drain = KeyScope::new(route.map(|route| &route.drain), &file.drain.close);
    let (to_client, to_backend) =
        (heartbeat.part(|table| &table.client), heartbeat.part(|table| &table.backend));
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
        heartbeat_client: heartbeat_policy(&to_client, proof, default.heartbeat_client),
        heartbeat_backend: heartbeat_policy(&to_backend, proof, default.heartbeat_backend),
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
        timer.check_heartbeat(Side::Client, &policy, &to_client, route, sink);
        timer.check_heartbeat(Side::Backend, &policy, &to_backend, route, sink);
    }
    policy
}

fn direction_limits(keys: &KeyScope<'_, DirectionKeys>, default: Limits) -> Limits {
    let message = limit(keys.pick(|side| &side.message), default.message, ByteSize::get);
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
        frame: limit(keys.pick(|side| &side.frame), default.frame, ByteSize::get),
        fragments: limit(keys.pick(|side| &side.fragments), default.fragments, |number| {
            u64::from(number.get())
        }),
        message_age: match keys.pick(|side| &side.message_age).value() {
            Some(OrOff(age)) => {
                age.as_ref().map(|age| AgeLimit { max: age.max.value, action: age.action() })
            }
            None => default.message_age,
        },
        messages: rate(keys.pick(|side| &side.messages), default.messages, |given| {
            (u64::from(given.rate.0.get()), given.burst.map(NonZeroU64::from))
        }),
        bytes: rate(keys.pick(|side| &side.bytes), default.bytes, |given| {
            (given.rate.0.get(), given.burst.and_then(|burst| NonZeroU64::new(burst.get())))
        }),
        control_frames: rate(
            keys.pick(|side| &side.control_frames),
            default.control_frames,
            |given| (u64::from(given.rate.0.get()), given.burst.map(NonZeroU64::from)),
        ),
    }
}

impl<T> LimitValue<T> {
    pub(crate) fn action(&self) -> LimitAction {
        self.action.unwrap_or(LimitAction::Close)
    }
}

fn limit<T: Copy>(
    given: &Parsed<OrOff<LimitValue<T>>>,
    default: Option<Limit>,
    number: impl Fn(T) -> u64,
) -> Option<Limit> {
    match given.value() {
        Some(OrOff(most)) => {
            most.as_ref().map(|most| Limit { max: number(most.max.value), action: most.action() })
        }
        None => default,
    }
}

/// Without an explicit action, a rate has the action of the default rate, or delays if there is
/// none.
fn rate<R, B>(
    given: &Parsed<OrOff<RateValue<R, B>>>,
    default: Option<RateLimit>,
    numbers: impl Fn(&RateValue<R, B>) -> (u64, Option<NonZeroU64>),
) -> Option<RateLimit> {
    let Some(OrOff(bucket)) = given.value() else {
        return default;
    };
    bucket.as_ref().map(|bucket| {
        let action = default.map_or(LimitAction::Delay, |rate| rate.action);
        let (per_second, burst) = numbers(bucket);
        let rate = RateLimit::new(per_second, bucket.action.unwrap_or(action));
        RateLimit { burst: burst.unwrap_or(rate.burst), ..rate }
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

/// The heartbeat values that are listed also where the heartbeat is off: common ones, then those of
/// each route.
pub(crate) fn heartbeat_values(file: &ConfigFile) -> Vec<HeartbeatValues> {
    let default = HeartbeatValues::default(None);
    let of = |own: Option<&HeartbeatTable>| {
        let keys = KeyScope::new(own, &file.heartbeat);
        let timeout = |key| value_or(key, default.client_timeout);
        HeartbeatValues {
            client_timeout: timeout(keys.pick(|table| &table.client.timeout)),
            backend_timeout: timeout(keys.pick(|table| &table.backend.timeout)),
            proof: value_or(keys.pick(|table| &table.proof), default.proof),
        }
    };
    let routes = file.routes.value().into_iter().flatten();
    std::iter::once(None).chain(routes.map(|route| Some(&route.heartbeat))).map(of).collect()
}

/// A pong timeout for backends requires that backends are pinged. Writing the default is always
/// allowed.
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
        || heartbeat.is_common() && routes.any(|route| is_set(&route.heartbeat.backend.interval))
    {
        return;
    }
    let problem = Problem::new("backends are not pinged, so there is no pong to wait for");
    sink.report(&timeout.location, problem.help("set the interval: backend_interval = \"30s\""));
}

/// A timer that ends a session and must be longer than a heartbeat.
struct SessionTimer<'f> {
    key: &'static str,
    given: &'f Parsed<OrOff<Duration>>,
    time: Option<Duration>,
    /// Completes "before the tunnel ..." in the help text.
    ended: &'static str,
}

impl<'f> SessionTimer<'f> {
    fn idle(given: &'f Parsed<OrOff<Duration>>, time: Option<Duration>) -> Self {
        Self { key: "limits.idle", given, time, ended: "counts as idle" }
    }

    fn lifetime(given: &'f Parsed<OrOff<Duration>>, time: Option<Duration>) -> Self {
        Self { key: "limits.lifetime", given, time, ended: "reaches its lifetime" }
    }

    /// A lost peer must be detected before the timer ends the session; otherwise the heartbeat has
    /// no effect.
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
        let invalid = self.given.is_invalid() || interval.is_invalid() || timeout.is_invalid();
        let (Some(heartbeat), Some(time), false) = (policy.heartbeat(to), self.time, invalid)
        else {
            return;
        };
        let detected = heartbeat.interval.saturating_add(heartbeat.timeout);
        if detected < time {
            return;
        }
        let locations = [self.given.location(), interval.location(), timeout.location()];
        let Some(location) = nearest_place(route, locations) else {
            return;
        };
        let sum = match to {
            Side::Client => "heartbeat.interval + heartbeat.timeout",
            Side::Backend => "heartbeat.backend_interval + heartbeat.backend_timeout",
        };
        let (key, shown) = (self.key, show_duration(detected));
        let problem = format!("{key} = {} is not longer than {sum} = {shown}", show_duration(time));
        let help = format!(
            "a lost {} should be detected before the tunnel {}:\n\
             write more than {shown}, or set it or the interval to \"off\"",
            to.as_str(),
            self.ended
        );
        sink.report(location, Problem::new(problem).help(help));
    }
}
