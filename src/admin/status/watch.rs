//! Who watches, and what moves: the status is made at most twice a second, whoever asks, and
//! rates of single tunnels are what they did since it was made before. Nothing is kept while
//! nobody watches.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::client::ClientKey;
use crate::proxy::state::ProxyState;
use crate::sessions::info::SessionInfo;
use crate::sessions::registry::SessionHandle;
use crate::sessions::stats::StatsSnapshot;
use crate::sys::clock::now;

/// The last status that was made.
#[derive(Debug, Default)]
pub struct StatusCache(Mutex<Option<CachedStatus>>);

#[derive(Debug)]
struct CachedStatus {
    at: Instant,
    body: Bytes,
    ranked: TopLists,
    /// Messages and bytes of each session.
    sums: HashMap<u64, (u64, u64)>,
}

/// What stands out among the open tunnels.
#[derive(Clone, Debug, Default)]
pub(super) struct TopLists {
    /// Clients with the most tunnels.
    pub(super) clients: Vec<Value>,
    /// Tunnels that moved the most bytes of late.
    pub(super) tunnels: Vec<Value>,
    /// Last round trips of all tunnels, to clients and to backends.
    pub(super) rtt: [Value; 2],
}

/// A second's worth of one tunnel or client.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TrafficRates {
    messages: f64,
    bytes: f64,
}

impl StatusCache {
    /// The same as a value, as things are now; only what stands out may be half a second old.
    pub fn status(&self, gate: &ProxyState) -> Value {
        drop(self.body(gate));
        let ranked = self.lock().as_ref().map(|made| made.ranked.clone());
        crate::admin::status::status(gate, &ranked.unwrap_or_default())
    }

    /// `/status.json`, at most half a second old.
    pub fn body(&self, gate: &ProxyState) -> Bytes {
        let mut made = self.lock();
        let now = now();
        if let Some(made) = &*made
            && now.duration_since(made.at) < MADE_EVERY
        {
            return made.body.clone();
        }
        let (ranked, sums) = rank(&gate.registry.lines(), made.as_ref(), now);
        let body = Bytes::from(format!("{}\n", crate::admin::status::status(gate, &ranked)));
        *made = Some(CachedStatus { at: now, body: body.clone(), ranked, sums });
        body
    }

    /// Lets go of it once nobody has asked for a while.
    pub fn sweep(&self) {
        let mut made = self.lock();
        if made.as_ref().is_some_and(|made| now().duration_since(made.at) > KEPT_MAX) {
            *made = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<CachedStatus>> {
        // Put in whole, or not at all.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type TrafficTotals = HashMap<u64, (u64, u64)>;

fn rank(
    lines: &[Arc<SessionHandle>],
    before: Option<&CachedStatus>,
    now: Instant,
) -> (TopLists, TrafficTotals) {
    let mut sums = HashMap::with_capacity(lines.len());
    let mut tunnels = Vec::with_capacity(lines.len());
    let mut clients: HashMap<ClientKey, (usize, Option<TrafficRates>)> = HashMap::new();
    let mut trips = [Vec::new(), Vec::new()];
    for line in lines {
        let figures = line.live.figures();
        let sum = (figures.messages.iter().sum(), figures.bytes.iter().sum());
        sums.insert(line.session, sum);
        // The first time for a while, there is nothing to compare with.
        let rates = before.map(|made| made.rates(line.session, sum, now));
        let (count, of_client) = clients.entry(line.facts.client()).or_default();
        *count += 1;
        if let Some(rates) = rates {
            let of_client = of_client.get_or_insert_default();
            of_client.messages += rates.messages;
            of_client.bytes += rates.bytes;
        }
        for (trips, rtt) in trips.iter_mut().zip(figures.rtt) {
            trips.extend(rtt);
        }
        tunnels.push((line, figures, rates));
    }
    let bytes = |rates: &Option<TrafficRates>| rates.map_or(0.0, |rates| rates.bytes);
    keep_top(&mut tunnels, |(_, figures, rates)| {
        (bytes(rates), figures.bytes.iter().sum::<u64>() as f64)
    });
    let mut clients: Vec<_> = clients.into_iter().collect();
    keep_top(&mut clients, |(_, (count, rates))| (*count as f64, bytes(rates)));
    let ranked = TopLists {
        clients: clients.iter().map(|(key, (count, rates))| client(*key, *count, *rates)).collect(),
        tunnels: tunnels
            .iter()
            .map(|(line, figures, rates)| tunnel(line, figures, *rates, now))
            .collect(),
        rtt: trips.map(quantiles),
    };
    (ranked, sums)
}

impl CachedStatus {
    fn rates(&self, session: u64, sum: (u64, u64), now: Instant) -> TrafficRates {
        let seconds = now.duration_since(self.at).as_secs_f64();
        // One that was not there yet has done all of it since.
        let (messages, bytes) = self.sums.get(&session).copied().unwrap_or_default();
        TrafficRates {
            messages: sum.0.saturating_sub(messages) as f64 / seconds,
            bytes: sum.1.saturating_sub(bytes) as f64 / seconds,
        }
    }
}

/// Keeps the largest few, largest first.
fn keep_top<T>(rows: &mut Vec<T>, by: impl Fn(&T) -> (f64, f64)) {
    rows.sort_by(|a, b| {
        let (a, b) = (by(a), by(b));
        b.0.total_cmp(&a.0).then(b.1.total_cmp(&a.1))
    });
    rows.truncate(RANKED_MAX);
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
    line: &SessionHandle,
    figures: &StatsSnapshot,
    rates: Option<TrafficRates>,
    now: Instant,
) -> Value {
    let SessionInfo { counts, opened, .. } = &line.facts;
    json!({
        "session": line.session,
        "client": line.facts.client().to_string(),
        "route": &*counts.route.name,
        "backend": &*counts.id,
        "age_seconds": now.saturating_duration_since(*opened).as_secs(),
        "messages": figures.messages.iter().sum::<u64>(),
        "bytes": figures.bytes.iter().sum::<u64>(),
        "messages_per_second": rates.map(|rates| rates.messages),
        "bytes_per_second": rates.map(|rates| rates.bytes),
        "rtt_seconds": figures.rtt[0].map(|rtt| rtt.as_secs_f64()),
        "delayed_seconds": {
            "client": figures.delayed[0].as_secs_f64(),
            "backend": figures.delayed[1].as_secs_f64(),
        },
    })
}

fn quantiles(mut trips: Vec<Duration>) -> Value {
    trips.sort_unstable();
    let at = |part: f64| {
        let place = (trips.len().saturating_sub(1) as f64 * part).round() as usize;
        trips.get(place).map(Duration::as_secs_f64)
    };
    json!({ "tunnels": trips.len(), "p50": at(0.5), "p95": at(0.95), "max": at(1.0) })
}

/// Rows of each list.
const RANKED_MAX: usize = 10;
const MADE_EVERY: Duration = Duration::from_millis(500);
const KEPT_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_few_and_of_none() {
        let ms = |ms| Duration::from_millis(ms);
        let read = quantiles((1..=100).rev().map(ms).collect());
        assert_eq!((&read["tunnels"], &read["max"]), (&json!(100), &json!(0.1)));
        assert_eq!(read["p95"], json!(0.095));
        assert_eq!(quantiles(vec![ms(7)])["p50"], json!(0.007));
        assert_eq!(quantiles(vec![])["p50"], Value::Null);
    }

    #[test]
    fn lists_are_short() {
        let mut rows: Vec<u64> = (0..1000).collect();
        keep_top(&mut rows, |row| (*row as f64, 0.0));
        assert_eq!(rows, (990..1000).rev().collect::<Vec<_>>());
    }
}
