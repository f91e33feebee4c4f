//! What `tidegate ctl` asks and a running tidegate answers, over a Unix socket. The client sends one
//! [`ControlRequest`](crate::protocol::Request) as a line of JSON; each line of the reply is an
//! [`Response`](self::answer::Answer), and the reply ends with the connection. Names stay as they are:
//! scripts read them.

pub mod answer;

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum ControlRequest {
    /// How it is: what `/status.json` says.
    Status,
    /// The open tunnels: [`Sessions`].
    Sessions {
        /// Which.
        #[serde(rename = "selection")]
        of: Selection,
    },
    /// One tunnel: [`SessionDetail`].
    Session {
        /// Its number.
        session: u64,
    },
    /// Closes tunnels at once: [`KillResult`].
    Kill {
        /// Which; everything only with `all`.
        #[serde(rename = "selection")]
        of: Selection,
        /// Everything is really meant.
        all: bool,
        /// What they are told; by default 1008.
        #[serde(rename = "close")]
        words: CloseRequest,
    },
    /// Closes tunnels one by one, and keeps new ones away from a backend, a route or, with `all`,
    /// from everything: [`Drained`], once it is over if `wait`, at once if not.
    Drain {
        /// Which.
        #[serde(rename = "selection")]
        of: Selection,
        /// Everything is really meant.
        all: bool,
        /// How fast; by default as in `[drain]`.
        #[serde(rename = "pacing")]
        pace: DrainPacing,
        /// What they are told; by default as in `[drain]`.
        #[serde(rename = "close")]
        words: CloseRequest,
        /// Answer when it is over.
        wait: bool,
    },
    /// Lets new tunnels in again where a drain kept them away: [`DrainScope`].
    Undrain {
        /// Where.
        #[serde(rename = "scope")]
        place: DrainScope,
    },
    /// Another share of the clients for a backend, until the file says otherwise: [`Weighed`].
    Weight {
        /// Its id.
        backend: String,
        /// Of one route only.
        route: Option<String>,
        /// `None`: as in the file.
        weight: Option<u32>,
    },
    /// The headers of frames as they pass: a [`Frame`] each, until the tunnel ends.
    Tail {
        /// Number of the tunnel.
        session: u64,
    },
    /// What would happen to a handshake: [`Explained`].
    Explain {
        /// `wss://chat.example.com/ws`
        url: String,
        /// Its `Origin`.
        origin: Option<String>,
        /// Whom it is from, an IP address.
        address: Option<String>,
    },
    /// Reads the configuration again: [`Reloaded`].
    Reload,
    /// What a reload would change: [`Reloaded`], with the generation in force.
    Diff {
        /// Path of the file the text is from; certificates are looked for beside it.
        path: String,
        /// The whole file.
        text: String,
    },
    /// The configuration in force: [`Effective`].
    Config,
    /// How much is logged: [`LogLevel`].
    LogLevel {
        /// `None`: only tell.
        level: Option<String>,
    },
}

impl ControlRequest {
    /// What it changes, for the log; `None`: nothing.
    pub fn order(&self) -> Option<String> {
        let share =
            |weight: &Option<u32>| weight.map_or("as in the file".into(), |w| w.to_string());
        Some(match self {
            Self::Kill { of, words, .. } => format!("kill {of}{words}"),
            Self::Drain { of, words, .. } => format!("drain {of}{words}"),
            Self::Undrain { place } => format!("undrain {place}"),
            Self::Weight { backend, route, weight } => {
                let route = route.as_ref().map(|route| format!(" of route {route}"));
                format!(
                    "weight of backend {backend}{}: {}",
                    route.unwrap_or_default(),
                    share(weight)
                )
            }
            Self::Reload => "reload".to_owned(),
            Self::LogLevel { level: Some(level) } => format!("log level {level}"),
            Self::Status
            | Self::Sessions { .. }
            | Self::Session { .. }
            | Self::Tail { .. }
            | Self::Explain { .. }
            | Self::Diff { .. }
            | Self::Config
            | Self::LogLevel { level: None } => return None,
        })
    }
}

/// Some of the open tunnels: those to which all that is given applies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// By number; empty: any.
    pub sessions: Vec<u64>,
    /// Of one client, as its key is written: `192.0.2.1`, `2001:db8::/64`; an address will do.
    pub client: Option<String>,
    /// Of one route.
    pub route: Option<String>,
    /// To one backend.
    pub backend: Option<String>,
    /// Older than so many milliseconds.
    pub older_ms: Option<u64>,
}

impl Selection {
    /// Whether it is everything, a route, or a backend as a whole: a drain keeps new tunnels away
    /// from these alone. One client's tunnels, old ones, or some by number may come back.
    pub fn is_place(&self) -> bool {
        self.sessions.is_empty() && self.client.is_none() && self.older_ms.is_none()
    }
}

/// For people: `route chat, older than 3600000 ms`.
impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> =
            self.sessions.iter().take(NAMED_MAX).map(u64::to_string).collect();
        let more = if self.sessions.len() > NAMED_MAX { " ..." } else { "" };
        let named =
            |what: &str, name: &Option<String>| name.as_ref().map(|name| format!("{what} {name}"));
        let parts = [
            (!numbers.is_empty()).then(|| format!("session {}{more}", numbers.join(" "))),
            named("client", &self.client),
            named("route", &self.route),
            named("backend", &self.backend),
            self.older_ms.map(|older| format!("older than {older} ms")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(if parts.is_empty() { "everything" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

/// What a closed tunnel's client is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CloseRequest {
    /// Close code (RFC 6455 7.4).
    pub code: Option<u16>,
    /// At most 123 bytes.
    pub reason: Option<String>,
}

/// For people, behind something else.
impl fmt::Display for CloseRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.code.map_or(Ok(()), |code| write!(f, ", code {code}"))?;
        self.reason.as_ref().map_or(Ok(()), |reason| write!(f, ", \"{}\"", reason.escape_debug()))
    }
}

/// How fast tunnels are closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DrainPacing {
    /// The closes are spread over this time.
    pub window_ms: Option<u64>,
    /// Most closes a second; the window becomes as long as that takes.
    pub per_second: Option<u32>,
    /// What is left by then is cut.
    pub deadline_ms: Option<u64>,
}

/// Where new tunnels are kept away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainScope {
    /// Everywhere.
    All,
    /// On a route.
    Route(String),
    /// From a backend, on whatever routes.
    Backend(String),
}

/// For people.
impl fmt::Display for DrainScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("everything"),
            Self::Route(name) => write!(f, "route {name}"),
            Self::Backend(id) => write!(f, "backend {id}"),
        }
    }
}

/// One line, with its end.
pub fn line(value: &impl Serialize) -> Vec<u8> {
    // Nothing here has keys that are no text, which is all that can fail.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

/// What a line says.
pub fn read<T: DeserializeOwned>(line: &[u8]) -> Result<T, String> {
    serde_json::from_slice(line).map_err(|error| error.to_string())
}

/// Sessions that are named at once.
const NAMED_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::answer::{CommandError, CommandErrorKind, KillResult, Response};
    use super::*;

    #[test]
    fn what_is_asked_is_read_as_it_was_written() {
        let all = [
            ControlRequest::Status,
            ControlRequest::Sessions {
                of: Selection { client: Some("::1".into()), ..Default::default() },
            },
            ControlRequest::Undrain { place: DrainScope::Route("chat".into()) },
            ControlRequest::Weight { backend: "a".into(), route: None, weight: Some(3) },
        ];
        for request in all {
            assert_eq!(read::<ControlRequest>(&line(&request)), Ok(request));
        }
        assert!(
            read::<ControlRequest>(br#"{"command":"sessions","selection":{"clint":"::1"}}"#)
                .is_err()
        );
    }

    #[test]
    fn answers_are_told_apart() {
        let fault = CommandError::new(CommandErrorKind::NotFound, "no tunnel 7");
        let text = String::from_utf8(line(&Response::<KillResult>::Fault(fault))).unwrap();
        assert_eq!(text, "{\"error\":{\"kind\":\"not_found\",\"message\":\"no tunnel 7\"}}\n");
        let done = read::<Response<KillResult>>(br#"{"ok":{"sessions":2}}"#);
        assert_eq!(done, Ok(Response::Ok(KillResult { sessions: 2 })));
    }
}
