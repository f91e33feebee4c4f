//! The messages that `tidegate ctl` and a running tidegate exchange over the control socket.
//!
//! The client sends one [`ControlRequest`] as a line of JSON. Each line of the reply is a
//! [`Response`](response::Response), and the end of the reply is the end of the connection. JSON
//! names are stable, because scripts depend on them.

pub mod certificates;
pub mod place;
pub mod response;

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use ws::CloseCode;

/// One command of an operator. Each variant names the type of a successful response.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum ControlRequest {
    /// The state of the process: the content of `/status.json`.
    Status,
    /// Lists open tunnels: [`SessionList`](response::SessionList).
    Sessions {
        /// Restricts the list.
        selection: Selection,
    },
    /// Describes one tunnel: [`SessionDetail`](response::SessionDetail).
    Session {
        /// Number of the tunnel.
        session: u64,
    },
    /// Closes tunnels immediately: [`KillResult`](response::KillResult).
    Kill {
        /// The tunnels to close. An empty selection requires `all`.
        selection: Selection,
        /// Confirms that an empty selection means every tunnel.
        all: bool,
        /// Close code and reason; 1008 by default.
        close: CloseRequest,
    },
    /// Closes tunnels gradually and rejects new tunnels to a backend, to a route or, with `all`, to
    /// the whole process: [`DrainResult`](response::DrainResult), sent when the drain has finished
    /// if `wait` is set, when it has started otherwise.
    Drain {
        /// The tunnels to close. An empty selection requires `all`.
        selection: Selection,
        /// Confirms that an empty selection means every tunnel.
        all: bool,
        /// Speed of the drain; the default is the `[drain]` table.
        pacing: DrainPacing,
        /// Close code and reason; the default is the `[drain]` table.
        close: CloseRequest,
        /// Delays the response until the drain has finished.
        wait: bool,
    },
    /// Admits new tunnels again after a drain: [`DrainScope`].
    Undrain {
        /// What to stop draining.
        scope: DrainScope,
    },
    /// Overrides the weight of a backend until it is reset:
    /// [`WeightChanged`](response::WeightChanged).
    Weight {
        /// Id of the backend.
        backend: String,
        /// Restricts the change to one route.
        route: Option<String>,
        /// The new weight; `None` restores the weight of the configuration file.
        weight: Option<u32>,
    },
    /// Overrides the share of canary requests of a pool until it is reset:
    /// [`CanaryChanged`](response::CanaryChanged).
    Canary {
        /// Name of the pool.
        pool: String,
        /// The new share, as `5%` or `off`; `None` restores that of the configuration file.
        share: Option<String>,
    },
    /// Closes tunnels whose clients have another backend now, paced: [`RebalanceResult`](response::RebalanceResult).
    Rebalance {
        /// Name of the pool, or of a route that lists its backends itself; `None` for all.
        pool: Option<String>,
        /// How many tunnels of each pool are closed per second; the default is that of the pool.
        per_second: Option<u32>,
        /// Only counts the tunnels.
        dry_run: bool,
    },
    /// Stops rebalances. Tunnels that were not closed yet stay open:
    /// [`RebalanceStopped`](response::RebalanceStopped).
    StopRebalance {
        /// As in `Rebalance`.
        pool: Option<String>,
    },
    /// Switches the maintenance of a route, whose requests are then answered with 503:
    /// [`MaintenanceChanged`](response::MaintenanceChanged).
    Maintenance {
        /// Name of the route.
        route: String,
        /// Whether it is switched on.
        on: bool,
    },
    /// Lists the certificates: [`CertificateList`](certificates::CertificateList).
    Certs,
    /// Orders a certificate now, whatever the back-off: [`OrderRequested`](certificates::OrderRequested).
    Renew {
        /// One of its names.
        name: String,
    },
    /// Streams the frame headers of a tunnel until it ends: one
    /// [`FrameEvent`](response::FrameEvent) per line.
    Tail {
        /// Number of the tunnel.
        session: u64,
    },
    /// Predicts how a handshake would be answered: [`Explanation`](response::Explanation).
    Explain {
        /// An absolute URL, such as `wss://chat.example.com/ws`.
        url: String,
        /// Value of the `Origin` header; none is sent if `None`.
        origin: Option<String>,
        /// IP address of the client.
        address: Option<String>,
        /// Further header fields, such as `Cookie: room=7`.
        #[serde(default)]
        headers: Vec<String>,
    },
    /// Reloads the configuration file: [`ReloadResult`](response::ReloadResult).
    Reload,
    /// Lists what a reload would change: [`ReloadResult`](response::ReloadResult) with the current
    /// generation.
    Diff {
        /// Path of the file. Relative certificate paths are resolved against its folder.
        path: String,
        /// Content of the file.
        text: String,
    },
    /// Lists the effective configuration: [`EffectiveConfig`](response::EffectiveConfig).
    Config,
    /// Shows or sets the log level: [`LogLevel`](response::LogLevel).
    LogLevel {
        /// The new level; `None` leaves it unchanged.
        level: Option<String>,
    },
}

impl ControlRequest {
    /// Describes the change for the log, for example `kill client 192.0.2.1`; `None` if the request
    /// only reads.
    pub fn change(&self) -> Option<String> {
        let of_pool = |pool: &Option<String>| {
            pool.as_ref().map_or(String::new(), |pool| format!(" of pool {pool}"))
        };
        let show_weight =
            |weight: &Option<u32>| weight.map_or("as in the file".into(), |w| w.to_string());
        Some(match self {
            Self::Kill { selection, close, .. } => format!("kill {selection}{close}"),
            Self::Drain { selection, close, .. } => format!("drain {selection}{close}"),
            Self::Undrain { scope } => format!("undrain {scope}"),
            Self::Weight { backend, route, weight } => {
                let route = route.as_ref().map(|route| format!(" of route {route}"));
                format!(
                    "weight of backend {backend}{}: {}",
                    route.unwrap_or_default(),
                    show_weight(weight)
                )
            }
            Self::Canary { pool, share } => {
                format!("canary of pool {pool}: {}", share.as_deref().unwrap_or("as in the file"))
            }
            Self::Rebalance { dry_run: true, .. } => return None,
            Self::Rebalance { pool, .. } => format!("rebalance{}", of_pool(pool)),
            Self::StopRebalance { pool } => format!("stop the rebalance{}", of_pool(pool)),
            Self::Maintenance { route, on } => {
                format!("maintenance of route {route}: {}", if *on { "on" } else { "off" })
            }
            Self::Renew { name } => format!("renew the certificate of {name}"),
            Self::Reload => "reload".to_owned(),
            Self::LogLevel { level: Some(level) } => format!("log level {level}"),
            Self::Status
            | Self::Sessions { .. }
            | Self::Session { .. }
            | Self::Certs
            | Self::Tail { .. }
            | Self::Explain { .. }
            | Self::Diff { .. }
            | Self::Config
            | Self::LogLevel { level: None } => return None,
        })
    }
}

/// Selects open tunnels. A tunnel must match every field that is set; the default matches all
/// tunnels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// Tunnel numbers; empty for any.
    pub sessions: Vec<u64>,
    /// A client key, such as `192.0.2.1` or `2001:db8::/64`, or an address it covers.
    pub client: Option<String>,
    /// Name of the route.
    pub route: Option<String>,
    /// Id of the backend.
    pub backend: Option<String>,
    /// Minimum age in milliseconds, exclusive.
    pub older_ms: Option<u64>,
}

impl Selection {
    /// Whether the selection covers everything, a whole route or a whole backend. Only then does a
    /// drain also reject new tunnels; a drained client may reconnect.
    pub fn is_scope(&self) -> bool {
        self.sessions.is_empty() && self.client.is_none() && self.older_ms.is_none()
    }
}

/// Human-readable form: `route chat, older than 3600000 ms`.
impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> =
            self.sessions.iter().take(SHOWN_SESSIONS_MAX).map(u64::to_string).collect();
        let more = if self.sessions.len() > SHOWN_SESSIONS_MAX { " ..." } else { "" };
        let named = |label: &str, name: &Option<String>| {
            name.as_ref().map(|name| format!("{label} {name}"))
        };
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

/// Content of the Close frames sent to clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CloseRequest {
    /// Close code (RFC 6455 7.4).
    pub code: Option<u16>,
    /// Close reason, at most 123 bytes (RFC 6455 5.5).
    pub reason: Option<String>,
}

/// A close code that an operator may choose.
///
/// # Errors
/// The number cannot be sent; names those that can.
pub fn close_code(number: u16) -> Result<CloseCode, String> {
    // Chromium treats a Close frame with code 1014 as a protocol error.
    CloseCode::new(number).filter(|_| number != 1014).ok_or_else(|| {
        format!(
            "{number} cannot be sent as a close code; use 1000 to 1003, 1007 to 1013, or 3000 to 4999"
        )
    })
}

/// Human-readable suffix of another description: `, code 1008, "abuse"`.
impl fmt::Display for CloseRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.code.map_or(Ok(()), |code| write!(f, ", code {code}"))?;
        self.reason.as_ref().map_or(Ok(()), |reason| write!(f, ", \"{}\"", reason.escape_debug()))
    }
}

/// Speed of a drain. Unset fields take the values of the `[drain]` table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DrainPacing {
    /// Duration over which the closes are spread, in milliseconds.
    pub window_ms: Option<u64>,
    /// Maximum closes per second. The window is extended if this rate requires it.
    pub per_second: Option<u32>,
    /// Time after which the remaining tunnels are aborted, in milliseconds.
    pub deadline_ms: Option<u64>,
}

/// What rejects new tunnels while it is drained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainScope {
    /// The whole process.
    All,
    /// A route, by name.
    Route(String),
    /// A backend, by id, on all of its routes.
    Backend(String),
}

impl fmt::Display for DrainScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("everything"),
            Self::Route(name) => write!(f, "route {name}"),
            Self::Backend(id) => write!(f, "backend {id}"),
        }
    }
}

/// Serializes a message as one line of JSON, including the newline.
pub fn encode(value: &impl Serialize) -> Vec<u8> {
    // Serialization fails only for maps with non-string keys; no message contains one.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Parses one line.
///
/// # Errors
///
/// The message of the JSON parser if the line is not a valid `T`.
pub fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<T, String> {
    serde_json::from_slice(line).map_err(|error| error.to_string())
}

const SHOWN_SESSIONS_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::response::{CommandError, CommandErrorKind, KillResult, Response};
    use super::*;

    #[test]
    fn requests_survive_encoding_and_decoding() {
        let all = [
            ControlRequest::Status,
            ControlRequest::Sessions {
                selection: Selection { client: Some("::1".into()), ..Default::default() },
            },
            ControlRequest::Undrain { scope: DrainScope::Route("chat".into()) },
            ControlRequest::Weight { backend: "a".into(), route: None, weight: Some(3) },
        ];
        for request in all {
            assert_eq!(decode::<ControlRequest>(&encode(&request)), Ok(request));
        }
        assert!(
            decode::<ControlRequest>(br#"{"command":"sessions","selection":{"clint":"::1"}}"#)
                .is_err()
        );
    }

    #[test]
    fn close_codes_are_those_that_the_message_names() {
        for number in [1000, 1003, 1007, 1013, 3000, 4999] {
            assert_eq!(close_code(number).map(CloseCode::get), Ok(number));
        }
        for number in [0, 999, 1004, 1005, 1006, 1014, 1015, 2999, 5000] {
            let error = close_code(number).unwrap_err();
            let range = "use 1000 to 1003, 1007 to 1013, or 3000 to 4999";
            assert_eq!(error, format!("{number} cannot be sent as a close code; {range}"));
        }
    }

    #[test]
    fn successes_and_errors_are_distinguished() {
        let error = CommandError::new(CommandErrorKind::NotFound, "no tunnel 7");
        let text = String::from_utf8(encode(&Response::<KillResult>::Error(error))).unwrap();
        assert_eq!(text, "{\"error\":{\"kind\":\"not_found\",\"message\":\"no tunnel 7\"}}\n");
        let done = decode::<Response<KillResult>>(br#"{"ok":{"sessions":2}}"#);
        assert_eq!(done, Ok(Response::Ok(KillResult { sessions: 2 })));
    }
}
