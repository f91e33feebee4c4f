//! The metrics of the process. Handles are created by name when a snapshot is built and survive
//! reloads. [`Metrics::scrape`] writes everything in the OpenMetrics text format; `docs/metrics.md`
//! lists every name.

pub(crate) mod backend_state;
pub(crate) mod chosen_by;
pub(crate) mod counters;
pub(crate) mod handles;
pub(crate) mod openmetrics;
pub(crate) mod process;
pub(crate) mod process_snapshot;
pub(crate) mod reasons;
pub(crate) mod scrape;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ws::Side;

use self::chosen_by::ChosenBy;
use self::counters::{Counter, Counters, DurationHistogram};
use self::reasons::{DROPS, REJECTS};
use crate::client::AddrSource;
use crate::reject::RejectReason;
use crate::reject::drop_reason::DropReason;
use crate::telemetry::metrics::handles::{
    BackendCounts, HandshakeBounds, ListenerCounts, RouteCounts, STATUS_CLASSES,
};

/// All metrics of this process.
#[derive(Debug, Default)]
pub struct Metrics {
    dropped: Counters<DROPS>,
    rejected: Counters<REJECTS>,
    redirected: Counter,
    /// Connections of the admin listener that were closed to make room for others.
    pub admin_connections_dropped: Counter,
    /// Heads over HTTP/2 that the library refused.
    pub http2_heads_refused: Counter,
    handshakes: [DurationHistogram<HandshakeBounds>; 4],
    forwarded_addresses: Counters<{ AddrSource::REPORTED.len() }>,
    /// By outcome: 0 rejected, 1 applied.
    reloads: Counters<2>,
    /// By outcome: 0 rejected, 1 applied.
    renewals: Counters<2>,
    /// By outcome: 0 rejected, 1 applied.
    address_updates: Counters<2>,
    /// Gauge: connections to backends that wait for a request.
    pub idle_backend_connections: Arc<Counter>,
    /// Gauge: connections that wait for a backend to close them.
    pub closing_backend_connections: Arc<Counter>,
    handles: Mutex<HandlesByName>,
}

/// A measured stage of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeStage {
    /// The wait for a turn, before anything of a connection is read.
    Turn,
    /// The TLS handshake with the client.
    Tls,
    /// From the complete request head to the 101 that the client gets; includes `Backend`.
    Upgrade,
    /// From the first attempt to connect to a backend to that backend's 101.
    Backend,
}

/// How often one reason occurred within a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReasonCount {
    /// The first label: a stage, an initiator or a side.
    pub group: &'static str,
    /// The second label: the reason, limit or close code.
    pub reason: &'static str,
    /// Occurrences since the process started.
    pub count: u64,
}

/// All handles that exist, by name.
#[derive(Debug, Default)]
struct HandlesByName {
    listeners: BTreeMap<Arc<str>, Arc<ListenerCounts>>,
    routes: BTreeMap<Arc<str>, Arc<RouteCounts>>,
    backends: BTreeMap<(Arc<str>, Arc<str>), Arc<BackendCounts>>,
    /// By route, id of the name, and address.
    addresses: BTreeMap<(Arc<str>, Arc<str>, SocketAddr), Arc<BackendCounts>>,
}

impl Metrics {
    /// Removes the handles that no snapshot and no tunnel uses, so that repeated reloads do not
    /// accumulate time series.
    pub fn remove_unused(&self) {
        let mut handles = self.handles();
        handles.listeners.retain(|_, counts| Arc::strong_count(counts) > 1);
        handles.addresses.retain(|_, counts| Arc::strong_count(counts) > 1);
        handles.backends.retain(|_, counts| Arc::strong_count(counts) > 1);
        handles.routes.retain(|_, counts| Arc::strong_count(counts) > 1);
    }

    /// The handle of the listener with this name, created on first use.
    pub fn listener(&self, name: &Arc<str>) -> Arc<ListenerCounts> {
        let mut handles = self.handles();
        let new = || Arc::new(ListenerCounts { name: name.clone(), ..Default::default() });
        handles.listeners.entry(name.clone()).or_insert_with(new).clone()
    }

    /// The handle of the route with this name, created on first use.
    pub fn route(&self, name: &Arc<str>) -> Arc<RouteCounts> {
        let mut handles = self.handles();
        let new = || Arc::new(RouteCounts { name: name.clone(), ..Default::default() });
        handles.routes.entry(name.clone()).or_insert_with(new).clone()
    }

    /// The handle of the backend with this id within `route`, created on first use. `name` is the id of the name in the
    /// configuration that its address belongs to.
    pub fn backend(
        &self,
        route: &Arc<RouteCounts>,
        id: &Arc<str>,
        name: Option<&Arc<str>>,
    ) -> Arc<BackendCounts> {
        let mut handles = self.handles();
        let new = || {
            let (route, id, name) = (route.clone(), id.clone(), name.cloned());
            Arc::new(BackendCounts { route, id, name, ..Default::default() })
        };
        handles.backends.entry((route.name.clone(), id.clone())).or_insert_with(new).clone()
    }

    /// The handle of the tunnels at one address of a name whose addresses are one backend, `of_name`; created on first
    /// use.
    pub fn tunnels_at(
        &self,
        of_name: &Arc<BackendCounts>,
        address: SocketAddr,
    ) -> Arc<BackendCounts> {
        let mut handles = self.handles();
        let new = || {
            Arc::new(BackendCounts {
                route: of_name.route.clone(),
                id: of_name.id.clone(),
                name: of_name.name.clone(),
                address: Some(address.to_string().into()),
                of_name: Some(of_name.clone()),
                ..Default::default()
            })
        };
        let key = (of_name.route.name.clone(), of_name.id.clone(), address);
        handles.addresses.entry(key).or_insert_with(new).clone()
    }

    /// Counts a connection that ended before it sent a complete request.
    pub fn dropped(&self, reason: &DropReason) {
        self.dropped.inc(reasons::drop_index(reason));
    }

    /// Counts a request that was answered with an error status, or redirected.
    pub fn rejected(&self, reason: &RejectReason) {
        match reasons::reject_index(reason) {
            Some(index) => self.rejected.inc(index),
            None => self.redirected.inc(),
        }
    }

    /// Counts a client address that a trusted proxy stated, by its source. Does nothing for the
    /// address of the socket.
    pub fn forwarded_address(&self, source: AddrSource) {
        if let Some(index) = AddrSource::REPORTED.iter().position(|known| *known == source) {
            self.forwarded_addresses.inc(index);
        }
    }

    /// Records the duration of one stage of a handshake.
    pub fn handshake_stage_took(&self, stage: HandshakeStage, time: Duration) {
        self.handshakes[stage as usize].observe(time);
    }

    /// Counts a reload that was applied or rejected.
    pub fn reloaded(&self, applied: bool) {
        self.reloads.inc(usize::from(applied));
    }

    /// Counts a certificate renewal that was applied or rejected.
    pub fn renewed(&self, applied: bool) {
        self.renewals.inc(usize::from(applied));
    }

    /// Counts a change of the files of proxy addresses that was applied or rejected.
    pub fn addresses_updated(&self, applied: bool) {
        self.address_updates.inc(usize::from(applied));
    }

    /// The handles of all listeners, by name.
    pub fn listeners(&self) -> Vec<Arc<ListenerCounts>> {
        self.handles().listeners.values().cloned().collect()
    }

    /// The handles of all routes, by name.
    pub fn routes(&self) -> Vec<Arc<RouteCounts>> {
        self.handles().routes.values().cloned().collect()
    }

    /// The handles of all backends, by route and id.
    pub fn backends(&self) -> Vec<Arc<BackendCounts>> {
        self.handles().backends.values().cloned().collect()
    }

    /// All handles that count open tunnels: those of all backends, and of single addresses of names that are one.
    pub fn tunnel_counts(&self) -> Vec<Arc<BackendCounts>> {
        let handles = self.handles();
        handles.backends.values().chain(handles.addresses.values()).cloned().collect()
    }

    /// Dropped connections by stage and reason, including zeros.
    pub fn drops(&self) -> Vec<ReasonCount> {
        sum_by_labels(reasons::drop_labels(), |index| self.dropped.get(index))
    }

    /// Rejected requests by stage and reason, including zeros.
    pub fn rejects(&self) -> Vec<ReasonCount> {
        sum_by_labels(reasons::reject_labels(), |index| self.rejected.get(index))
    }

    fn handles(&self) -> std::sync::MutexGuard<'_, HandlesByName> {
        // A panic cannot leave an entry half written: entries are inserted and removed whole.
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HandshakeStage {
    const ALL: [Self; 4] = [Self::Turn, Self::Tls, Self::Upgrade, Self::Backend];

    fn as_str(self) -> &'static str {
        match self {
            Self::Turn => "turn",
            Self::Tls => "tls",
            Self::Upgrade => "upgrade",
            Self::Backend => "backend",
        }
    }
}

impl RouteCounts {
    /// Plain HTTP requests that a backend answered, by the class of the status.
    pub fn requests(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let classes = STATUS_CLASSES.into_iter().enumerate();
        classes.map(|(index, class)| (class, self.requests.get(index)))
    }

    /// Requests by why their backend was tried first.
    pub fn choices(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let reasons = ChosenBy::ALL.into_iter();
        reasons.map(|reason| (reason.as_str(), self.choices.get(reason as usize)))
    }

    /// Tunnels that ended, by initiator and reason.
    pub fn terminations(&self) -> Vec<ReasonCount> {
        sum_by_labels(reasons::termination_labels(), |index| self.terminations.get(index))
    }

    /// Violations with the action `report`, by side and reason; once per tunnel.
    pub fn reported(&self) -> Vec<ReasonCount> {
        let of = |side: Side| {
            let counts = &self.reported[reasons::side_index(side)];
            let labels = reasons::violation_labels().map(move |reason| (side.as_str(), reason));
            sum_by_labels(labels, |index| counts.get(index))
        };
        Side::BOTH.into_iter().flat_map(of).collect()
    }

    /// Tunnels with a delayed side, by side and limit.
    pub fn delays(&self) -> Vec<ReasonCount> {
        let of = |side: Side| {
            let counts = &self.delayed[reasons::side_index(side)];
            let labels = reasons::delay_labels().map(move |limit| (side.as_str(), limit));
            sum_by_labels(labels, |index| counts.get(index))
        };
        Side::BOTH.into_iter().flat_map(of).collect()
    }

    /// Total time, in seconds, that reads from `side` were delayed, over all tunnels.
    pub fn delay_seconds(&self, side: Side) -> f64 {
        self.delayed_millis[reasons::side_index(side)].get() as f64 / 1000.0
    }

    /// Close frames sent, by receiving side and close code.
    pub fn closes(&self) -> Vec<ReasonCount> {
        let of = |side: Side| {
            let counts = &self.closes[reasons::side_index(side)];
            let labels = reasons::close_code_labels().map(move |code| (side.as_str(), code));
            sum_by_labels(labels, |index| counts.get(index))
        };
        Side::BOTH.into_iter().flat_map(of).collect()
    }
}

/// Adds up the counters that share their labels.
fn sum_by_labels(
    labels: impl Iterator<Item = (&'static str, &'static str)>,
    count: impl Fn(usize) -> u64,
) -> Vec<ReasonCount> {
    let mut rows: Vec<ReasonCount> = Vec::new();
    for (index, (group, reason)) in labels.enumerate() {
        let count = count(index);
        match rows.iter_mut().find(|row| (row.group, row.reason) == (group, reason)) {
            Some(row) => row.count += count,
            None => rows.push(ReasonCount { group, reason, count }),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use ws::{CloseCodes, ProtocolError, TerminationReason};

    #[test]
    fn counts_survive_while_a_handle_exists() {
        let metrics = Metrics::default();
        let route = metrics.route(&"chat".into());
        let backend = metrics.backend(&route, &"b".into(), None);
        backend.tunnel_opened();
        drop((route, backend));
        // A reload asks for the same names again.
        let route = metrics.route(&"chat".into());
        let backend = metrics.backend(&route, &"b".into(), None);
        assert_eq!((backend.open.get(), backend.opened.get()), (1, 1));
        drop(route);
        metrics.remove_unused();
        assert_eq!((metrics.routes().len(), metrics.backends().len()), (1, 1));
        drop(backend);
        metrics.remove_unused();
        assert_eq!((metrics.routes().len(), metrics.backends().len()), (0, 0));
    }

    #[test]
    fn tunnels_at_one_address_are_those_of_the_name() {
        let metrics = Metrics::default();
        let name = "app.internal:1".into();
        let of_name = metrics.backend(&metrics.route(&"chat".into()), &name, Some(&name));
        let at = metrics.tunnels_at(&of_name, "192.0.2.1:1".parse().unwrap());
        at.tunnel_opened();
        assert_eq!((of_name.open.get(), of_name.opened.get(), of_name.has_tunnels()), (0, 1, true));
        assert_eq!((at.open.get(), at.opened.get(), &**at.place()), (1, 0, "192.0.2.1:1"));
        assert_eq!((&at.id, at.listed_id()), (&name, &name));
        let reason = TerminationReason::ClientDisconnected;
        at.tunnel_ended(reason, CloseCodes::default(), Duration::ZERO);
        assert!(!of_name.has_tunnels());
        drop(at);
        metrics.remove_unused();
        assert_eq!(metrics.tunnel_counts().len(), 1);
    }

    #[test]
    fn reasons_with_equal_labels_share_a_row() {
        let backend = BackendCounts::default();
        for error in [ProtocolError::CloseCode, ProtocolError::CloseLength] {
            backend.tunnel_opened();
            let closes = CloseCodes { to_client: Some(1002), to_backend: Some(4321) };
            backend.tunnel_ended(
                TerminationReason::ProtocolError(Side::Client, error),
                closes,
                Duration::from_secs(1),
            );
        }
        let rows: Vec<ReasonCount> =
            backend.route.terminations().into_iter().filter(|row| row.count > 0).collect();
        assert_eq!(rows, [ReasonCount { group: "client", reason: "ws_close", count: 2 }]);
        let sent: Vec<ReasonCount> =
            backend.route.closes().into_iter().filter(|row| row.count > 0).collect();
        let row = |group, reason| ReasonCount { group, reason, count: 2 };
        assert_eq!(sent, [row("client", "1002"), row("backend", "4xxx")]);
        assert_eq!((backend.open.get(), backend.opened.get()), (0, 2));
    }
}
