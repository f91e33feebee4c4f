//! Client keys whose sessions on one target are closed for the same reason again and again, for example
//! a page that reconnects and sends the same oversized message. Each access record alone looks
//! harmless; together they are an application that does not work.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;
use ws::{Summary, TerminationReason};

use super::info::SessionInfo;
use crate::sys::clock::now;

/// Counts ends by client, route, target and reason, each for a minute.
#[derive(Debug, Default)]
pub struct RepeatedEnds {
    /// By the hash of what is counted; at most [`ENTRIES_MAX`].
    counts: Mutex<HashMap<u64, EndCount>>,
    hasher: RandomState,
}

#[derive(Clone, Copy, Debug)]
struct EndCount {
    since: Instant,
    times: u32,
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
        let counted = self.hasher.hash_one((info.client(), route, target, end, by));
        if self.count(counted, now()) == WARNED_TIMES {
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

    /// How often this has been counted within a minute, including this time. Zero if too many
    /// others are counted at present.
    fn count(&self, counted: u64, now: Instant) -> u32 {
        // Each entry is written as a whole, so the table is valid after a panic.
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |count: &EndCount| now.duration_since(count.since) < WINDOW;
        if counts.len() >= ENTRIES_MAX && !counts.contains_key(&counted) {
            counts.retain(|_, count| is_recent(count));
            if counts.len() >= ENTRIES_MAX {
                return 0;
            }
        }
        let entry = counts.entry(counted).or_insert(EndCount { since: now, times: 0 });
        if !is_recent(entry) {
            *entry = EndCount { since: now, times: 0 };
        }
        entry.times = entry.times.saturating_add(1);
        entry.times
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
/// About 66 bytes each, with the free places of the table.
const ENTRIES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ends_are_counted_for_a_minute() {
        let ends = RepeatedEnds::default();
        let start = now();
        let counts: Vec<u32> = (0..6).map(|_| ends.count(7, start)).collect();
        assert_eq!(counts, [1, 2, 3, 4, 5, 6]);
        assert_eq!(ends.count(8, start), 1);
        assert_eq!(ends.count(7, start + WINDOW), 1);
    }

    #[tokio::test]
    async fn table_is_bounded_and_recovers() {
        let ends = RepeatedEnds::default();
        let start = now();
        for counted in 0..ENTRIES_MAX as u64 {
            assert_eq!(ends.count(counted, start), 1);
        }
        assert_eq!(ends.count(u64::MAX, start), 0);
        assert_eq!(ends.count(0, start), 2);
        assert_eq!(ends.count(u64::MAX, start + WINDOW), 1);
        assert_eq!(ends.counts.lock().unwrap().len(), 1);
    }
}
