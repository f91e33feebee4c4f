//! One line for many dropped connections: where each would have a record, one client could fill the log.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::warn;

use super::metrics::reasons::{DROPS, drop_index};
use super::record::DecidingSetting;
use super::sampled_count::SampledCount;
use crate::client::ClientAddr;
use crate::reject::drop_reason::DropReason;
use crate::sys::clock::now;

/// The connections that were dropped for each reason since the last line about it, at most one line a second.
#[derive(Debug)]
pub struct DropSummaries([DropSummary; DROPS]);

#[derive(Debug)]
struct DropSummary {
    count: SampledCount,
    /// The last drop that the count includes; absent before the first one.
    last: Mutex<Option<LastDrop>>,
}

#[derive(Clone, Debug)]
struct LastDrop {
    reason: DropReason,
    client: ClientAddr,
    deciding: DecidingSetting,
}

impl DropSummaries {
    /// Counts a dropped connection of this client.
    pub fn add(&self, reason: &DropReason, client: ClientAddr, deciding: DecidingSetting) {
        let Some(summary) = self.0.get(drop_index(reason)) else { return };
        let last = LastDrop { reason: reason.clone(), client, deciding };
        match summary.count.add(now()) {
            Some(count) => last.log(count),
            None => *summary.last() = Some(last),
        }
    }

    /// Logs what was counted after the last lines. Call it every few seconds.
    pub fn flush(&self) {
        for summary in &self.0 {
            let count = summary.count.remainder(now());
            if let (Some(count), Some(last)) = (count, summary.last().take()) {
                last.log(count);
            }
        }
    }
}

impl Default for DropSummaries {
    fn default() -> Self {
        Self(std::array::from_fn(|_| DropSummary {
            count: SampledCount::new(INTERVAL),
            last: Mutex::default(),
        }))
    }
}

impl DropSummary {
    fn last(&self) -> MutexGuard<'_, Option<LastDrop>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LastDrop {
    fn log(&self, dropped: u64) {
        warn!(
            end = self.reason.as_str(),
            dropped,
            last_client = %self.client,
            key = self.deciding.key,
            value = self.deciding.value,
            "connections dropped before their first request; they have no records of their own"
        );
    }
}

const INTERVAL: Duration = Duration::from_secs(1);
