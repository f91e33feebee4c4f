//! What sessions are held to. What is not written is as in the core's own default.

use std::num::NonZeroU64;
use std::time::Duration;

use ws::{AgeLimit, HeartbeatPolicy, Limit, LimitAction, Limits, RateLimit, SessionPolicy, Side};

use super::scope::{KeyScope, nearest_place};
use super::unmet::{burst_for_a_message, never_met};
use crate::config::resolve::value_or;
use crate::config::schema::ConfigFile;
use crate::config::schema::limits::{
    DirectionKeys, HeartbeatKeys, HeartbeatTable, LimitValue, RateValue,
};
use crate::config::schema::route::RouteTable;
use crate::config::toml::diagnostic::{KeyPath, Problem};
use crate::config::toml::findings::DiagnosticSink;
use crate::config::toml::reader::Parsed;
use crate::config::values::scalars::OrOff;
use crate::config::values::units::{ByteSize, show_duration};
use crate::config::written::PongTimeouts;

/// What sessions are held to: on this route, or on every route that says nothing of its own.
pub(crate) fn terms(
    file: &ConfigFile,
    route: Option<&RouteTable>,
    findings: &mut DiagnosticSink<'_>,
) -> SessionPolicy {
    let limits = KeyScope::new(route.map(|route| &route.limits), &file.limits);
    let heartbeat = KeyScope::new(route.map(|route| &route.heartbeat), &file.heartbeat);
    let (to_client, to_backend) =
        (heartbeat.part(|table| &table.client), heartbeat.part(|table| &table.backend));
    let from_client = limits.part(|table| &table.from_client);
    let from_backend = limits.part(|table| &table.from_backend);
    never_met(file, route, limits.table(), findings);

    let standard = SessionPolicy::default();
    let idle = limits.pick(|table| &table.idle);
    let lifetime = limits.pick(|table| &table.lifetime);
    let trickle = limits.pick(|table| &table.min_write_rate).value();
    let terms = SessionPolicy {
        from_client: side(&from_client, standard.from_client),
        from_backend: side(&from_backend, standard.from_backend),
        strict: route.map_or(standard.strict, |route| value_or(&route.strict, standard.strict)),
        heartbeat_client: pings(&to_client, standard.heartbeat_client),
        heartbeat_backend: pings(&to_backend, standard.heartbeat_backend),
        idle: value_or(idle, OrOff(standard.idle)).0,
        lifetime: value_or(lifetime, OrOff(standard.lifetime)).0,
        close_grace: value_or(limits.pick(|table| &table.close_grace), standard.close_grace),
        write_timeout: value_or(limits.pick(|table| &table.write_timeout), standard.write_timeout),
        min_write_rate: trickle.map_or(standard.min_write_rate, |rate| rate.0.map(|rate| rate.0)),
        drain_code: value_or(&file.drain.code, standard.drain_code),
        drain_reason: file.drain.reason.value().map_or(standard.drain_reason, |r| r.0.clone()),
    };
    patience_for_something(file, &heartbeat, findings);
    let route = route.map(|route| &route.place);
    burst_for_a_message(&from_client, &terms, Side::Client, route, findings);
    burst_for_a_message(&from_backend, &terms, Side::Backend, route, findings);
    for clock in
        [SessionTimer::idle(idle, terms.idle), SessionTimer::lifetime(lifetime, terms.lifetime)]
    {
        clock.after_heartbeat(Side::Client, &terms, &to_client, route, findings);
        clock.after_heartbeat(Side::Backend, &terms, &to_backend, route, findings);
    }
    terms
}

fn side(keys: &KeyScope<'_, DirectionKeys>, standard: Limits) -> Limits {
    Limits {
        message: cap(keys.pick(|side| &side.message), standard.message, ByteSize::get),
        frame: cap(keys.pick(|side| &side.frame), standard.frame, ByteSize::get),
        fragments: cap(keys.pick(|side| &side.fragments), standard.fragments, |number| {
            u64::from(number.get())
        }),
        message_age: match keys.pick(|side| &side.message_age).value() {
            Some(OrOff(age)) => {
                age.as_ref().map(|age| AgeLimit { max: age.max.value, action: age.action() })
            }
            None => standard.message_age,
        },
        messages: rate(keys.pick(|side| &side.messages), standard.messages, |given| {
            (u64::from(given.rate.0.get()), given.burst.map(NonZeroU64::from))
        }),
        bytes: rate(keys.pick(|side| &side.bytes), standard.bytes, |given| {
            (given.rate.0.get(), given.burst.and_then(|burst| NonZeroU64::new(burst.get())))
        }),
        control_frames: rate(
            keys.pick(|side| &side.control_frames),
            standard.control_frames,
            |given| (u64::from(given.rate.0.get()), given.burst.map(NonZeroU64::from)),
        ),
    }
}

impl<T> LimitValue<T> {
    pub(crate) fn action(&self) -> LimitAction {
        self.action.unwrap_or(LimitAction::Close)
    }
}

fn cap<T: Copy>(
    given: &Parsed<OrOff<LimitValue<T>>>,
    standard: Option<Limit>,
    number: impl Fn(T) -> u64,
) -> Option<Limit> {
    match given.value() {
        Some(OrOff(most)) => {
            most.as_ref().map(|most| Limit { max: number(most.max.value), action: most.action() })
        }
        None => standard,
    }
}

/// Without an action of its own a rate has the default one's; if that is off, it delays.
fn rate<R, B>(
    given: &Parsed<OrOff<RateValue<R, B>>>,
    standard: Option<RateLimit>,
    numbers: impl Fn(&RateValue<R, B>) -> (u64, Option<NonZeroU64>),
) -> Option<RateLimit> {
    let Some(OrOff(bucket)) = given.value() else {
        return standard;
    };
    bucket.as_ref().map(|bucket| {
        let usual = standard.map_or(LimitAction::Delay, |rate| rate.action);
        let (per_second, burst) = numbers(bucket);
        let rate = RateLimit::new(per_second, bucket.action.unwrap_or(usual));
        RateLimit { burst: burst.unwrap_or(rate.burst), ..rate }
    })
}

fn pings(
    keys: &KeyScope<'_, HeartbeatKeys>,
    standard: Option<HeartbeatPolicy>,
) -> Option<HeartbeatPolicy> {
    let interval = standard.map(|heartbeat| heartbeat.interval);
    // One that is off has the timeout of the one that is not.
    let usual = standard.or(SessionPolicy::default().heartbeat_client).map(|usual| usual.timeout);
    Some(HeartbeatPolicy {
        interval: value_or(keys.pick(|keys| &keys.interval), OrOff(interval)).0?,
        timeout: keys.pick(|keys| &keys.timeout).value().copied().or(usual)?,
    })
}

/// How long pongs may take, common and of each route, whether anybody is pinged or not.
pub(crate) fn heartbeat_timeouts(file: &ConfigFile) -> Vec<PongTimeouts> {
    let usual =
        SessionPolicy::default().heartbeat_client.map_or(Duration::ZERO, |usual| usual.timeout);
    let of = |own: Option<&HeartbeatTable>| {
        let keys = KeyScope::new(own, &file.heartbeat);
        let client = value_or(keys.pick(|table| &table.client.timeout), usual);
        [client, value_or(keys.pick(|table| &table.backend.timeout), usual)]
    };
    let routes = file.routes.value().into_iter().flatten();
    std::iter::once(None).chain(routes.map(|route| Some(&route.heartbeat))).map(of).collect()
}

/// Whoever says how long a backend's pong may take means it to be pinged. The default may be
/// written anywhere.
fn patience_for_something(
    file: &ConfigFile,
    heartbeat: &KeyScope<'_, HeartbeatTable>,
    findings: &mut DiagnosticSink<'_>,
) {
    let Some(timeout) = heartbeat.table().backend.timeout.here() else {
        return;
    };
    let usual = SessionPolicy::default().heartbeat_client.map(|usual| usual.timeout);
    let said = |interval: &Parsed<OrOff<Duration>>| !matches!(interval, Parsed::Absent);
    let mut routes = file.routes.value().into_iter().flatten();
    if said(heartbeat.pick(|table| &table.backend.interval))
        || Some(timeout.value) == usual
        || heartbeat.is_common() && routes.any(|route| said(&route.heartbeat.backend.interval))
    {
        return;
    }
    let wrong = Problem::new("backends are not pinged, so that there is no pong to wait for");
    findings.fault(&timeout.place, wrong.help("say how often: backend_interval = \"30s\""));
}

/// A clock that ends a session, and that a heartbeat must come before.
struct SessionTimer<'f> {
    key: &'static str,
    given: &'f Parsed<OrOff<Duration>>,
    time: Option<Duration>,
    /// What the tunnel is, once it has run down.
    ended: &'static str,
}

impl<'f> SessionTimer<'f> {
    fn idle(given: &'f Parsed<OrOff<Duration>>, time: Option<Duration>) -> Self {
        Self { key: "limits.idle", given, time, ended: "counts as idle" }
    }

    fn lifetime(given: &'f Parsed<OrOff<Duration>>, time: Option<Duration>) -> Self {
        Self { key: "limits.lifetime", given, time, ended: "is too old" }
    }

    /// A lost peer is noticed before the clock ends the session, or the heartbeat is for nothing.
    fn after_heartbeat(
        &self,
        to: Side,
        terms: &SessionPolicy,
        keys: &KeyScope<'_, HeartbeatKeys>,
        route: Option<&KeyPath>,
        findings: &mut DiagnosticSink<'_>,
    ) {
        let interval = keys.pick(|keys| &keys.interval);
        let timeout = keys.pick(|keys| &keys.timeout);
        let faulty = self.given.is_faulty() || interval.is_faulty() || timeout.is_faulty();
        let (Some(heartbeat), Some(time), false) = (terms.heartbeat(to), self.time, faulty) else {
            return;
        };
        let noticed = heartbeat.interval.saturating_add(heartbeat.timeout);
        if noticed < time {
            return;
        }
        let places = [self.given.place(), interval.place(), timeout.place()];
        let Some(place) = nearest_place(route, places) else {
            return;
        };
        let sum = match to {
            Side::Client => "heartbeat.interval + heartbeat.timeout",
            Side::Backend => "heartbeat.backend_interval + heartbeat.backend_timeout",
        };
        let (key, shown) = (self.key, show_duration(noticed));
        let wrong = format!("{key} = {} is not longer than {sum} = {shown}", show_duration(time));
        let help = format!(
            "a lost {} should be noticed before the tunnel {}:\n\
             let it be longer than {shown}, or switch it or the interval \"off\"",
            to.as_str(),
            self.ended
        );
        findings.fault(place, Problem::new(wrong).help(help));
    }
}
