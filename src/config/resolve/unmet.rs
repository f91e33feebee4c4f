//! Limits that would never be met, since another one always is met before, and one that nobody
//! could keep.

use std::time::Duration;

use ws::{LimitAction, LimitKind, Limits, SessionPolicy, Side};

use super::scope::{KeyScope, nearest_place};
use crate::config::schema::ConfigFile;
use crate::config::schema::limits::{DirectionKeys, LimitsTable};
use crate::config::schema::route::RouteTable;
use crate::config::settings::Compression;
use crate::config::toml::diagnostic::{KeyPath, Problem};
use crate::config::toml::findings::DiagnosticSink;
use crate::config::toml::reader::{Located, Parsed};
use crate::config::values::scalars::OrOff;
use crate::config::values::units::{ByteSize, show_duration};

/// Compares the limits of one table, the common one or a route's; a common one that is void for a
/// route only gives way there.
pub(crate) fn never_met(
    file: &ConfigFile,
    route: Option<&RouteTable>,
    table: &LimitsTable,
    findings: &mut DiagnosticSink<'_>,
) {
    for (from, keys) in [(Side::Client, &table.from_client), (Side::Backend, &table.from_backend)] {
        frame_within_message(keys, from, findings);
        // After decompression a message is larger than its frames.
        if from == Side::Backend || !is_inspected(file, route) {
            message_within_frames(keys, from, findings);
        }
        age_within_lifetime(table, keys, from, findings);
    }
    grace_within_drain(file, table, findings);
}

/// A `close` rate of bytes lets a whole message come at once, or every larger one would close.
pub(crate) fn burst_for_a_message(
    keys: &KeyScope<'_, DirectionKeys>,
    terms: &SessionPolicy,
    from: Side,
    route: Option<&KeyPath>,
    findings: &mut DiagnosticSink<'_>,
) {
    let (bytes, message) = (keys.pick(|side| &side.bytes), keys.pick(|side| &side.message));
    let Limits { bytes: Some(rate), message: Some(cap), .. } = *terms.limits(from) else {
        return;
    };
    let written = bytes.place().is_some() && message.place().is_some();
    if !written || rate.action != LimitAction::Close || rate.burst.get() >= cap.max {
        return;
    }
    let Some(place) = nearest_place(route, [bytes.place(), message.place()]) else {
        return;
    };
    let size = |bytes: u64| ByteSize::new(bytes).to_string();
    let wrong = Problem::new(format!(
        "{} closes at a burst of {}, and {} = {} lets larger messages come",
        LimitKind::Bytes.key(from),
        size(rate.burst.get()),
        LimitKind::Message.key(from),
        size(cap.max)
    ));
    let help = format!(
        "every larger message would close the tunnel: write burst = \"{}\",\n\
         or action = \"delay\", which reads it slowly",
        size(cap.max.saturating_mul(2))
    );
    findings.fault(place, wrong.help(help));
}

/// No frame is larger than its message, so that a larger limit for it would never be met.
fn frame_within_message(keys: &DirectionKeys, from: Side, findings: &mut DiagnosticSink<'_>) {
    let (Some(frame), Some(message)) = (set(&keys.frame), set(&keys.message)) else {
        return;
    };
    // A message that is only reported may have a frame that is too much.
    if frame.max.value <= message.max.value || message.action() != LimitAction::Close {
        return;
    }
    let (frame_key, message_key) = (LimitKind::Frame.key(from), LimitKind::Message.key(from));
    let wrong = Problem::new(format!(
        "{frame_key} = {} is more than {message_key} = {}",
        frame.max.value, message.max.value
    ));
    let help = format!(
        "no frame is larger than its message: write at most \"{}\", or leave one of them out",
        message.max.value
    );
    findings.fault(&frame.max.place, wrong.help(help));
}

/// As many frames as may be, each as large as may be, are a message that may be.
fn message_within_frames(keys: &DirectionKeys, from: Side, findings: &mut DiagnosticSink<'_>) {
    let (Some(message), Some(frame), Some(fragments)) =
        (set(&keys.message), set(&keys.frame), set(&keys.fragments))
    else {
        return;
    };
    let number = fragments.max.value.get();
    let most = ByteSize::new(frame.max.value.get().saturating_mul(u64::from(number)));
    // What is only reported passes.
    let closed = [frame.action(), fragments.action()] == [LimitAction::Close; 2];
    if most >= message.max.value || !closed {
        return;
    }
    let wrong = Problem::new(format!(
        "{} = {} is never met: {} = {number} and {} = {} are {most} at most",
        LimitKind::Message.key(from),
        message.max.value,
        LimitKind::Fragments.key(from),
        LimitKind::Frame.key(from),
        frame.max.value,
    ));
    let help = format!("write at most \"{most}\", or raise one of the other two");
    findings.fault(&message.max.place, wrong.help(help));
}

/// No message is older than its tunnel.
fn age_within_lifetime(
    table: &LimitsTable,
    keys: &DirectionKeys,
    from: Side,
    findings: &mut DiagnosticSink<'_>,
) {
    let (Some(age), Some(lifetime)) = (set(&keys.message_age), set(&table.lifetime)) else {
        return;
    };
    let Located { value, place } = &age.max;
    longer(
        (LimitKind::MessageAge.key(from), place, *value),
        ("limits.lifetime", *lifetime),
        findings,
    );
}

/// Whoever waits for an answer to a Close while tidegate leaves is cut at the deadline.
fn grace_within_drain(file: &ConfigFile, table: &LimitsTable, findings: &mut DiagnosticSink<'_>) {
    let (Some(Located { value, place }), Some(deadline)) =
        (table.close_grace.here(), file.drain.deadline.value())
    else {
        return;
    };
    longer(("limits.close_grace", place, *value), ("drain.deadline", *deadline), findings);
}

fn longer(
    (key, place, time): (&str, &KeyPath, Duration),
    (end_key, end): (&str, Duration),
    findings: &mut DiagnosticSink<'_>,
) {
    if time <= end {
        return;
    }
    let (time, end) = (show_duration(time), show_duration(end));
    let wrong = Problem::new(format!("{key} = {time} is longer than {end_key} = {end}"));
    let help = format!("the tunnel is over by then: write at most \"{end}\", or raise {end_key}");
    findings.fault(place, wrong.help(help));
}

/// Whether clients' messages are looked at after decompression: on this route, or on any.
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

fn set<T>(given: &Parsed<OrOff<T>>) -> Option<&T> {
    given.value().and_then(|OrOff(limit)| limit.as_ref())
}
