//! What a tunnel reports after each wake.

use std::time::Duration;

use ws::{MessageSizes, Session};

/// The messages relayed in one wake, and the state of the session after it.
#[derive(Debug)]
pub struct WakeProgress<'a> {
    /// The session.
    pub session: &'a Session,
    /// Complete messages of this wake, client to backend.
    pub up: &'a MessageSizes,
    /// Complete messages of this wake, backend to client.
    pub down: &'a MessageSizes,
    /// Time from a read to the end of the resulting write; sampled, so usually `None`.
    pub latency: Option<Duration>,
}
