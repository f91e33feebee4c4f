//! Client keys whose sessions on one target are closed for the same reason again and again, for example
//! a page that reconnects and sends the same oversized message. Each access record alone looks
//! harmless; together they are an application that does not work.

use std::time::Duration;

use tracing::warn;
use ws::{Summary, TerminationReason};

use super::info::SessionInfo;
use crate::sys::clock::now;
use crate::telemetry::window_counts::WindowCounts;

/// Counts ends by client, route, target and reason, each for a minute.
#[derive(Debug)]
pub struct RepeatedEnds(WindowCounts);

impl Default for RepeatedEnds {
    fn default() -> Self {
        Self(WindowCounts::new(WINDOW, ENTRIES_MAX))
    }
}

impl RepeatedEnds {
    /// Counts the end of a session, and warns if it repeats. Ends that are not due to a rule of the
    /// proxy are ignored.
    pub fn note(&self, info: &SessionInfo, summary: &Summary) {
        let reason = summary.reason;
        if !is_due_to_a_rule(reason) {
            return;
        }
        let (route, target) = (&*info.counts.route.name, info.fields.unpack().target);
        let end = reason.as_str();
        let by = reason.initiator();
        let counted = (info.client(), route, target, end, by);
        if self.0.count(counted, now()) == Some(WARNED_TIMES) {
            warn!(
                client = %info.client(),
                route,
                target,
                end,
                by,
                key = reason.key(),
                value = summary.value.as_deref(),
                size = summary.size,
                "tunnels of this client closed {WARNED_TIMES} times within a minute for the same \
                 reason; it probably reconnects into the same again"
            );
        }
    }
}

/// Whether a rule of the proxy ended the session because of what one side sent or did not send.
fn is_due_to_a_rule(reason: TerminationReason) -> bool {
    matches!(
        reason,
        TerminationReason::LimitExceeded(..)
            | TerminationReason::ProtocolError(..)
            | TerminationReason::HeartbeatTimeout(_)
            | TerminationReason::WriteTimeout(_)
            | TerminationReason::WriteTooSlow(_)
    )
}

/// Ends within [`WINDOW`] after which a warning is logged, once in that window.
const WARNED_TIMES: u32 = 5;
const WINDOW: Duration = Duration::from_secs(60);
const ENTRIES_MAX: usize = 1024;
