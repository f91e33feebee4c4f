//! What was written of the terms of a session: `[limits]` and `[heartbeat]`, common or of a route.

use std::num::NonZeroU32;
use std::time::Duration;

use toml::de::DeValue;
use ws::LimitAction;

use crate::config::toml::diagnostic::{KeyPath, Problem};
use crate::config::toml::findings::DiagnosticSink;
use crate::config::toml::reader::{Located, Parsed, TableReader, TomlValue};
use crate::config::values::choices::SizeLimitAction;
use crate::config::values::scalars::{OrOff, is_no_limit};
use crate::config::values::units::{ByteSize, BytesPerSecond, PerSecond};

/// `[limits]` and `[route.limits]`
pub(crate) struct LimitsTable {
    pub(crate) from_client: DirectionKeys,
    pub(crate) from_backend: DirectionKeys,
    pub(crate) idle: Parsed<OrOff<Duration>>,
    pub(crate) lifetime: Parsed<OrOff<Duration>>,
    pub(crate) close_grace: Parsed<Duration>,
    pub(crate) write_timeout: Parsed<Duration>,
    pub(crate) min_write_rate: Parsed<OrOff<BytesPerSecond>>,
}

/// The keys that end in `_from_client`, or those that end in `_from_backend`.
pub(crate) struct DirectionKeys {
    pub(crate) message: Parsed<OrOff<LimitValue<ByteSize>>>,
    pub(crate) frame: Parsed<OrOff<LimitValue<ByteSize>>>,
    pub(crate) fragments: Parsed<OrOff<LimitValue<NonZeroU32>>>,
    pub(crate) message_age: Parsed<OrOff<LimitValue<Duration>>>,
    pub(crate) messages: Parsed<OrOff<RateValue<PerSecond, NonZeroU32>>>,
    pub(crate) bytes: Parsed<OrOff<RateValue<BytesPerSecond, ByteSize>>>,
    pub(crate) control_frames: Parsed<OrOff<RateValue<PerSecond, NonZeroU32>>>,
}

/// A largest size, count or age: `"1MiB"`, or `{ max = "1MiB", action = "report" }`.
#[derive(Clone)]
pub(crate) struct LimitValue<T> {
    pub(crate) max: Located<T>,
    pub(crate) action: Option<LimitAction>,
}

/// A rate: `"50/s"`, or `{ rate = "50/s", burst = 100, action = "close" }`.
#[derive(Clone)]
pub(crate) struct RateValue<R, B> {
    pub(crate) rate: R,
    pub(crate) burst: Option<B>,
    pub(crate) action: Option<LimitAction>,
}

/// `[heartbeat]` and `[route.heartbeat]`
pub(crate) struct HeartbeatTable {
    pub(crate) client: HeartbeatKeys,
    pub(crate) backend: HeartbeatKeys,
}

/// `interval` and `timeout`, or `backend_interval` and `backend_timeout`.
pub(crate) struct HeartbeatKeys {
    pub(crate) interval: Parsed<OrOff<Duration>>,
    pub(crate) timeout: Parsed<Duration>,
}

pub(crate) fn limits(table: &mut TableReader<'_, '_, '_>) -> LimitsTable {
    LimitsTable {
        from_client: side(table, FROM_CLIENT),
        from_backend: side(table, FROM_BACKEND),
        idle: table.get("idle"),
        lifetime: table.get("lifetime"),
        close_grace: table.get("close_grace"),
        write_timeout: table.get("write_timeout"),
        min_write_rate: table.get("min_write_rate"),
    }
}

pub(crate) fn heartbeat(table: &mut TableReader<'_, '_, '_>) -> HeartbeatTable {
    HeartbeatTable {
        client: HeartbeatKeys { interval: table.get("interval"), timeout: table.get("timeout") },
        backend: HeartbeatKeys {
            interval: table.get("backend_interval"),
            timeout: table.get("backend_timeout"),
        },
    }
}

fn side(table: &mut TableReader<'_, '_, '_>, keys: [&'static str; 7]) -> DirectionKeys {
    let [message, frame, fragments, message_age, messages, bytes, control_frames] = keys;
    DirectionKeys {
        message: table.item(message, most),
        frame: table.item(frame, most),
        fragments: table.item(fragments, most),
        message_age: table.item(message_age, most),
        messages: table.item(messages, bucket),
        bytes: table.item(bytes, bucket),
        control_frames: table.item(control_frames, bucket),
    }
}

fn most<T: TomlValue>(
    findings: &mut DiagnosticSink<'_>,
    place: KeyPath,
    value: &DeValue<'_>,
) -> Parsed<OrOff<LimitValue<T>>> {
    let Some(entries) = value.as_table() else {
        let max =
            |max| LimitValue { max: Located { value: max, place: place.clone() }, action: None };
        return findings.value(place.clone(), value).map(|OrOff(short)| OrOff(short.map(max)));
    };
    let (max, action) = TableReader::read(findings, Some(entries), place.clone(), |table| {
        let max = table.get::<RequiredLimit<T>>("max");
        let max = table.require("max", "say what is still lawful, or write \"off\" alone", max);
        (max, table.get::<SizeLimitAction>("action"))
    });
    match max.map(|RequiredLimit(max)| max) {
        Parsed::Here(max) if !action.is_faulty() => {
            let action = action.value().map(|SizeLimitAction(action)| *action);
            Parsed::Here(Located { value: OrOff(Some(LimitValue { max, action })), place })
        }
        Parsed::Here(_) | Parsed::Absent | Parsed::Faulty => Parsed::Faulty,
    }
}

fn bucket<R: TomlValue + Copy, B: TomlValue + Copy>(
    findings: &mut DiagnosticSink<'_>,
    place: KeyPath,
    value: &DeValue<'_>,
) -> Parsed<OrOff<RateValue<R, B>>> {
    let Some(entries) = value.as_table() else {
        let rate = |rate| RateValue { rate, burst: None, action: None };
        return findings.value(place, value).map(|OrOff(short)| OrOff(short.map(rate)));
    };
    let (rate, burst, action) =
        TableReader::read(findings, Some(entries), place.clone(), |table| {
            let rate = table.get::<RequiredLimit<R>>("rate");
            let rate = table.require("rate", "say how much a second, or write \"off\" alone", rate);
            (rate, table.get::<B>("burst"), table.get::<LimitAction>("action"))
        });
    match rate.value() {
        Some(RequiredLimit(rate)) if !burst.is_faulty() && !action.is_faulty() => {
            let (burst, action) = (burst.value().copied(), action.value().copied());
            Parsed::Here(Located {
                value: OrOff(Some(RateValue { rate: *rate, burst, action })),
                place,
            })
        }
        Some(_) | None => Parsed::Faulty,
    }
}

/// What stands in the table of a limit: there `"off"` would be a limit that is none.
#[derive(Clone, Copy)]
struct RequiredLimit<T>(T);

impl<T: TomlValue> TomlValue for RequiredLimit<T> {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        if is_no_limit(value) {
            let wrong = Problem::new("\"off\" stands in place of the whole table");
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
    "control_frames_from_client",
];
const FROM_BACKEND: [&str; 7] = [
    "message_from_backend",
    "frame_from_backend",
    "fragments_from_backend",
    "message_age_from_backend",
    "messages_from_backend",
    "bytes_from_backend",
    "control_frames_from_backend",
];
