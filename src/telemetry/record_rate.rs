//! Limits how many records one client can cause. What exceeds the limit is summed up in one record a second, so that
//! a flood costs few bytes of log and nothing is left out silently.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::line::LogLine;
use super::window_counts::WindowCounts;
use crate::client::ClientKey;

/// Records that share a rate: those of one client with the same event and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecordKind {
    /// The client.
    pub client: ClientKey,
    /// The field `event`.
    pub event: &'static str,
    /// The field `end`; empty if the records have none.
    pub end: &'static str,
}

impl RecordKind {
    /// How many times the rate applies, as clients that do nothing wrong cause most records. `None` for tunnels: the rate of
    /// handshakes limits their records, and all tunnels of an office may end at once.
    fn weight(&self) -> Option<u32> {
        match (self.event, self.end) {
            ("started" | "ended", _) => None,
            ("served", _) | (_, "client_disconnected") => Some(ORDINARY_WEIGHT),
            _ => Some(1),
        }
    }
}

/// Records that were not written.
#[derive(Debug)]
pub struct SuppressedRecords {
    /// Their kind.
    pub kind: RecordKind,
    /// Their number.
    pub count: u64,
    /// The rate that they exceeded, in the notation of the configuration file.
    pub rate: Option<String>,
}

/// Writes the fields of the record that stands for them.
pub(super) fn write_suppressed(line: &mut LogLine, suppressed: &SuppressedRecords) {
    let SuppressedRecords { kind, count, rate } = suppressed;
    line.text("end", Some(kind.end).filter(|end| !end.is_empty()));
    line.text("key", "access.records_per_client");
    line.text("value", rate.as_deref());
    line.text("detail", "records of this client and kind not written; the metrics count them");
    line.text("suppressed_event", kind.event);
    line.number("suppressed", *count);
    line.bare("client_key", |bytes| kind.client.write_to(bytes));
}

/// The rates of all clients.
#[derive(Debug)]
pub struct RecordRates {
    counts: WindowCounts,
    /// Records that were not written since they were last summed up, at most [`SUPPRESSED_MAX`] kinds.
    suppressed: Mutex<HashMap<RecordKind, u64>>,
    total: AtomicU64,
}

impl Default for RecordRates {
    fn default() -> Self {
        let counts = WindowCounts::new(Duration::from_secs(WINDOW_SECONDS.into()), KINDS_MAX);
        Self { counts, suppressed: Mutex::default(), total: AtomicU64::new(0) }
    }
}

impl RecordRates {
    /// Whether a record may be written; counts it otherwise. A client may have the records of ten seconds at once. While
    /// too many kinds are counted, those of others are written.
    pub fn admit(&self, kind: RecordKind, per_second: NonZeroU32, now: Instant) -> bool {
        let Some(weight) = kind.weight() else { return true };
        let max = per_second.get().saturating_mul(WINDOW_SECONDS * weight);
        let is_within = self.counts.count(kind, now).is_none_or(|count| count <= max);
        is_within || !self.suppress(kind)
    }

    /// Counts a record that is not written. Returns whether there was a place for it.
    fn suppress(&self, kind: RecordKind) -> bool {
        // Each entry is written as a whole, so the table is valid after a panic.
        let mut suppressed = self.suppressed.lock().unwrap_or_else(PoisonError::into_inner);
        if suppressed.len() >= SUPPRESSED_MAX && !suppressed.contains_key(&kind) {
            return false;
        }
        *suppressed.entry(kind).or_default() += 1;
        self.total.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// How many records of each kind were not written since the last call.
    pub fn take_suppressed(&self) -> HashMap<RecordKind, u64> {
        let mut suppressed = self.suppressed.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *suppressed)
    }
}

/// Number of records not written because of their rate since the process started.
pub fn records_suppressed() -> u64 {
    RATES.total.load(Ordering::Relaxed)
}

/// The rates of this process, which reloads do not reset.
pub(super) static RATES: LazyLock<RecordRates> = LazyLock::new(RecordRates::default);

/// Over which a rate is an average.
const WINDOW_SECONDS: u32 = 10;
const ORDINARY_WEIGHT: u32 = 10;
/// Kinds that are counted in a window: about 2 MiB.
const KINDS_MAX: usize = 65_536;
/// About 70 bytes each.
const SUPPRESSED_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::now;

    const RATE: NonZeroU32 = NonZeroU32::MIN;

    fn kind(client: u8, end: &'static str) -> RecordKind {
        RecordKind { client: ClientKey::sample(client), event: "rejected", end }
    }

    #[tokio::test]
    async fn each_client_and_kind_has_a_rate() {
        let (rates, start) = (RecordRates::default(), now());
        let admitted = |kind, at| (0..15).filter(|_| rates.admit(kind, RATE, at)).count();
        assert_eq!(admitted(kind(1, "no_route"), start), 10);
        assert_eq!(admitted(kind(1, "origin"), start), 10);
        assert_eq!(admitted(kind(2, "no_route"), start), 10);
        let expected = [kind(1, "no_route"), kind(1, "origin"), kind(2, "no_route")];
        assert_eq!(rates.take_suppressed(), expected.map(|kind| (kind, 5)).into());
        assert_eq!(rates.take_suppressed(), HashMap::new());
        assert_eq!(admitted(kind(1, "no_route"), start + Duration::from_secs(9)), 0);
        assert_eq!(admitted(kind(1, "no_route"), start + Duration::from_secs(10)), 10);
        assert_eq!(rates.total.load(Ordering::Relaxed), 15 + 15 + 5);
    }

    #[tokio::test]
    async fn ordinary_records_have_a_higher_rate_or_none() {
        let (rates, start) = (RecordRates::default(), now());
        for (event, end, max) in [
            ("served", "complete", 100),
            ("ended", "client_disconnected", 200),
            ("started", "", 200),
            ("rejected", "client_disconnected", 100),
            ("aborted", "backend_disconnected", 10),
            ("dropped", "tls_failed", 10),
        ] {
            let kind = RecordKind { event, ..kind(1, end) };
            let admitted = (0..200).filter(|_| rates.admit(kind, RATE, start)).count();
            assert_eq!(admitted, max, "{event} {end}");
        }
    }

    #[tokio::test]
    async fn records_without_a_place_are_written() {
        let (rates, start) = (RecordRates::default(), now());
        let client = |number: u32| {
            let addr =
                crate::client::ClientAddr::without_port(std::net::Ipv4Addr::from(number).into());
            let client = ClientKey::new(&addr, crate::client::KeyPrefixes::default());
            RecordKind { client, ..kind(1, "no_route") }
        };
        let clients = u32::try_from(SUPPRESSED_MAX).unwrap() + 1;
        let admitted = (0..clients)
            .filter(|number| (0..11).all(|_| rates.admit(client(*number), RATE, start)))
            .count();
        assert_eq!((admitted, rates.take_suppressed().len()), (1, SUPPRESSED_MAX));
    }
}
