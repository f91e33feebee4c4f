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
    /// The client; `None` for several together.
    pub client: Option<ClientKey>,
    /// The field `event`.
    pub event: &'static str,
    /// The field `end`; empty if the records have none.
    pub end: &'static str,
}

impl RecordKind {
    /// How many times the rate applies. `None` for tunnels: the rate of handshakes limits their records, and all tunnels
    /// of an office may end at once.
    fn weight(&self) -> Option<u32> {
        match self.event {
            "started" | "ended" => None,
            SERVED => Some(SERVED_WEIGHT),
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
    if let Some(client) = kind.client {
        line.bare("client_key", |bytes| client.write_to(bytes));
    }
}

/// The rates of all clients.
#[derive(Debug)]
pub struct RecordRates {
    counts: WindowCounts,
    /// Records of all clients that exceed [`OWN_MAX`], by event and end.
    shared: WindowCounts,
    /// Records that were not written since they were last summed up. At most [`SUPPRESSED_MAX`] kinds have a client.
    suppressed: Mutex<HashMap<RecordKind, u64>>,
    total: AtomicU64,
}

impl Default for RecordRates {
    fn default() -> Self {
        let window = Duration::from_secs(WINDOW_SECONDS.into());
        let counts = WindowCounts::new(window, KINDS_MAX);
        let shared = WindowCounts::new(window, SHARED_KINDS_MAX);
        Self { counts, shared, suppressed: Mutex::default(), total: AtomicU64::new(0) }
    }
}

impl RecordRates {
    /// Whether a record may be written; counts it otherwise. A client may have the records of ten seconds at once, but
    /// after its first [`OWN_MAX`], all clients together have as many of each kind as one: a flood from many addresses
    /// costs hardly more. So have clients that are too many to be counted.
    pub fn admit(&self, kind: RecordKind, per_second: NonZeroU32, now: Instant) -> bool {
        let Some(weight) = kind.weight() else { return true };
        let per_window = per_second.get().saturating_mul(WINDOW_SECONDS * weight);
        let own = self.counts.count(kind, now);
        let shared = || self.shared.count((kind.event, kind.end), now);
        let is_within = match own {
            Some(count) if kind.event == SERVED => count <= per_window,
            Some(count) if count <= OWN_MAX => true,
            Some(count) if count > per_window => false,
            Some(_) | None => shared().is_none_or(|count| count <= per_window),
        };
        if !is_within {
            self.suppress(kind);
        }
        is_within
    }

    /// Counts a record that is not written.
    fn suppress(&self, kind: RecordKind) {
        // Each entry is written as a whole, so the table is valid after a panic.
        let mut suppressed = self.suppressed.lock().unwrap_or_else(PoisonError::into_inner);
        let has_place = suppressed.len() < SUPPRESSED_MAX || suppressed.contains_key(&kind);
        let client = kind.client.filter(|_| has_place);
        *suppressed.entry(RecordKind { client, ..kind }).or_default() += 1;
        self.total.fetch_add(1, Ordering::Relaxed);
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
/// Clients that do nothing wrong cause most of these.
const SERVED_WEIGHT: u32 = 10;
/// Records of one kind in a window that no other clients use up. More than an ordinary client causes.
const OWN_MAX: u32 = 5;
/// The event of a request that a backend answered: a record of each is what a log is for.
const SERVED: &str = "served";
/// Kinds that are counted in a window: about 2 MiB.
const KINDS_MAX: usize = 65_536;
/// More than there are pairs of event and end.
const SHARED_KINDS_MAX: usize = 1024;
/// Lines per second that name a client.
const SUPPRESSED_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::now;

    const RATE: NonZeroU32 = NonZeroU32::MIN;

    fn kind(client: u8, end: &'static str) -> RecordKind {
        RecordKind { client: Some(ClientKey::sample(client)), event: "rejected", end }
    }

    #[tokio::test]
    async fn each_client_and_kind_has_a_rate() {
        let (rates, start) = (RecordRates::default(), now());
        let admitted = |kind, at| (0..15).filter(|_| rates.admit(kind, RATE, at)).count();
        assert_eq!(admitted(kind(1, "no_route"), start), 10);
        assert_eq!(admitted(kind(1, "origin"), start), 10);
        // Its own, and what the first client has left.
        assert_eq!(admitted(kind(2, "no_route"), start), 10);
        let expected = [kind(1, "no_route"), kind(1, "origin"), kind(2, "no_route")];
        assert_eq!(rates.take_suppressed(), expected.map(|kind| (kind, 5)).into());
        assert_eq!(rates.take_suppressed(), HashMap::new());
        assert_eq!(admitted(kind(1, "no_route"), start + Duration::from_secs(9)), 0);
        assert_eq!(admitted(kind(1, "no_route"), start + Duration::from_secs(10)), 10);
        assert_eq!(rates.total.load(Ordering::Relaxed), 15 + 15 + 5);
    }

    #[tokio::test]
    async fn many_clients_have_few_records_each() {
        let (rates, start) = (RecordRates::default(), now());
        let per_second = NonZeroU32::new(20).unwrap();
        let admitted = |client: u8| {
            (0..300).filter(|_| rates.admit(kind(client, "no_route"), per_second, start)).count()
        };
        assert_eq!(admitted(0), 200);
        // Five of its own, and what is left of the 200 after the first client's 195.
        assert_eq!((1..20).map(admitted).collect::<Vec<_>>(), [[10].as_slice(), &[5; 18]].concat());
        // Other kinds are not concerned.
        let other = (0..300).filter(|_| rates.admit(kind(1, "origin"), per_second, start));
        assert_eq!(other.count(), 200);
    }

    #[tokio::test]
    async fn ordinary_records_have_a_higher_rate_or_none() {
        let (rates, start) = (RecordRates::default(), now());
        for (event, end, max) in [
            ("served", "complete", 100),
            ("ended", "client_disconnected", 200),
            ("started", "", 200),
            ("rejected", "client_disconnected", 10),
            ("aborted", "backend_disconnected", 10),
            ("dropped", "tls_failed", 10),
        ] {
            let kind = RecordKind { event, ..kind(1, end) };
            let admitted = (0..200).filter(|_| rates.admit(kind, RATE, start)).count();
            assert_eq!(admitted, max, "{event} {end}");
        }
    }

    #[tokio::test]
    async fn few_lines_name_a_client() {
        let (rates, start) = (RecordRates::default(), now());
        let suppressed = |client: u8| {
            (0..20).filter(|_| !rates.admit(kind(client, "no_route"), RATE, start)).count() as u64
        };
        let total: u64 = (0..=u8::MAX).map(suppressed).sum();
        let lines = rates.take_suppressed();
        let several = RecordKind { client: None, ..kind(0, "no_route") };
        assert_eq!((lines.len(), lines.values().sum()), (SUPPRESSED_MAX + 1, total));
        assert!(lines[&several] > total / 2);
    }
}
