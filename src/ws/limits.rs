//! What a session is held to.

use std::time::Duration;

use super::close::CloseCode;

/// The terms of one conversation, fixed when it begins; a reload never changes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Largest message from the client, in payload bytes as they stand on the wire, counted over
    /// its fragments; `None`: no limit.
    pub message_from_client_max: Option<u64>,
    /// Largest message from the backend, likewise.
    pub message_from_backend_max: Option<u64>,
    /// Pings to the client; `None`: none of our own.
    pub heartbeat: Option<Heartbeat>,
    /// Longest time without a byte of a data frame in either direction; `None`: no limit.
    pub idle: Option<Duration>,
    /// How long a peer may take to answer a Close, and to take what was sent before it.
    pub close_grace: Duration,
    /// How long a peer may take nothing of what waits for it.
    pub write_stall: Duration,
    /// The code a draining proxy closes its clients with.
    pub drain_code: CloseCode,
}

/// Pings of our own to the client (RFC 6455 5.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// From one answer to the next ping; the first ping comes after a random part of it.
    pub interval: Duration,
    /// How long the pong may take, from the moment the ping was handed out.
    pub patience: Duration,
}
