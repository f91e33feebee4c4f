//! What is answered over the control socket.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One line of a reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response<T> {
    /// What was asked for.
    Ok(T),
    /// Why not.
    #[serde(rename = "error")]
    Fault(CommandError),
}

/// Why something was not done; nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandError {
    /// For programs.
    pub kind: CommandErrorKind,
    /// For people.
    pub message: String,
    /// One a line, if there are several.
    #[serde(rename = "errors", default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
}

impl CommandError {
    /// One without a list.
    pub fn new(kind: CommandErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), faults: Vec::new() }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.faults.iter().try_for_each(|fault| writeln!(f, "{fault}"))?;
        f.write_str(&self.message)
    }
}

/// Kinds of [`CommandError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandErrorKind {
    /// The request cannot be read, or says something impossible.
    BadRequest,
    /// Whoever asks may not.
    Denied,
    /// There is no such tunnel, route or backend.
    NotFound,
    /// It is possible, but not now, or not so.
    #[serde(rename = "rejected")]
    Refused,
    /// Too many ask already.
    Busy,
}

/// The open tunnels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionList {
    /// Seconds since 1970, for rates.
    pub now: f64,
    /// How many are open in all.
    pub open: usize,
    /// Those that were asked for, oldest first.
    pub sessions: Vec<SessionRow>,
}

/// One tunnel in a list. Up is from client to backend.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionRow {
    /// Its number, as in records.
    pub session: u64,
    /// Whose it is.
    pub client: String,
    /// The listener it came by.
    pub listener: String,
    /// Its route.
    pub route: String,
    /// Its backend.
    pub backend: String,
    /// Since its 101.
    pub age_ms: u64,
    /// Bytes of frames up.
    pub up_bytes: u64,
    /// And down.
    pub down_bytes: u64,
    /// Messages up.
    pub up_messages: u64,
    /// And down.
    pub down_messages: u64,
    /// Last round trip to the client.
    pub client_rtt_ms: Option<f64>,
    /// And to the backend.
    pub backend_rtt_ms: Option<f64>,
    /// It was told to close.
    pub closing: bool,
}

/// All that is known of one tunnel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionDetail {
    /// As in lists.
    #[serde(flatten)]
    pub row: SessionRow,
    /// Address and port that the client is known by.
    pub address: String,
    /// How that is known: `peer`, `proxy_header`, `forwarded`, ...
    #[serde(rename = "client_source")]
    pub known_by: String,
    /// TLS version and cipher suite.
    pub tls: Option<String>,
    /// Server name that was asked for in the TLS handshake.
    pub sni: Option<String>,
    /// As in the request, with credentials hidden.
    pub host: String,
    /// Likewise.
    pub target: String,
    /// Likewise.
    pub user_agent: Option<String>,
    /// What the backend was told it is called.
    pub request_id: Option<String>,
    /// What was agreed on.
    pub subprotocol: Option<String>,
    /// Number of the configuration it was admitted under.
    pub generation: u64,
    /// How long the backend took to answer.
    pub backend_handshake_ms: f64,
    /// How long the client was made to wait, in all.
    pub client_delayed_ms: u64,
    /// And the backend.
    pub backend_delayed_ms: u64,
}

/// Tunnels that were told to close at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillResult {
    /// How many.
    pub sessions: usize,
}

/// A drain: what it will do or, once it is over, what it did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainResult {
    /// Tunnels open at its beginning.
    pub sessions: usize,
    /// Over how long they are closed.
    pub window_ms: u64,
    /// When what is left is cut.
    pub deadline_ms: u64,
    /// Of these, those that had to be cut; `None`: it is not over.
    #[serde(rename = "aborted")]
    pub cut: Option<usize>,
}

/// A backend's share of the clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightChanged {
    /// On how many routes.
    pub routes: usize,
    /// Now.
    pub weight: u32,
}

/// A frame as it passed; never what it held.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FrameEvent {
    /// Seconds since 1970.
    pub at: f64,
    /// `client` or `backend`.
    pub from: String,
    /// Its sender is tidegate itself: a ping, or a Close.
    #[serde(rename = "injected")]
    pub own: bool,
    /// `text`, `binary`, `continuation`, `ping`, `pong`, `close`; a number if it has no name.
    pub opcode: String,
    /// It is the last of its message.
    pub fin: bool,
    /// It belongs to a compressed message.
    pub compressed: bool,
    /// Bytes of its payload.
    pub length: u64,
    /// Of a Close.
    pub code: Option<u16>,
    /// Frames before this one that the reader of the tail was too slow for.
    #[serde(rename = "skipped")]
    pub missed: u64,
}

/// What would happen to a handshake.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Each question on the way, in order, and its answer.
    pub steps: Vec<ExplainStep>,
    /// Whether it would be let in, as things are now.
    pub admitted: bool,
    /// If not: the status of the answer.
    pub status: Option<u16>,
    /// And the reason, as in records.
    pub reason: Option<String>,
}

/// One question on the way of a handshake.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExplainStep {
    /// `listener`, `client`, `certificate`, `route`, `drain`, `rate`, `origin`, `concurrency`, `backend`,
    /// `limits`
    #[serde(rename = "check")]
    pub question: String,
    /// In words.
    #[serde(rename = "result")]
    pub answer: String,
    /// The key that decides, and what it is set to.
    pub key: Option<String>,
    /// Whether it may go on.
    #[serde(rename = "passed")]
    pub passes: bool,
}

/// A reload, done or only considered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadResult {
    /// Number of the configuration in force.
    pub generation: u64,
    /// What changed.
    pub changes: Vec<Change>,
}

/// One thing that differs between two configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// `route`, `backend`, `listener`, `certificate`, `limits`, or the name of another table.
    #[serde(rename = "section")]
    pub part: String,
    /// Which one.
    pub name: String,
    /// `added`, `removed`, `changed`
    #[serde(rename = "action")]
    pub what: String,
    /// The keys that differ.
    pub keys: Vec<ChangedKey>,
    /// Live tunnels of what changed.
    pub tunnels: u64,
    /// What becomes of them, and of those to come.
    pub effect: String,
}

/// A key before and after.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedKey {
    /// `route[0].limits.idle`
    pub key: String,
    /// As it would be written.
    pub before: Option<String>,
    /// Likewise.
    pub after: Option<String>,
}

/// The configuration in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectiveConfig {
    /// Its number.
    pub generation: u64,
    /// The file.
    pub file: Option<String>,
    /// Every key, in the order of the file's tables.
    pub keys: Vec<EffectiveKey>,
}

/// One key and its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectiveKey {
    /// `route[0].limits.idle`
    pub key: String,
    /// As it would be written.
    pub value: String,
    /// The line of the file it stands in; `None`: it is the default, or another table's.
    pub line: Option<usize>,
    /// Where it comes from if not from a line of its own: `default`, `limits.idle`, `ctl`.
    pub from: Option<String>,
}

/// How much is logged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLevel {
    /// `error`, `warn`, `info`, `debug`, `trace`
    pub level: String,
}
