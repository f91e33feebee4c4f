//! Ranks open tunnels and clients by traffic, and summarizes round-trip times.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::ClientKey;
use crate::sessions::info::SessionInfo;
use crate::sessions::registry::SessionHandle;
use crate::sessions::stats::StatsSnapshot;

/// The lists of one moment, and the totals that the next ranking compares with.
#[derive(Debug)]
pub(super) struct Ranking {
    pub(super) lists: TopLists,
    pub(super) totals: TrafficTotals,
}

/// Lists of the status document.
#[derive(Clone, Debug, Default)]
pub(super) struct TopLists {
    /// Clients with the most tunnels.
    pub(super) clients: Vec<Value>,
    /// Tunnels with the highest byte rate since the previous ranking.
    pub(super) tunnels: Vec<Value>,
    /// Latest round-trip times of all tunnels, to clients and to backends.
    pub(super) rtt: [Value; 2],
}

/// Messages and bytes of each tunnel since it opened, by session number.
pub(super) type TrafficTotals = HashMap<u64, (u64, u64)>;

/// Messages and bytes per second of a tunnel or client.
#[derive(Clone, Copy, Debug, Default)]
struct TrafficRates {
    messages: f64,
    bytes: f64,
}

/// Ranks the tunnels. Rates need the previous totals and their age in seconds; without them they
/// are null.
pub(super) fn rank(
    sessions: &[Arc<SessionHandle>],
    previous: Option<(&TrafficTotals, f64)>,
    now: Instant,
) -> Ranking {
    let mut totals = HashMap::with_capacity(sessions.len());
    let mut tunnels = Vec::with_capacity(sessions.len());
    let mut clients: HashMap<ClientKey, (usize, Option<TrafficRates>)> = HashMap::new();
    let mut round_trips = [Vec::new(), Vec::new()];
    for session in sessions {
        let stats = session.stats.snapshot();
        let total = (stats.messages.iter().sum(), stats.bytes.iter().sum());
        totals.insert(session.number, total);
        let rates = previous.map(|(previous, seconds)| {
            // A tunnel that opened since then had a total of zero.
            let before = previous.get(&session.number).copied().unwrap_or_default();
            TrafficRates::between(before, total, seconds)
        });
        let (count, of_client) = clients.entry(session.info.client()).or_default();
        *count += 1;
        if let Some(rates) = rates {
            let of_client = of_client.get_or_insert_default();
            of_client.messages += rates.messages;
            of_client.bytes += rates.bytes;
        }
        for (round_trips, rtt) in round_trips.iter_mut().zip(stats.rtt) {
            round_trips.extend(rtt);
        }
        tunnels.push((session, stats, rates));
    }
    let bytes = |rates: &Option<TrafficRates>| rates.map_or(0.0, |rates| rates.bytes);
    keep_top(&mut tunnels, |(_, stats, rates)| {
        (bytes(rates), stats.bytes.iter().sum::<u64>() as f64)
    });
    let mut clients: Vec<_> = clients.into_iter().collect();
    keep_top(&mut clients, |(_, (count, rates))| (*count as f64, bytes(rates)));
    let lists = TopLists {
        clients: clients.iter().map(|(key, (count, rates))| client(*key, *count, *rates)).collect(),
        tunnels: tunnels
            .iter()
            .map(|(session, stats, rates)| tunnel(session, stats, *rates, now))
            .collect(),
        rtt: round_trips.map(rtt_summary),
    };
    Ranking { lists, totals }
}

impl TrafficRates {
    fn between(before: (u64, u64), after: (u64, u64), seconds: f64) -> Self {
        Self {
            messages: after.0.saturating_sub(before.0) as f64 / seconds,
            bytes: after.1.saturating_sub(before.1) as f64 / seconds,
        }
    }
}

/// Keeps the largest rows, largest first.
fn keep_top<T>(rows: &mut Vec<T>, by: impl Fn(&T) -> (f64, f64)) {
    rows.sort_by(|a, b| {
        let (a, b) = (by(a), by(b));
        b.0.total_cmp(&a.0).then(b.1.total_cmp(&a.1))
    });
    rows.truncate(LIST_LEN_MAX);
}

fn client(key: ClientKey, tunnels: usize, rates: Option<TrafficRates>) -> Value {
    json!({
        "client": key.to_string(),
        "tunnels": tunnels,
        "messages_per_second": rates.map(|rates| rates.messages),
        "bytes_per_second": rates.map(|rates| rates.bytes),
    })
}

fn tunnel(
    session: &SessionHandle,
    stats: &StatsSnapshot,
    rates: Option<TrafficRates>,
    now: Instant,
) -> Value {
    let SessionInfo { counts, opened, .. } = &session.info;
    json!({
        "session": session.number,
        "client": session.info.client().to_string(),
        "route": &*counts.route.name,
        "backend": &*counts.id,
        "age_seconds": now.saturating_duration_since(*opened).as_secs(),
        "messages": stats.messages.iter().sum::<u64>(),
        "bytes": stats.bytes.iter().sum::<u64>(),
        "messages_per_second": rates.map(|rates| rates.messages),
        "bytes_per_second": rates.map(|rates| rates.bytes),
        "rtt_seconds": stats.rtt[0].map(|rtt| rtt.as_secs_f64()),
        "delayed_seconds": {
            "client": stats.delayed[0].as_secs_f64(),
            "backend": stats.delayed[1].as_secs_f64(),
        },
    })
}

fn rtt_summary(mut round_trips: Vec<Duration>) -> Value {
    round_trips.sort_unstable();
    let at = |part: f64| {
        let index = (round_trips.len().saturating_sub(1) as f64 * part).round() as usize;
        round_trips.get(index).map(Duration::as_secs_f64)
    };
    json!({ "tunnels": round_trips.len(), "p50": at(0.5), "p95": at(0.95), "max": at(1.0) })
}

const LIST_LEN_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rtt_summary_handles_few_and_no_values() {
        let ms = |ms| Duration::from_millis(ms);
        let read = rtt_summary((1..=100).rev().map(ms).collect());
        assert_eq!((&read["tunnels"], &read["max"]), (&json!(100), &json!(0.1)));
        assert_eq!(read["p95"], json!(0.095));
        assert_eq!(rtt_summary(vec![ms(7)])["p50"], json!(0.007));
        assert_eq!(rtt_summary(vec![])["p50"], Value::Null);
    }

    #[test]
    fn top_lists_are_bounded() {
        let mut rows: Vec<u64> = (0..1000).collect();
        keep_top(&mut rows, |row| (*row as f64, 0.0));
        assert_eq!(rows, (990..1000).rev().collect::<Vec<_>>());
    }
}
