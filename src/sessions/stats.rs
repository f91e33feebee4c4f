//! Statistics of one open session, for the status page and the control socket. Each update also
//! adds to the metrics of the route and the backend. Only the session's own task writes; there is
//! no lock.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use ws::{DirectionStats, MessageSizes, ReportedViolations, Rtt, Session, Side, Violation};

use crate::client::ClientKey;
use crate::telemetry::events::{TunnelSide, delaying, would_close};
use crate::telemetry::metrics::handles::{BackendCounts, FlowCounts, RouteCounts};
use crate::tunnel::progress::WakeProgress;

/// The statistics of a session. Kept small, as every open tunnel holds one.
#[derive(Debug, Default)]
pub struct SessionStats {
    up: TrafficStats,
    down: TrafficStats,
    rtt: [AtomicU32; 2],
    /// Total time for which reading from each side was delayed, in milliseconds.
    delayed: [AtomicU32; 2],
}

/// The session that statistics belong to.
#[derive(Clone, Copy)]
pub struct SessionRef<'a> {
    /// Its number.
    pub number: u64,
    /// Key of its client.
    pub client: ClientKey,
    /// Metrics of its route and backend.
    pub counts: &'a BackendCounts,
}

/// Traffic of one direction.
#[derive(Debug, Default)]
struct TrafficStats {
    bytes: AtomicU64,
    messages: AtomicU64,
}

/// The statistics at one point in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// Bytes relayed: client to backend, backend to client.
    pub bytes: [u64; 2],
    /// Messages relayed: client to backend, backend to client.
    pub messages: [u64; 2],
    /// Last round-trip time of a ping: client, backend.
    pub rtt: [Option<Duration>; 2],
    /// Total delay by rate limits: client, backend.
    pub delayed: [Duration; 2],
}

/// What has been added to the metrics already, so that each wake adds the difference.
#[derive(Debug, Default)]
pub struct LastCounted {
    compressed: [u32; 2],
    /// Lower bits of the number of round-trip measurements; used only to detect a new one.
    rtt_counts: [u16; 2],
    /// Limits that delayed each side or would have closed it; a limit does one or the other.
    violations: [ReportedViolations; 2],
}

impl SessionStats {
    /// Reads the current values.
    pub fn snapshot(&self) -> StatsSnapshot {
        let rtt = |side: usize| match self.rtt[side].load(Ordering::Relaxed) {
            0 => None,
            units => Some(Duration::from_nanos(u64::from(units) * RTT_UNIT)),
        };
        StatsSnapshot {
            bytes: [&self.up, &self.down].map(|flow| flow.bytes.load(Ordering::Relaxed)),
            messages: [&self.up, &self.down].map(|flow| flow.messages.load(Ordering::Relaxed)),
            rtt: [rtt(0), rtt(1)],
            delayed: [0, 1].map(|side| {
                Duration::from_millis(self.delayed[side].load(Ordering::Relaxed).into())
            }),
        }
    }

    /// Records the progress since the last call, here and in the metrics.
    #[inline]
    pub fn record(
        &self,
        session: SessionRef<'_>,
        counted: &mut LastCounted,
        progress: &WakeProgress<'_>,
    ) {
        let stats = progress.session.stats();
        let route = &session.counts.route;
        self.up.advance(&stats.up, &mut counted.compressed[0], progress.up, &route.up);
        self.down.advance(&stats.down, &mut counted.compressed[1], progress.down, &route.down);
        if let Some(latency) = progress.latency {
            route.relay_latency.observe(latency);
        }
        for (index, side) in Side::BOTH.into_iter().enumerate() {
            let rtt_count = progress.session.rtt_count(side) as u16;
            if counted.rtt_counts[index] != rtt_count {
                counted.rtt_counts[index] = rtt_count;
                progress.session.rtt(side).inspect(|rtt| self.record_rtt(route, side, *rtt));
            }
            let delayed = progress.session.read_delays(side);
            self.record_delay(route, side, delayed.time);
            let violations = progress.session.reported(side).union(delayed.by);
            if violations != counted.violations[index] {
                report_violations(session, counted.violations[index], progress.session, side);
                counted.violations[index] = violations;
            }
        }
    }

    fn record_rtt(&self, route: &RouteCounts, side: Side, rtt: Rtt) {
        let units = u32::try_from(rtt.last.as_nanos() / u128::from(RTT_UNIT)).unwrap_or(u32::MAX);
        self.rtt[side as usize].store(units.max(1), Ordering::Relaxed);
        route.observe_rtt(side, rtt.last);
    }

    /// Stores the total delay of a side.
    #[inline]
    fn record_delay(&self, route: &RouteCounts, side: Side, time: Duration) {
        let delayed = &self.delayed[side as usize];
        let before = delayed.load(Ordering::Relaxed);
        let millis = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        if millis != before {
            delayed.store(millis, Ordering::Relaxed);
            route.add_delay(side, u64::from(millis.saturating_sub(before)));
        }
    }
}

/// Counts and logs limits that were exceeded for the first time in this tunnel and did not close
/// it.
#[cold]
fn report_violations(
    session: SessionRef<'_>,
    before: ReportedViolations,
    state: &Session,
    side: Side,
) {
    let route = &session.counts.route;
    let (client, backend, policy) = (session.client, &session.counts.id, state.policy());
    let at =
        TunnelSide { session: session.number, client, route: &route.name, backend, policy, side };
    // Of several limits on sizes, it is not known which one it belongs to.
    let size = state.reported_size(side).filter(|_| state.reported(side).sizes() == 1);
    for violation in state.reported(side).since(before) {
        route.violation_reported(side, violation);
        let is_size = matches!(violation, Violation::LimitExceeded(limit) if limit.is_size());
        would_close(at, violation, size.filter(|_| is_size));
    }
    for violation in state.read_delays(side).by.since(before) {
        if let Violation::LimitExceeded(limit) = violation {
            route.tunnel_delayed(side, limit);
            delaying(at, limit);
        }
    }
}

impl TrafficStats {
    #[inline]
    fn advance(
        &self,
        flow: &DirectionStats,
        compressed: &mut u32,
        sizes: &MessageSizes,
        counts: &FlowCounts,
    ) {
        let before = self.bytes.load(Ordering::Relaxed);
        if flow.bytes == before {
            return;
        }
        self.bytes.store(flow.bytes, Ordering::Relaxed);
        let messages = self.messages.load(Ordering::Relaxed);
        if flow.messages != messages {
            self.messages.store(flow.messages, Ordering::Relaxed);
        }
        // One wake adds less than 2^32 messages, so the lower half is enough for the difference.
        let now = flow.compressed as u32;
        let more = now.wrapping_sub(*compressed);
        *compressed = now;
        counts.add(flow.bytes - before, flow.messages - messages, u64::from(more), sizes);
    }
}

/// Unit of stored round-trip times, in nanoseconds: up to seven minutes fit into 32 bits. 0 means
/// none yet.
const RTT_UNIT: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_added_to_metrics_once() {
        let stats = SessionStats::default();
        let (mut compressed, mut sizes) = (0, MessageSizes::default());
        sizes.add(10);
        let mut flow = DirectionStats { bytes: 12, messages: 1, compressed: 1, largest: 10 };
        let counts = &FlowCounts::default();
        for _ in 0..2 {
            stats.up.advance(&flow, &mut compressed, &sizes, counts);
        }
        assert_eq!(
            (counts.bytes.get(), counts.messages.get(), counts.compressed.get()),
            (12, 1, 1)
        );
        flow = DirectionStats { bytes: 20, messages: 1, compressed: 1, largest: 10 };
        stats.up.advance(&flow, &mut compressed, &MessageSizes::default(), counts);
        assert_eq!(
            (counts.bytes.get(), counts.messages.get(), counts.compressed.get()),
            (20, 1, 1)
        );
        assert_eq!((stats.snapshot().bytes, stats.snapshot().messages), ([20, 0], [1, 0]));
    }

    #[test]
    fn keeps_the_last_round_trip() {
        let stats = SessionStats::default();
        let last = Duration::from_micros(1500);
        for _ in 0..3 {
            stats.record_rtt(
                &RouteCounts::default(),
                Side::Client,
                Rtt { last, max: last, answers: 1 },
            );
        }
        assert_eq!(stats.snapshot().rtt, [Some(last), None]);
    }

    #[test]
    fn total_delay_is_added_once() {
        let (stats, route) = (SessionStats::default(), RouteCounts::default());
        for millis in [0, 20, 20, 1500] {
            stats.record_delay(&route, Side::Backend, Duration::from_millis(millis));
        }
        assert_eq!(stats.snapshot().delayed, [Duration::ZERO, Duration::from_millis(1500)]);
        let seconds = Side::BOTH.map(|side| route.delay_seconds(side));
        assert_eq!(seconds, [0.0, 1.5]);
    }
}
