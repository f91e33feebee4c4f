//! What a tunnel reports after each wake.

use std::time::Duration;

use ws::{MessageSizes, Session, Side};

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

/// Complete messages relayed in one wake.
#[derive(Default)]
pub(super) struct RelayedMessages {
    pub(super) up: MessageSizes,
    pub(super) down: MessageSizes,
}

impl RelayedMessages {
    /// Whether this wake has used its CPU budget, so that other tasks must run.
    pub(super) fn is_budget_spent(&self) -> bool {
        self.up.work + self.down.work > WORK_MAX
    }

    pub(super) fn of(&mut self, from: Side) -> &mut MessageSizes {
        match from {
            Side::Client => &mut self.up,
            Side::Backend => &mut self.down,
        }
    }
}

/// CPU budget of one wake for measuring compressed messages, in bytes copied: a few hundred
/// microseconds.
const WORK_MAX: u64 = 512 * 1024;
