//! The counters of each listener, route and backend. Every owner keeps its own handle, so that
//! counting needs no lookup.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use ws::{CloseCodes, LimitKind, MessageSizes, Side, TerminationReason, Violation};

use super::chosen_by::ChosenBy;
use super::counters::{Counter, Counters, DurationHistogram, HistogramBounds, SizeHistogram};
use super::reasons::{self, CLOSE_CODES, DELAYS, TERMINATIONS, VIOLATIONS};

/// The counters of one listener.
#[derive(Debug, Default)]
pub struct ListenerCounts {
    /// Name of the listener, as configured.
    pub name: Arc<str>,
    /// Gauge: connections that are open now.
    pub open: Counter,
    /// Connections accepted since the process started.
    pub opened: Counter,
    /// Pauses of the accept loop.
    pub pauses: Counter,
}

/// Keeps one connection counted as open until it is dropped.
#[derive(Debug)]
pub struct OpenConnection(Arc<ListenerCounts>);

/// The counters of one route.
#[derive(Debug, Default)]
pub struct RouteCounts {
    /// Name of the route, as configured.
    pub name: Arc<str>,
    /// Traffic from clients to backends.
    pub up: FlowCounts,
    /// Traffic from backends to clients.
    pub down: FlowCounts,
    /// Time from a read to the end of the write of the same bytes; sampled.
    pub relay_latency: DurationHistogram<RelayLatencyBounds>,
    /// Lifetimes of tunnels that ended.
    pub durations: DurationHistogram<TunnelAgeBounds>,
    /// Plain HTTP requests that were answered, from the complete request head to the end of the
    /// response.
    pub request_durations: DurationHistogram<RequestBounds>,
    /// The same requests by the class of their status, in the order of [`STATUS_CLASSES`].
    pub(super) requests: Counters<{ STATUS_CLASSES.len() }>,
    /// Handshakes and plain requests by why their backend was tried first.
    pub(super) choices: Counters<{ ChosenBy::ALL.len() }>,
    /// Headers of requests that were not forwarded because of an underscore in their names.
    pub headers_dropped: Counter,
    pub(super) rtt: [DurationHistogram<RttBounds>; 2],
    pub(super) terminations: Counters<TERMINATIONS>,
    pub(super) reported: [Counters<VIOLATIONS>; 2],
    pub(super) delayed: [Counters<DELAYS>; 2],
    pub(super) delayed_millis: [Counter; 2],
    pub(super) closes: [Counters<CLOSE_CODES>; 2],
}

/// The traffic counters of one direction.
#[derive(Debug, Default)]
pub struct FlowCounts {
    /// Bytes of frames, including frame headers.
    pub bytes: Counter,
    /// Complete messages, of any type.
    pub messages: Counter,
    /// Complete messages that were compressed.
    pub compressed: Counter,
    pub(super) sizes: SizeHistogram,
}

/// The counters of one backend of a route.
#[derive(Debug, Default)]
pub struct BackendCounts {
    /// The counters of its route.
    pub route: Arc<RouteCounts>,
    /// Id of the backend.
    pub id: Arc<str>,
    /// The id of the name in the configuration that its address belonged to when it was first used.
    pub name: Option<Arc<str>>,
    /// The address, if these are the tunnels at one address of a name whose addresses are one backend.
    pub address: Option<Arc<str>>,
    /// The counters of that backend.
    pub of_name: Option<Arc<BackendCounts>>,
    /// Gauge: tunnels that are open now.
    pub open: Counter,
    /// Gauge: tunnels that are counted by address instead.
    pub open_by_address: Counter,
    /// Tunnels opened since the process started; those at one address count for the name.
    pub opened: Counter,
    /// Attempts to connect to the backend that failed.
    pub connect_failures: Counter,
    /// Ejections because of failed responses.
    pub ejections: Counter,
    /// Successful and failed probes of `[pool.probe]`.
    pub probes: [Counter; 2],
}

impl ListenerCounts {
    /// Counts an accepted connection. It counts as open until the returned value is dropped.
    pub fn accepted(self: &Arc<Self>) -> OpenConnection {
        self.opened.inc();
        self.open.inc();
        OpenConnection(self.clone())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.dec();
    }
}

impl FlowCounts {
    /// Adds traffic that was relayed since the last report.
    #[inline]
    pub fn add(&self, bytes: u64, messages: u64, compressed: u64, sizes: &MessageSizes) {
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
    /// Records the round-trip time of one ping to `side`.
    pub fn observe_rtt(&self, side: Side, rtt: Duration) {
        self.rtt[reasons::side_index(side)].observe(rtt);
    }

    /// Counts a plain request that was answered with this status, by a backend or by the proxy itself.
    pub fn request_answered(&self, status: StatusCode, time: Duration) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(2);
        self.requests.inc(class.min(STATUS_CLASSES.len() - 1));
        self.request_durations.observe(time);
    }

    /// Counts the first violation of its kind by one side of a tunnel, where the action is `report`.
    pub fn violation_reported(&self, side: Side, violation: Violation) {
        self.reported[reasons::side_index(side)].inc(reasons::violation_index(violation));
    }

    /// Counts a handshake or plain request for which a backend was chosen.
    pub fn backend_chosen(&self, by: ChosenBy) {
        self.choices.inc(by as usize);
    }

    /// Adds time, in milliseconds, that reads from `side` were delayed.
    pub fn add_delay(&self, side: Side, millis: u64) {
        self.delayed_millis[reasons::side_index(side)].add(millis);
    }

    /// Counts the first delay of one side of a tunnel by this limit.
    pub fn tunnel_delayed(&self, side: Side, limit: LimitKind) {
        if let Some(index) = reasons::delay_index(limit) {
            self.delayed[reasons::side_index(side)].inc(index);
        }
    }

    fn tunnel_ended(&self, reason: TerminationReason, closes: CloseCodes, age: Duration) {
        self.terminations.inc(reasons::termination_index(reason));
        self.durations.observe(age);
        for (side, code) in [(Side::Client, closes.to_client), (Side::Backend, closes.to_backend)] {
            if let Some(code) = code {
                self.closes[reasons::side_index(side)].inc(reasons::close_code_index(code));
            }
        }
    }
}

impl BackendCounts {
    /// The id in the configuration: that of the backend, or of the name that its address belongs to.
    pub fn listed_id(&self) -> &Arc<str> {
        self.name.as_ref().unwrap_or(&self.id)
    }

    /// The address of a name that its tunnels were opened to, or else the id.
    pub fn place(&self) -> &Arc<str> {
        self.address.as_ref().unwrap_or(&self.id)
    }

    /// Whether a tunnel of it is open, at whatever address.
    pub fn has_tunnels(&self) -> bool {
        self.open.get() + self.open_by_address.get() > 0
    }

    /// Counts a new tunnel. [`BackendCounts::tunnel_ended`] must follow exactly once.
    pub fn tunnel_opened(&self) {
        if let Some(of_name) = &self.of_name {
            of_name.open_by_address.inc();
        }
        self.of_name.as_deref().unwrap_or(self).opened.inc();
        self.open.inc();
    }

    /// Counts the end of a tunnel: its reason, the close codes sent and its lifetime.
    pub fn tunnel_ended(&self, reason: TerminationReason, closes: CloseCodes, age: Duration) {
        self.open.dec();
        if let Some(of_name) = &self.of_name {
            of_name.open_by_address.dec();
        }
        self.route.tunnel_ended(reason, closes, age);
    }
}

/// The classes of a final status; the last one is for those that RFC 9110 does not define.
pub(super) const STATUS_CLASSES: [&str; 5] = ["2xx", "3xx", "4xx", "5xx", "other"];

/// Bounds for the duration of a plain request: 1 ms to 5 min, since a long poll takes about 25 s.
#[derive(Debug)]
pub struct RequestBounds;

impl HistogramBounds for RequestBounds {
    const NANOS: &'static [u64] = &[
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
        10_000_000_000,
        30_000_000_000,
        60_000_000_000,
        300_000_000_000,
    ];
}

/// Bounds for the stages of a handshake: 0.5 ms to 10 s.
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

/// Bounds for ping round-trip times: 0.5 ms to 10 s.
#[derive(Debug)]
pub struct RttBounds;

impl HistogramBounds for RttBounds {
    const NANOS: &'static [u64] = HandshakeBounds::NANOS;
}

/// Bounds for the latency that tidegate adds to a message: 10 µs to 10 s.
#[derive(Debug)]
pub struct RelayLatencyBounds;

impl HistogramBounds for RelayLatencyBounds {
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

/// Bounds for the lifetime of a tunnel: 0.1 s to one week.
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
    use crate::telemetry::metrics::counters::BOUNDS_MAX;

    #[test]
    fn bounds_ascend_and_fit() {
        for bounds in [
            HandshakeBounds::NANOS,
            RequestBounds::NANOS,
            RttBounds::NANOS,
            RelayLatencyBounds::NANOS,
            TunnelAgeBounds::NANOS,
        ] {
            assert!(bounds.is_sorted() && bounds.len() <= BOUNDS_MAX);
        }
    }
}
