//! What was written of the terms of a session: `[limits]` and `[heartbeat]`, common or of a route.

use std::num::NonZeroU32;
use std::time::Duration;

use toml::de::DeValue;
use ws::Action;

use crate::config::toml::diagnostic::{Complaint, Place};
use crate::config::toml::findings::Findings;
use crate::config::toml::reader::{At, Given, Table, Value};
use crate::config::values::choices::CapAction;
use crate::config::values::scalars::{OrOff, is_no_limit};
use crate::config::values::units::{ByteSize, BytesPerSecond, PerSecond};

/// `[limits]` and `[route.limits]`
pub(crate) struct LimitsTable {
    pub(crate) from_client: SideKeys,
    pub(crate) from_backend: SideKeys,
    pub(crate) idle: Given<OrOff<Duration>>,
    pub(crate) lifetime: Given<OrOff<Duration>>,
    pub(crate) close_grace: Given<Duration>,
    pub(crate) write_stall: Given<Duration>,
    pub(crate) write_trickle: Given<OrOff<BytesPerSecond>>,
}

/// The keys that end in `_from_client`, or those that end in `_from_backend`.
pub(crate) struct SideKeys {
    pub(crate) message: Given<OrOff<Most<ByteSize>>>,
    pub(crate) frame: Given<OrOff<Most<ByteSize>>>,
    pub(crate) fragments: Given<OrOff<Most<NonZeroU32>>>,
    pub(crate) message_age: Given<OrOff<Most<Duration>>>,
    pub(crate) messages: Given<OrOff<Bucket<PerSecond, NonZeroU32>>>,
    pub(crate) bytes: Given<OrOff<Bucket<BytesPerSecond, ByteSize>>>,
    pub(crate) controls: Given<OrOff<Bucket<PerSecond, NonZeroU32>>>,
}

/// A largest size, count or age: `"1MiB"`, or `{ max = "1MiB", action = "report" }`.
#[derive(Clone)]
pub(crate) struct Most<T> {
    pub(crate) max: At<T>,
    pub(crate) action: Option<Action>,
}

/// A rate: `"50/s"`, or `{ rate = "50/s", burst = 100, action = "close" }`.
#[derive(Clone)]
pub(crate) struct Bucket<R, B> {
    pub(crate) rate: R,
    pub(crate) burst: Option<B>,
    pub(crate) action: Option<Action>,
}

/// `[heartbeat]` and `[route.heartbeat]`
pub(crate) struct HeartbeatTable {
    pub(crate) client: HeartbeatKeys,
    pub(crate) backend: HeartbeatKeys,
}

/// `interval` and `patience`, or `backend_interval` and `backend_patience`.
pub(crate) struct HeartbeatKeys {
    pub(crate) interval: Given<OrOff<Duration>>,
    pub(crate) patience: Given<Duration>,
}

pub(crate) fn limits(table: &mut Table<'_, '_, '_>) -> LimitsTable {
    LimitsTable {
        from_client: side(table, FROM_CLIENT),
        from_backend: side(table, FROM_BACKEND),
        idle: table.get("idle"),
        lifetime: table.get("lifetime"),
        close_grace: table.get("close_grace"),
        write_stall: table.get("write_stall"),
        write_trickle: table.get("write_trickle"),
    }
}

pub(crate) fn heartbeat(table: &mut Table<'_, '_, '_>) -> HeartbeatTable {
    HeartbeatTable {
        client: HeartbeatKeys { interval: table.get("interval"), patience: table.get("patience") },
        backend: HeartbeatKeys {
            interval: table.get("backend_interval"),
            patience: table.get("backend_patience"),
        },
    }
}

fn side(table: &mut Table<'_, '_, '_>, keys: [&'static str; 7]) -> SideKeys {
    let [message, frame, fragments, message_age, messages, bytes, controls] = keys;
    SideKeys {
        message: table.item(message, most),
        frame: table.item(frame, most),
        fragments: table.item(fragments, most),
        message_age: table.item(message_age, most),
        messages: table.item(messages, bucket),
        bytes: table.item(bytes, bucket),
        controls: table.item(controls, bucket),
    }
}

fn most<T: Value>(
    findings: &mut Findings<'_>,
    place: Place,
    value: &DeValue<'_>,
) -> Given<OrOff<Most<T>>> {
    let Some(entries) = value.as_table() else {
        let max = |max| Most { max: At { value: max, place: place.clone() }, action: None };
        return findings.value(place.clone(), value).map(|OrOff(short)| OrOff(short.map(max)));
    };
    let (max, action) = Table::read(findings, Some(entries), place.clone(), |table| {
        let max = table.get::<OrNever<T>>("max");
        let max = table.require("max", "say what is still lawful, or write \"off\" alone", max);
        (max, table.get::<CapAction>("action"))
    });
    match max.map(|OrNever(max)| max) {
        Given::Here(max) if !action.is_faulty() => {
            let action = action.value().map(|CapAction(action)| *action);
            Given::Here(At { value: OrOff(Some(Most { max, action })), place })
        }
        Given::Here(_) | Given::Absent | Given::Faulty => Given::Faulty,
    }
}

fn bucket<R: Value + Copy, B: Value + Copy>(
    findings: &mut Findings<'_>,
    place: Place,
    value: &DeValue<'_>,
) -> Given<OrOff<Bucket<R, B>>> {
    let Some(entries) = value.as_table() else {
        let rate = |rate| Bucket { rate, burst: None, action: None };
        return findings.value(place, value).map(|OrOff(short)| OrOff(short.map(rate)));
    };
    let (rate, burst, action) = Table::read(findings, Some(entries), place.clone(), |table| {
        let rate = table.get::<OrNever<R>>("rate");
        let rate = table.require("rate", "say how much a second, or write \"off\" alone", rate);
        (rate, table.get::<B>("burst"), table.get::<Action>("action"))
    });
    match rate.value() {
        Some(OrNever(rate)) if !burst.is_faulty() && !action.is_faulty() => {
            let (burst, action) = (burst.value().copied(), action.value().copied());
            Given::Here(At { value: OrOff(Some(Bucket { rate: *rate, burst, action })), place })
        }
        Some(_) | None => Given::Faulty,
    }
}

/// What stands in the table of a limit: there `"off"` would be a limit that is none.
#[derive(Clone, Copy)]
struct OrNever<T>(T);

impl<T: Value> Value for OrNever<T> {
    fn read(value: &DeValue<'_>) -> Result<Self, Complaint> {
        if is_no_limit(value) {
            let wrong = Complaint::new("\"off\" stands in place of the whole table");
            return Err(wrong.help("write \"off\" without the braces and what is in them"));
        }
        T::read(value).map(Self)
    }
}

const FROM_CLIENT: [&str; 7] = [
    "message_from_client",
    "frame_from_client",
    "fragments_from_client",
    "message_age_from_client",
    "messages_from_client",
    "bytes_from_client",
    "controls_from_client",
];
const FROM_BACKEND: [&str; 7] = [
    "message_from_backend",
    "frame_from_backend",
    "fragments_from_backend",
    "message_age_from_backend",
    "messages_from_backend",
    "bytes_from_backend",
    "controls_from_backend",
];
