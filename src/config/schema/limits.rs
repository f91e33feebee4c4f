//! The tables `[limits]` and `[heartbeat]`, at the top level or of a route.

use std::num::NonZeroU32;
use std::time::Duration;

use toml::de::DeValue;
use ws::{LimitAction, PingProof};

use crate::config::toml::diagnostic::{Location, Problem};
use crate::config::toml::reader::TableReader;
use crate::config::toml::sink::DiagnosticSink;
use crate::config::toml::value::{Located, Parsed, TomlValue};
use crate::config::values::choices::SizeLimitAction;
use crate::config::values::scalars::{OrOff, means_unlimited};
use crate::config::values::units::{ByteSize, BytesPerSecond, PerSecond};

/// The table `[limits]` or `[route.limits]`.
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

/// A maximum size, count or age: `"1MiB"`, or `{ max = "1MiB", action = "report" }`.
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

/// The table `[heartbeat]` or `[route.heartbeat]`.
pub(crate) struct HeartbeatTable {
    pub(crate) client: HeartbeatKeys,
    pub(crate) backend: HeartbeatKeys,
    pub(crate) proof: Parsed<PingProof>,
}

/// `interval` and `timeout`, or `backend_interval` and `backend_timeout`.
pub(crate) struct HeartbeatKeys {
    pub(crate) interval: Parsed<OrOff<Duration>>,
    pub(crate) timeout: Parsed<Duration>,
}

pub(crate) fn limits(table: &mut TableReader<'_, '_, '_>) -> LimitsTable {
    LimitsTable {
        from_client: direction(table, FROM_CLIENT),
        from_backend: direction(table, FROM_BACKEND),
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
        proof: table.get("proof"),
    }
}

fn direction(table: &mut TableReader<'_, '_, '_>, keys: [&'static str; 7]) -> DirectionKeys {
    let [message, frame, fragments, message_age, messages, bytes, control_frames] = keys;
    DirectionKeys {
        message: table.get_with(message, limit),
        frame: table.get_with(frame, limit),
        fragments: table.get_with(fragments, limit),
        message_age: table.get_with(message_age, limit),
        messages: table.get_with(messages, rate),
        bytes: table.get_with(bytes, rate),
        control_frames: table.get_with(control_frames, rate),
    }
}

fn limit<T: TomlValue>(
    sink: &mut DiagnosticSink<'_>,
    location: Location,
    value: &DeValue<'_>,
) -> Parsed<OrOff<LimitValue<T>>> {
    let Some(entries) = value.as_table() else {
        let max = |max| LimitValue {
            max: Located { value: max, location: location.clone() },
            action: None,
        };
        return sink.value(location.clone(), value).map(|OrOff(value)| OrOff(value.map(max)));
    };
    let (max, action) = TableReader::read(sink, Some(entries), location.clone(), |table| {
        let max = table.get::<RequiredLimit<T>>("max");
        let max = table.require("max", "write the maximum, or \"off\" instead of the table", max);
        (max, table.get::<SizeLimitAction>("action"))
    });
    match max.map(|RequiredLimit(max)| max) {
        Parsed::Valid(max) if !action.is_invalid() => {
            let action = action.value().map(|SizeLimitAction(action)| *action);
            Parsed::Valid(Located { value: OrOff(Some(LimitValue { max, action })), location })
        }
        Parsed::Valid(_) | Parsed::Missing | Parsed::Invalid => Parsed::Invalid,
    }
}

fn rate<R: TomlValue + Copy, B: TomlValue + Copy>(
    sink: &mut DiagnosticSink<'_>,
    location: Location,
    value: &DeValue<'_>,
) -> Parsed<OrOff<RateValue<R, B>>> {
    let Some(entries) = value.as_table() else {
        let rate = |rate| RateValue { rate, burst: None, action: None };
        return sink.value(location, value).map(|OrOff(value)| OrOff(value.map(rate)));
    };
    let (rate, burst, action) = TableReader::read(sink, Some(entries), location.clone(), |table| {
        let rate = table.get::<RequiredLimit<R>>("rate");
        let rate = table.require(
            "rate",
            "write the rate per second, or \"off\" instead of the table",
            rate,
        );
        (rate, table.get::<B>("burst"), table.get::<LimitAction>("action"))
    });
    match rate.value() {
        Some(RequiredLimit(rate)) if !burst.is_invalid() && !action.is_invalid() => {
            let (burst, action) = (burst.value().copied(), action.value().copied());
            Parsed::Valid(Located {
                value: OrOff(Some(RateValue { rate: *rate, burst, action })),
                location,
            })
        }
        Some(_) | None => Parsed::Invalid,
    }
}

/// A value inside the table of a limit, where `"off"` is not allowed.
#[derive(Clone, Copy)]
struct RequiredLimit<T>(T);

impl<T: TomlValue> TomlValue for RequiredLimit<T> {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        if means_unlimited(value) {
            let problem = Problem::new("\"off\" is not allowed inside a table");
            return Err(
                problem.help("to turn the limit off, write \"off\" in place of the whole table")
            );
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
