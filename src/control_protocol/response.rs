//! The responses of the control socket.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One line of a reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response<T> {
    /// The request succeeded.
    Ok(T),
    /// The request failed.
    Error(CommandError),
}

/// Why a command was not executed. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandError {
    /// The machine-readable cause.
    pub kind: CommandErrorKind,
    /// The human-readable cause.
    pub message: String,
    /// Diagnostics of a rejected configuration, one per element.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

impl CommandError {
    /// An error without diagnostics.
    pub fn new(kind: CommandErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), errors: Vec::new() }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.errors.iter().try_for_each(|error| writeln!(f, "{error}"))?;
        f.write_str(&self.message)
    }
}

/// Kinds of [`CommandError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandErrorKind {
    /// The request is malformed or contradictory.
    BadRequest,
    /// The user may not use the control socket.
    Denied,
    /// There is no such tunnel, route or backend.
    NotFound,
    /// The current state does not allow the command.
    Rejected,
    /// Too many commands or drains are running.
    Busy,
}

/// Open tunnels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionList {
    /// Unix time in seconds when the list was made.
    pub now: f64,
    /// Number of open tunnels, selected or not.
    pub open: usize,
    /// The selected tunnels, oldest first.
    pub sessions: Vec<SessionRow>,
}

/// One tunnel in a list. Up is the direction from client to backend.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionRow {
    /// Number of the tunnel, as in access records.
    pub session: u64,
    /// Client key.
    pub client: String,
    /// Name of the listener.
    pub listener: String,
    /// Name of the route.
    pub route: String,
    /// Id of the backend.
    pub backend: String,
    /// The address that it was opened to, if the backend is a name.
    pub backend_address: Option<String>,
    /// Milliseconds since the 101 response.
    pub age_ms: u64,
    /// Bytes of frames from the client.
    pub up_bytes: u64,
    /// Bytes of frames from the backend.
    pub down_bytes: u64,
    /// Messages from the client.
    pub up_messages: u64,
    /// Messages from the backend.
    pub down_messages: u64,
    /// Latest round-trip time to the client, in milliseconds.
    pub client_rtt_ms: Option<f64>,
    /// Latest round-trip time to the backend, in milliseconds.
    pub backend_rtt_ms: Option<f64>,
    /// Whether the tunnel was commanded to close.
    pub closing: bool,
}

/// Everything known about one tunnel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionDetail {
    /// The fields of the list.
    #[serde(flatten)]
    pub row: SessionRow,
    /// Client address and port.
    pub address: String,
    /// Source of the address: `peer`, `proxy_header`, `forwarded`, ...
    pub client_source: String,
    /// Protocol of the connection: `http/1.1` or `h2`.
    pub protocol: String,
    /// TLS version and cipher suite.
    pub tls: Option<String>,
    /// Server name of the TLS handshake (RFC 6066 3).
    pub sni: Option<String>,
    /// `Host` of the request, with credentials redacted.
    pub host: String,
    /// Request target, with credentials redacted.
    pub target: String,
    /// `User-Agent` of the request.
    pub user_agent: Option<String>,
    /// Request id sent to the backend.
    pub request_id: Option<String>,
    /// Negotiated subprotocol.
    pub subprotocol: Option<String>,
    /// Generation of the configuration that admitted the tunnel.
    pub generation: u64,
    /// Duration of the handshake with the backend, in milliseconds.
    pub backend_handshake_ms: f64,
    /// Total delay imposed on the client by limits, in milliseconds.
    pub client_delayed_ms: u64,
    /// Total delay imposed on the backend by limits, in milliseconds.
    pub backend_delayed_ms: u64,
}

/// Result of a kill.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillResult {
    /// Number of tunnels commanded to close.
    pub sessions: usize,
}

/// Plan of a drain and, once it has finished, its result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainResult {
    /// Tunnels open when the drain started.
    pub sessions: usize,
    /// Duration over which the closes are spread, in milliseconds.
    pub window_ms: u64,
    /// Time after which the remaining tunnels are aborted, in milliseconds.
    pub deadline_ms: u64,
    /// Number of aborted tunnels; `None` while the drain is running.
    pub aborted: Option<usize>,
    /// What happens to new tunnels until `undrain`.
    #[serde(default)]
    pub new_tunnels: NewTunnels,
    /// The routes of a drained backend that have no other one, and reject new tunnels.
    #[serde(default)]
    pub rejecting_routes: Vec<String>,
}

/// What happens to new tunnels to what is drained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NewTunnels {
    /// They are admitted as usual.
    #[default]
    Admitted,
    /// They go to the other backends of their route, if it has any.
    Elsewhere,
    /// They are rejected.
    Rejected,
}

/// Result of a weight change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightChanged {
    /// Number of routes with this backend.
    pub routes: usize,
    /// The new effective weight.
    pub weight: u32,
}

/// Result of a change of a canary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryChanged {
    /// The new effective share, as `5%` or `off`.
    pub share: String,
    /// Tunnels of canaries that are closed now because no request goes there any more.
    #[serde(default)]
    pub closing: usize,
}

/// The tunnels that a rebalance closes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebalanceResult {
    /// The pools, in the order of the routes that use them.
    pub pools: Vec<PoolRebalance>,
}

/// The part of a rebalance that concerns one pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolRebalance {
    /// Name of the pool, or of the route that lists its backends itself.
    pub pool: String,
    /// Its open tunnels.
    pub tunnels: usize,
    /// Those that are closed, because their clients have another backend now.
    pub moving: usize,
    /// Further ones that stay for now, because their clients were moved less than ten minutes ago.
    pub held: usize,
    /// How many are closed per second.
    pub per_second: u32,
    /// Whether a rebalance of the pool was in progress, which closes them.
    #[serde(default)]
    pub joined: bool,
    /// Why no tunnel has another backend in this pool.
    pub unmovable: Option<String>,
}

/// The rebalances that were stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebalanceStopped {
    /// Number of pools.
    pub pools: usize,
    /// Tunnels that were closed before.
    pub closed: usize,
}

/// Header of a relayed frame. The payload is never shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FrameEvent {
    /// Unix time in seconds.
    pub at: f64,
    /// Side that sent the frame, or that it appears to come from: `client` or `backend`.
    pub from: String,
    /// Whether tidegate itself created the frame, such as a ping or a Close.
    pub injected: bool,
    /// `text`, `binary`, `continuation`, `ping`, `pong`, `close` or `unknown`.
    pub opcode: String,
    /// FIN bit: last fragment of the message.
    pub fin: bool,
    /// Whether the frame belongs to a compressed message (RFC 7692).
    pub compressed: bool,
    /// Payload length in bytes.
    pub length: u64,
    /// Close code of a Close frame.
    pub code: Option<u16>,
    /// Number of frames skipped before this one because the reader was too slow.
    pub skipped: u64,
}

/// Predicted answer to a handshake.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The checks in the order in which a handshake passes them.
    pub steps: Vec<ExplainStep>,
    /// Whether the handshake would be admitted in the current state, if the assumptions of the steps are true.
    pub admitted: bool,
    /// HTTP status of the rejection.
    pub status: Option<u16>,
    /// Reason of the rejection, as in access records.
    pub reason: Option<String>,
}

/// Result of one check of a handshake.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExplainStep {
    /// `listener`, `client`, `address`, `certificate`, `request`, `redirect`, `route`, `maintenance`,
    /// `drain`, `rate`, `origin`, `concurrency`, `backend` or `limits`.
    pub check: String,
    /// Human-readable result.
    pub result: String,
    /// The deciding configuration key and, where useful, its value.
    pub key: Option<String>,
    /// Whether the handshake continues after this check.
    pub passed: bool,
    /// What must be true for this check to pass, and is not known here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assumption: Option<String>,
}

/// The maintenance of a route after a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceChanged {
    /// Whether requests are answered with 503.
    pub on: bool,
    /// The file because of which maintenance stays on after it was switched off.
    pub file: Option<String>,
}

/// Changes of a reload, applied or only previewed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadResult {
    /// Generation of the active configuration.
    pub generation: u64,
    /// Differences between the old and the new configuration.
    pub changes: Vec<Change>,
}

/// One difference between two configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// `route`, `backend`, `listener`, `certificate`, `limits` or the name of another table.
    pub section: String,
    /// Name of the changed object.
    pub name: String,
    /// `added`, `removed` or `changed`.
    pub action: String,
    /// The keys that differ.
    pub keys: Vec<ChangedKey>,
    /// Number of open tunnels of the changed object.
    pub tunnels: u64,
    /// Effect on open and on new tunnels.
    pub effect: String,
}

/// A key with its old and new value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedKey {
    /// Full path, such as `route[0].limits.idle`.
    pub key: String,
    /// The old value in TOML syntax.
    pub before: Option<String>,
    /// The new value in TOML syntax.
    pub after: Option<String>,
}

/// The effective configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectiveConfig {
    /// Generation of the active configuration.
    pub generation: u64,
    /// Path of the configuration file.
    pub file: Option<String>,
    /// Every key, in the order of the file's tables.
    pub keys: Vec<EffectiveKey>,
}

/// One key and its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectiveKey {
    /// Full path, such as `route[0].limits.idle`.
    pub key: String,
    /// The value in TOML syntax.
    pub value: String,
    /// Line of the configuration file; `None` for defaults and inherited values.
    pub line: Option<usize>,
    /// Origin of a value that is not set on a line of its own: `default`, `limits.idle`, `ctl`.
    pub from: Option<String>,
}

/// The log level.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLevel {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
}
