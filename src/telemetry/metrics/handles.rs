//! What is counted of a listener, a route and a backend: handles that each of them keeps, so that
//! nothing is looked up when something happens.

use std::sync::Arc;
use std::time::Duration;

use ws::{CloseCodes, LimitKind, MessageSizes, Side, TerminationReason, Violation};

use super::causes::{self, CODES, DELAYS, ENDED, OFFENCES};
use super::counters::{Counter, Counters, DurationHistogram, HistogramBounds, SizeCounts};

/// What is counted of a listener.
#[derive(Debug, Default)]
pub struct ListenerCounts {
    /// As configured.
    pub name: Arc<str>,
    /// Connections open now.
    pub open: Counter,
    /// Connections accepted.
    pub opened: Counter,
    /// Times that accepting paused.
    pub pauses: Counter,
}

/// One open connection of a listener.
#[derive(Debug)]
pub struct OpenConnection(Arc<ListenerCounts>);

/// What is counted of a route.
#[derive(Debug, Default)]
pub struct RouteCounts {
    /// As configured.
    pub name: Arc<str>,
    /// Client to backend.
    pub up: FlowCounts,
    /// Backend to client.
    pub down: FlowCounts,
    /// From a read to the end of the write that it led to, sampled.
    pub late: DurationHistogram<RelayDelayBounds>,
    /// Ages of tunnels at their end.
    pub durations: DurationHistogram<TunnelAgeBounds>,
    /// Plain requests that a backend answered.
    pub requests: Counter,
    pub(super) rtt: [DurationHistogram<RttBounds>; 2],
    pub(super) ends: Counters<ENDED>,
    pub(super) reported: [Counters<OFFENCES>; 2],
    pub(super) delayed: [Counters<DELAYS>; 2],
    pub(super) delayed_millis: [Counter; 2],
    pub(super) closes: [Counters<CODES>; 2],
}

/// What is counted of one direction.
#[derive(Debug, Default)]
pub struct FlowCounts {
    /// Bytes of frames.
    pub bytes: Counter,
    /// Whole messages.
    pub messages: Counter,
    /// Compressed ones among them.
    pub compressed: Counter,
    pub(super) sizes: SizeCounts,
}

/// What is counted of a backend of a route.
#[derive(Debug, Default)]
pub struct BackendCounts {
    /// Whose it is.
    pub route: Arc<RouteCounts>,
    /// As configured.
    pub id: Arc<str>,
    /// Tunnels open now.
    pub open: Counter,
    /// Tunnels opened.
    pub opened: Counter,
    /// Connections that it did not take.
    pub refused: Counter,
}

impl ListenerCounts {
    /// A connection was accepted; it is open until the answer is dropped.
    pub fn accepted(self: &Arc<Self>) -> OpenConnection {
        self.opened.add_one();
        self.open.add_one();
        OpenConnection(self.clone())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.take_one();
    }
}

impl FlowCounts {
    /// So much more was relayed.
    #[inline]
    pub fn relayed(&self, bytes: u64, messages: u64, compressed: u64, sizes: &MessageSizes) {
        self.bytes.add(bytes);
        if messages > 0 {
            self.messages.add(messages);
        }
        if compressed > 0 {
            self.compressed.add(compressed);
        }
        self.sizes.add(sizes);
    }
}

impl RouteCounts {
    /// A side answered a ping.
    pub fn pong(&self, side: Side, rtt: Duration) {
        self.rtt[causes::side_place(side)].observe(rtt);
    }

    /// A tunnel did what it would have been closed for, had the rule not been set to `report`.
    pub fn would_have_closed(&self, side: Side, offence: Violation) {
        self.reported[causes::side_place(side)].add_one(causes::offence(offence));
    }

    /// A side was made to wait for so much longer.
    pub fn waited(&self, side: Side, millis: u64) {
        self.delayed_millis[causes::side_place(side)].add(millis);
    }

    /// A tunnel's side was made to wait by this limit, for the first time.
    pub fn delayed(&self, side: Side, rule: LimitKind) {
        if let Some(place) = causes::delay(rule) {
            self.delayed[causes::side_place(side)].add_one(place);
        }
    }

    fn ended(&self, end: TerminationReason, closes: CloseCodes, age: Duration) {
        self.ends.add_one(causes::ended(end));
        self.durations.observe(age);
        for (side, code) in [(Side::Client, closes.to_client), (Side::Backend, closes.to_backend)] {
            if let Some(code) = code {
                self.closes[causes::side_place(side)].add_one(causes::code(code));
            }
        }
    }
}

impl BackendCounts {
    /// A tunnel began; [`BackendCounts::ended`] is called once for each.
    pub fn began(&self) {
        self.opened.add_one();
        self.open.add_one();
    }

    /// A tunnel that began is over.
    pub fn ended(&self, end: TerminationReason, closes: CloseCodes, age: Duration) {
        self.open.take_one();
        self.route.ended(end, closes, age);
    }
}

/// Bounds for parts of a handshake.
#[derive(Debug)]
pub struct HandshakeBounds;

impl HistogramBounds for HandshakeBounds {
    const NANOS: &'static [u64] = &[
        500_000,
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        25_000_000,
        50_000_000,
        100_000_000,
        250_000_000,
        500_000_000,
        1_000_000_000,
        2_500_000_000,
        5_000_000_000,
        10_000_000_000,
    ];
}

/// Bounds for round trips to a peer.
#[derive(Debug)]
pub struct RttBounds;

impl HistogramBounds for RttBounds {
    const NANOS: &'static [u64] = HandshakeBounds::NANOS;
}

/// Bounds for what tidegate itself adds to a message's way.
#[derive(Debug)]
pub struct RelayDelayBounds;

impl HistogramBounds for RelayDelayBounds {
    const NANOS: &'static [u64] = &[
        10_000,
        25_000,
        50_000,
        100_000,
        250_000,
        500_000,
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        50_000_000,
        250_000_000,
        1_000_000_000,
        10_000_000_000,
    ];
}

/// Bounds for the age of a tunnel: from a tenth of a second to a week.
#[derive(Debug)]
pub struct TunnelAgeBounds;

impl HistogramBounds for TunnelAgeBounds {
    const NANOS: &'static [u64] = &[
        100_000_000,
        1_000_000_000,
        10_000_000_000,
        60_000_000_000,
        300_000_000_000,
        900_000_000_000,
        3_600_000_000_000,
        14_400_000_000_000,
        43_200_000_000_000,
        86_400_000_000_000,
        604_800_000_000_000,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::counters::TIMES_MAX;

    #[test]
    fn bounds_ascend_and_have_room() {
        for bounds in [
            HandshakeBounds::NANOS,
            RttBounds::NANOS,
            RelayDelayBounds::NANOS,
            TunnelAgeBounds::NANOS,
        ] {
            assert!(bounds.is_sorted() && bounds.len() <= TIMES_MAX);
        }
    }
}
