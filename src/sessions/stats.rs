//! What is known of one open session while it runs: its figures, for the status page, and through
//! its handles what all sessions add up to. One writer, the session's own task; no lock.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use ws::{DirectionStats, MessageSizes, ReportedViolations, Rtt, Session, Side, Violation};

use crate::client::ClientKey;
use crate::telemetry::events::{TunnelSide, delaying, would_close};
use crate::telemetry::metrics::handles::{BackendCounts, FlowCounts, RouteCounts};
use crate::tunnel::progress::WakeProgress;

/// The figures of a session, kept small: there is one for every open socket.
#[derive(Debug, Default)]
pub struct SessionStats {
    up: TrafficStats,
    down: TrafficStats,
    rtt: [AtomicU32; 2],
    /// How long each side was made to wait, in milliseconds.
    delayed: [AtomicU32; 2],
}

/// Whose figures they are.
#[derive(Clone, Copy)]
pub struct SessionRef<'a> {
    /// Number of the session.
    pub session: u64,
    /// Whose it is.
    pub client: ClientKey,
    /// Where it leads, and by which route.
    pub counts: &'a BackendCounts,
}

/// What was relayed in one direction.
#[derive(Debug, Default)]
struct TrafficStats {
    bytes: AtomicU64,
    messages: AtomicU64,
}

/// The figures at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// Bytes client to backend, and back.
    pub bytes: [u64; 2],
    /// Messages client to backend, and back.
    pub messages: [u64; 2],
    /// Last round trip to the client, and to the backend.
    pub rtt: [Option<Duration>; 2],
    /// How long the client was made to wait as it came too fast, and the backend.
    pub delayed: [Duration; 2],
}

/// What the session's task remembers from one wake to the next.
#[derive(Debug, Default)]
pub struct LastCounted {
    compressed: [u32; 2],
    /// The lower half: it only has to differ.
    answers: [u16; 2],
    /// What each side was made to wait for, or would have been closed for: no rule does both.
    met: [ReportedViolations; 2],
}

impl SessionStats {
    /// The figures now.
    pub fn figures(&self) -> StatsSnapshot {
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

    /// Counts what passed since the last call.
    #[inline]
    pub fn relayed(
        &self,
        owner: SessionRef<'_>,
        seen: &mut LastCounted,
        progress: &WakeProgress<'_>,
    ) {
        let tally = progress.session.stats();
        let route = &owner.counts.route;
        self.up.advance(&tally.up, &mut seen.compressed[0], progress.up, &route.up);
        self.down.advance(&tally.down, &mut seen.compressed[1], progress.down, &route.down);
        if let Some(late) = progress.latency {
            route.relay_delay.observe(late);
        }
        for (place, side) in Side::BOTH.into_iter().enumerate() {
            let answers = progress.session.rtt_count(side) as u16;
            if seen.answers[place] != answers {
                seen.answers[place] = answers;
                progress.session.rtt(side).inspect(|rtt| self.pong(route, side, *rtt));
            }
            let delayed = progress.session.read_delays(side);
            self.waited(route, side, delayed.time);
            let met = progress.session.reported(side).union(delayed.by);
            if met != seen.met[place] {
                tell(owner, seen.met[place], progress.session, side);
                seen.met[place] = met;
            }
        }
    }

    fn pong(&self, route: &RouteCounts, side: Side, rtt: Rtt) {
        let units = u32::try_from(rtt.last.as_nanos() / u128::from(RTT_UNIT)).unwrap_or(u32::MAX);
        self.rtt[side as usize].store(units.max(1), Ordering::Relaxed);
        route.observe_rtt(side, rtt.last);
    }

    /// A side waited for so long, in all.
    #[inline]
    fn waited(&self, route: &RouteCounts, side: Side, time: Duration) {
        let delayed = &self.delayed[side as usize];
        let before = delayed.load(Ordering::Relaxed);
        let millis = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        if millis != before {
            delayed.store(millis, Ordering::Relaxed);
            route.add_delay(side, u64::from(millis.saturating_sub(before)));
        }
    }
}

/// The one place where what was met, and let pass or made to wait for, is counted and told of: once
/// a tunnel.
#[cold]
fn tell(owner: SessionRef<'_>, before: ReportedViolations, session: &Session, side: Side) {
    let route = &owner.counts.route;
    let (client, backend, policy) = (owner.client, &owner.counts.id, session.policy());
    let party =
        TunnelSide { session: owner.session, client, route: &route.name, backend, policy, side };
    for offence in session.reported(side).since(before) {
        route.violation_reported(side, offence);
        would_close(party, offence);
    }
    for offence in session.read_delays(side).by.since(before) {
        if let Violation::LimitExceeded(rule) = offence {
            route.tunnel_delayed(side, rule);
            delaying(party, rule);
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
        // Counts of one wake are small, so that the lower half tells them.
        let now = flow.compressed as u32;
        let more = now.wrapping_sub(*compressed);
        *compressed = now;
        counts.add(flow.bytes - before, flow.messages - messages, u64::from(more), sizes);
    }
}

/// Nanoseconds: a round trip of up to seven minutes fits into 32 bits. 0 is none yet.
const RTT_UNIT: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_session_adds_up_to_arrives_once() {
        let live = SessionStats::default();
        let (mut compressed, mut sizes) = (0, MessageSizes::default());
        sizes.add(10);
        let mut flow = DirectionStats { bytes: 12, messages: 1, compressed: 1, largest: 10 };
        let counts = &FlowCounts::default();
        for _ in 0..2 {
            live.up.advance(&flow, &mut compressed, &sizes, counts);
        }
        assert_eq!(
            (counts.bytes.get(), counts.messages.get(), counts.compressed.get()),
            (12, 1, 1)
        );
        flow = DirectionStats { bytes: 20, messages: 1, compressed: 1, largest: 10 };
        live.up.advance(&flow, &mut compressed, &MessageSizes::default(), counts);
        assert_eq!(
            (counts.bytes.get(), counts.messages.get(), counts.compressed.get()),
            (20, 1, 1)
        );
        assert_eq!((live.figures().bytes, live.figures().messages), ([20, 0], [1, 0]));
    }

    #[test]
    fn a_round_trip_counts_when_it_is_new() {
        let live = SessionStats::default();
        let last = Duration::from_micros(1500);
        for _ in 0..3 {
            live.pong(&RouteCounts::default(), Side::Client, Rtt { last, max: last, answers: 1 });
        }
        assert_eq!(live.figures().rtt, [Some(last), None]);
    }

    #[test]
    fn a_wait_adds_up_once() {
        let (live, route) = (SessionStats::default(), RouteCounts::default());
        for millis in [0, 20, 20, 1500] {
            live.waited(&route, Side::Backend, Duration::from_millis(millis));
        }
        assert_eq!(live.figures().delayed, [Duration::ZERO, Duration::from_millis(1500)]);
        let seconds = Side::BOTH.map(|side| route.delay_seconds(side));
        assert_eq!(seconds, [0.0, 1.5]);
    }
}
