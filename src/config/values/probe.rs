//! The values of `[pool.probe]`.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use hyper::Uri;
use hyper::header::HeaderValue;
use toml::de::DeValue;

use super::choices::choice;
use super::patterns::check_request_path;
use super::scalars::whole;
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::scalar::{text, type_mismatch};
use crate::config::toml::value::TomlValue;
use crate::http::authority::Authority;
use crate::http::fields::is_token;

/// `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeChoice {
    Off,
    Tcp,
    Http,
    WebSocket,
}

impl TomlValue for ProbeChoice {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let choices = [
            ("off", Self::Off),
            ("tcp", Self::Tcp),
            ("http", Self::Http),
            ("websocket", Self::WebSocket),
        ];
        choice(value, &choices).map_err(|problem| match value.as_str() {
            Some("ws" | "wss") => problem.help("did you mean \"websocket\"?"),
            Some("https") => problem.help("did you mean \"http\"?"),
            Some(_) | None => problem,
        })
    }
}

/// A path that is requested, with an optional query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProbeTarget(pub(crate) Uri);

impl TomlValue for ProbeTarget {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "a path such as \"/healthz\"")?;
        let (path, query) = text.split_once('?').map_or((text, None), |(p, q)| (p, Some(q)));
        check_request_path(path)?;
        let is_query = query
            .is_none_or(|query| query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'));
        Uri::try_from(text).ok().filter(|_| is_query).map(Self).ok_or_else(|| {
            Problem::new(format!("\"{text}\" cannot be requested"))
                .help("write path and query, percent-encoded, such as \"/healthz?deep=1\"")
        })
    }
}

/// A value of `Host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProbeHost(pub(crate) HeaderValue);

impl TomlValue for ProbeHost {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "a host such as \"chat.example.com\"")?;
        let host = Authority::parse(text.as_bytes()).ok().and(HeaderValue::from_str(text).ok());
        host.map(Self).ok_or_else(|| {
            Problem::new(format!("\"{text}\" is not a host"))
                .help("write a name with an optional port, such as \"chat.example.com\"")
        })
    }
}

/// One status code or a class of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StatusRange(pub(crate) RangeInclusive<u16>);

impl TomlValue for StatusRange {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let expected = "a status code such as 204, or a class such as \"2xx\"";
        let code = match value.as_str() {
            Some(text) => {
                let class = text.strip_suffix("xx").and_then(|class| class.parse::<u16>().ok());
                if let Some(class @ 2..=5) = class {
                    return Ok(Self(class * 100..=class * 100 + 99));
                }
                text.parse().map_err(|_| type_mismatch(expected, value))?
            }
            None => whole(value, expected, 599)?,
        };
        match u16::try_from(code) {
            Ok(code @ 200..=599) => Ok(Self(code..=code)),
            Ok(_) | Err(_) => Err(Problem::new(format!("{code} is no status code of a response"))
                .help("write 200 to 599, or a class such as \"2xx\"")),
        }
    }
}

/// A subprotocol that is offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subprotocol(pub(crate) String);

impl TomlValue for Subprotocol {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "a subprotocol such as \"graphql-transport-ws\"")?;
        // RFC 6455 4.1: a token.
        if !is_token(text.as_bytes()) {
            let problem = Problem::new(format!("\"{text}\" is not the name of a subprotocol"));
            return Err(problem.help("write one name such as \"graphql-transport-ws\""));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The time between two probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProbeInterval(pub(crate) Duration);

impl TomlValue for ProbeInterval {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let interval = Duration::read(value)?;
        if interval < Duration::from_secs(1) {
            let problem = Problem::new("backends would be probed more than once a second");
            return Err(problem.help("the minimum is \"1s\""));
        }
        Ok(Self(interval))
    }
}

/// A number of probes in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProbeCount(pub(crate) NonZeroU32);

impl TomlValue for ProbeCount {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let number = whole(value, "a number of probes", u64::from(COUNT_MAX))?;
        let count = u32::try_from(number).ok().filter(|count| *count <= COUNT_MAX);
        count.and_then(NonZeroU32::new).map(Self).ok_or_else(|| {
            Problem::new(format!("{number} probes in a row are out of range"))
                .help(format!("write 1 to {COUNT_MAX}"))
        })
    }
}

const COUNT_MAX: u32 = 100;
