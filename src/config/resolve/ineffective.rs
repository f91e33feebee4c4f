//! Limits that can never be reached because another limit always applies first, and a rate that no
//! message within the limits could satisfy.

use std::time::Duration;

use ws::{LimitAction, LimitKind, Limits, SessionPolicy, Side};

use super::scope::{KeyScope, first_location_in_route};
use crate::config::schema::ConfigFile;
use crate::config::schema::limits::{DirectionKeys, LimitsTable};
use crate::config::schema::route::RouteTable;
use crate::config::settings::Compression;
use crate::config::toml::diagnostic::{Location, Problem};
use crate::config::toml::sink::DiagnosticSink;
use crate::config::toml::value::{Located, Parsed};
use crate::config::values::scalars::OrOff;
use crate::config::values::units::{ByteSize, show_in_one_unit};

/// Checks the limits of one table, the top-level one or that of a route. A top-level limit that is
/// ineffective on one route only is accepted.
pub(crate) fn check_limits(
    file: &ConfigFile,
    route: Option<&RouteTable>,
    table: &LimitsTable,
    sink: &mut DiagnosticSink<'_>,
) {
    for (from, keys) in [(Side::Client, &table.from_client), (Side::Backend, &table.from_backend)] {
        frame_within_message(keys, from, sink);
        // A decompressed message may be larger than its frames.
        if !is_inspected(file, route) {
            message_within_frames(keys, from, sink);
        }
        age_within_lifetime(table, keys, from, sink);
    }
    grace_within_drain(file, table, sink);
}

/// A byte rate with the action `close` must allow a whole message at once; otherwise every larger
/// message would close the tunnel.
pub(crate) fn check_burst(
    keys: &KeyScope<'_, DirectionKeys>,
    policy: &SessionPolicy,
    from: Side,
    route: Option<&Location>,
    sink: &mut DiagnosticSink<'_>,
) {
    let (bytes, message) = (keys.pick(|keys| &keys.bytes), keys.pick(|keys| &keys.message));
    let Limits { bytes: Some(rate), message: Some(max), .. } = *policy.limits(from) else {
        return;
    };
    let written = bytes.location().is_some() && message.location().is_some();
    if !written || rate.action != LimitAction::Close || rate.burst.get() >= max.max {
        return;
    }
    let Some(location) = first_location_in_route(route, [bytes.location(), message.location()])
    else {
        return;
    };
    let size = |bytes: u64| ByteSize::new(bytes).to_string();
    let problem = Problem::new(format!(
        "{} closes the tunnel after a burst of {}, but {} = {} allows larger messages",
        LimitKind::Bytes.key(from),
        size(rate.burst.get()),
        LimitKind::Message.key(from),
        size(max.max)
    ));
    let help = format!(
        "every larger message would close the tunnel: write burst = \"{}\",\n\
         or action = \"delay\", which slows reading down",
        size(max.max.saturating_mul(2))
    );
    sink.report(location, problem.help(help));
}

/// No frame is larger than its message, so a larger frame limit could never be reached.
fn frame_within_message(keys: &DirectionKeys, from: Side, sink: &mut DiagnosticSink<'_>) {
    let (Some(frame), Some(message)) = (enabled(&keys.frame), enabled(&keys.message)) else {
        return;
    };
    // A message over a limit that only reports may have a frame over the frame limit.
    if frame.max.value <= message.max.value || message.action() != LimitAction::Close {
        return;
    }
    let (frame_key, message_key) = (LimitKind::Frame.key(from), LimitKind::Message.key(from));
    let problem = Problem::new(format!(
        "{frame_key} = {} is more than {message_key} = {}",
        frame.max.value, message.max.value
    ));
    let help = format!(
        "no frame is larger than its message: write at most \"{}\", or remove one of them",
        message.max.value
    );
    sink.report(&frame.max.location, problem.help(help));
}

/// The maximum number of fragments of maximum size must add up to at least the message limit.
fn message_within_frames(keys: &DirectionKeys, from: Side, sink: &mut DiagnosticSink<'_>) {
    let (Some(message), Some(frame), Some(fragments)) =
        (enabled(&keys.message), enabled(&keys.frame), enabled(&keys.fragments))
    else {
        return;
    };
    let number = fragments.max.value.get();
    let most = ByteSize::new(frame.max.value.get().saturating_mul(u64::from(number)));
    // Limits that only report do not stop a larger message.
    let closed = [frame.action(), fragments.action()] == [LimitAction::Close; 2];
    if most >= message.max.value || !closed {
        return;
    }
    let (message_key, size) = (LimitKind::Message.key(from), message.max.value);
    let (fragments_key, frame_key) = (LimitKind::Fragments.key(from), LimitKind::Frame.key(from));
    let problem = Problem::new(format!(
        "{message_key} = {size} can never be reached: {fragments_key} = {number} and \
         {frame_key} = {} allow at most {most}",
        frame.max.value,
    ));
    let help = format!("write at most \"{most}\", or raise {fragments_key} or {frame_key}");
    sink.report(&message.max.location, problem.help(help));
}

/// No message lasts longer than its tunnel.
fn age_within_lifetime(
    table: &LimitsTable,
    keys: &DirectionKeys,
    from: Side,
    sink: &mut DiagnosticSink<'_>,
) {
    let (Some(age), Some(lifetime)) = (enabled(&keys.message_age), enabled(&table.lifetime)) else {
        return;
    };
    let Located { value, location } = &age.max;
    check_not_longer(
        (LimitKind::MessageAge.key(from), location, *value),
        ("limits.lifetime", *lifetime),
        sink,
    );
}

/// In a drain, tunnels that wait for the answer to a Close are aborted at the deadline.
fn grace_within_drain(file: &ConfigFile, table: &LimitsTable, sink: &mut DiagnosticSink<'_>) {
    let (Some(Located { value, location }), Some(deadline)) =
        (table.close_grace.located(), file.drain.deadline.value())
    else {
        return;
    };
    check_not_longer(("limits.close_grace", location, *value), ("drain.deadline", *deadline), sink);
}

fn check_not_longer(
    (key, location, time): (&str, &Location, Duration),
    (end_key, end): (&str, Duration),
    sink: &mut DiagnosticSink<'_>,
) {
    if time <= end {
        return;
    }
    let [time, end] = show_in_one_unit([time, end]);
    let problem = Problem::new(format!("{key} = {time} is longer than {end_key} = {end}"));
    let help = format!("the tunnel has ended by then: write at most \"{end}\", or raise {end_key}");
    sink.report(location, problem.help(help));
}

/// Whether the decompressed size of messages is limited, on this route or, with `None`, on any.
fn is_inspected(file: &ConfigFile, route: Option<&RouteTable>) -> bool {
    let inspects = |route: &RouteTable| match route.compression.value() {
        Some(Compression::Strip | Compression::Pass) => false,
        Some(Compression::Inspect) | None => true,
    };
    match route {
        Some(route) => inspects(route),
        None => file.routes.value().into_iter().flatten().any(inspects),
    }
}

fn enabled<T>(parsed: &Parsed<OrOff<T>>) -> Option<&T> {
    parsed.value().and_then(|OrOff(limit)| limit.as_ref())
}
