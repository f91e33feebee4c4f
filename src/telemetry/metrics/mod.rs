//! What is counted, and where: handles that are made once, by name, when a configuration is
//! built, and kept over reloads. [`Metrics::scrape`] writes all of it in the OpenMetrics text
//! format; `docs/metrics.md` lists every name.

pub(crate) mod causes;
pub(crate) mod counters;
pub(crate) mod handles;
pub(crate) mod openmetrics;
pub(crate) mod process;
pub(crate) mod process_snapshot;
pub(crate) mod scrape;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ws::Side;

use self::causes::{DROPPED, REFUSED};
use self::counters::{Counters, DurationHistogram};
use crate::client::AddrSource;
use crate::reject::{DropReason, RejectReason};
use crate::telemetry::metrics::handles::{
    BackendCounts, HandshakeBounds, ListenerCounts, RouteCounts,
};

/// All that is counted in this process.
#[derive(Debug, Default)]
pub struct Metrics {
    dropped: Counters<DROPPED>,
    refused: Counters<REFUSED>,
    handshakes: [DurationHistogram<HandshakeBounds>; 3],
    named: Counters<{ AddrSource::MENTIONED.len() }>,
    reloads: Counters<2>,
    renewals: Counters<2>,
    names: Mutex<HandlesByName>,
}

/// A part of a handshake that is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeStep {
    /// The TLS handshake.
    Tls,
    /// From the whole request head to our 101.
    Admit,
    /// The backend's part of it: from the first attempt to connect to its 101.
    Backend,
}

/// One cause, and how often it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CauseCount {
    /// A stage, or a culprit, or a side.
    pub of: &'static str,
    /// Its name.
    pub reason: &'static str,
    /// How often.
    pub count: u64,
}

/// Handles by name, for those who build a configuration and for those who read.
#[derive(Debug, Default)]
struct HandlesByName {
    listeners: BTreeMap<Arc<str>, Arc<ListenerCounts>>,
    routes: BTreeMap<Arc<str>, Arc<RouteCounts>>,
    backends: BTreeMap<(Arc<str>, Arc<str>), Arc<BackendCounts>>,
}

impl Metrics {
    /// Forgets the names that no configuration and no tunnel has any more, so that reloads
    /// without end leave no rows behind.
    pub fn forget_unused(&self) {
        let mut names = self.names();
        names.listeners.retain(|_, counts| Arc::strong_count(counts) > 1);
        names.backends.retain(|_, counts| Arc::strong_count(counts) > 1);
        names.routes.retain(|_, counts| Arc::strong_count(counts) > 1);
    }

    /// The handle of a listener.
    pub fn listener(&self, name: &Arc<str>) -> Arc<ListenerCounts> {
        let mut names = self.names();
        let new = || Arc::new(ListenerCounts { name: name.clone(), ..Default::default() });
        names.listeners.entry(name.clone()).or_insert_with(new).clone()
    }

    /// The handle of a route.
    pub fn route(&self, name: &Arc<str>) -> Arc<RouteCounts> {
        let mut names = self.names();
        let new = || Arc::new(RouteCounts { name: name.clone(), ..Default::default() });
        names.routes.entry(name.clone()).or_insert_with(new).clone()
    }

    /// The handle of a backend of a route.
    pub fn backend(&self, route: &Arc<RouteCounts>, id: &Arc<str>) -> Arc<BackendCounts> {
        let mut names = self.names();
        let new = || {
            let (route, id) = (route.clone(), id.clone());
            Arc::new(BackendCounts { route, id, ..Default::default() })
        };
        names.backends.entry((route.name.clone(), id.clone())).or_insert_with(new).clone()
    }

    /// A connection ended before its request.
    pub fn dropped(&self, why: &DropReason) {
        self.dropped.add_one(causes::dropped(why));
    }

    /// A request was refused.
    pub fn refused(&self, refusal: &RejectReason) {
        self.refused.add_one(causes::refused(refusal));
    }

    /// Whom a connection or a request is from was said by a trusted proxy; nothing is counted of
    /// those who come straight.
    pub fn named(&self, known_by: AddrSource) {
        if let Some(place) = AddrSource::MENTIONED.iter().position(|by| *by == known_by) {
            self.named.add_one(place);
        }
    }

    /// A part of a handshake took so long.
    pub fn took(&self, step: HandshakeStep, time: Duration) {
        self.handshakes[step as usize].observe(time);
    }

    /// A reload went well, or was refused.
    pub fn reloaded(&self, applied: bool) {
        self.reloads.add_one(usize::from(applied));
    }

    /// Certificates that had changed were taken, or refused.
    pub fn renewed(&self, applied: bool) {
        self.renewals.add_one(usize::from(applied));
    }

    /// All listeners known.
    pub fn listeners(&self) -> Vec<Arc<ListenerCounts>> {
        self.names().listeners.values().cloned().collect()
    }

    /// All routes known.
    pub fn routes(&self) -> Vec<Arc<RouteCounts>> {
        self.names().routes.values().cloned().collect()
    }

    /// All backends known.
    pub fn backends(&self) -> Vec<Arc<BackendCounts>> {
        self.names().backends.values().cloned().collect()
    }

    /// Connections dropped, by stage and reason.
    pub fn drops(&self) -> Vec<CauseCount> {
        table(causes::drops(), |place| self.dropped.get(place))
    }

    /// Requests refused, by stage and reason.
    pub fn refusals(&self) -> Vec<CauseCount> {
        table(causes::refusals(), |place| self.refused.get(place))
    }

    fn names(&self) -> std::sync::MutexGuard<'_, HandlesByName> {
        // Whole entries only are put in and taken out.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HandshakeStep {
    const ALL: [Self; 3] = [Self::Tls, Self::Admit, Self::Backend];

    fn slug(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Admit => "admit",
            Self::Backend => "backend",
        }
    }
}

impl RouteCounts {
    /// Tunnels ended, by culprit and reason.
    pub fn ends(&self) -> Vec<CauseCount> {
        table(causes::ends(), |place| self.ends.get(place))
    }

    /// What would have closed a tunnel, by side and rule.
    pub fn reported(&self) -> Vec<CauseCount> {
        let of = |side: Side| {
            let counts = &self.reported[causes::side_place(side)];
            let labels = causes::offences().map(move |reason| (side.slug(), reason));
            table(labels, |place| counts.get(place))
        };
        Side::BOTH.into_iter().flat_map(of).collect()
    }

    /// Tunnels that were made to wait, by side and limit.
    pub fn delays(&self) -> Vec<CauseCount> {
        let of = |side: Side| {
            let counts = &self.delayed[causes::side_place(side)];
            let labels = causes::delays().map(move |reason| (side.slug(), reason));
            table(labels, |place| counts.get(place))
        };
        Side::BOTH.into_iter().flat_map(of).collect()
    }

    /// How long a side was made to wait, in seconds, over all tunnels.
    pub fn delay_seconds(&self, side: Side) -> f64 {
        self.delayed_millis[causes::side_place(side)].get() as f64 / 1000.0
    }

    /// Closes that went out, by side and code.
    pub fn closes(&self) -> Vec<CauseCount> {
        let of = |side: Side| {
            let counts = &self.closes[causes::side_place(side)];
            let labels = causes::codes().map(move |code| (side.slug(), code));
            table(labels, |place| counts.get(place))
        };
        Side::BOTH.into_iter().flat_map(of).collect()
    }
}

/// Adds up places of the same labels.
fn table(
    labels: impl Iterator<Item = (&'static str, &'static str)>,
    count: impl Fn(usize) -> u64,
) -> Vec<CauseCount> {
    let mut causes: Vec<CauseCount> = Vec::new();
    for (place, (of, reason)) in labels.enumerate() {
        let count = count(place);
        match causes.iter_mut().find(|cause| (cause.of, cause.reason) == (of, reason)) {
            Some(cause) => cause.count += count,
            None => causes.push(CauseCount { of, reason, count }),
        }
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;
    use ws::{CloseCodes, ProtocolError, TerminationReason};

    #[test]
    fn names_keep_their_counts_until_nobody_has_them() {
        let metrics = Metrics::default();
        let route = metrics.route(&"chat".into());
        let backend = metrics.backend(&route, &"b".into());
        backend.began();
        drop((route, backend));
        // The same names again, as a reload asks for them.
        let route = metrics.route(&"chat".into());
        let backend = metrics.backend(&route, &"b".into());
        assert_eq!((backend.open.get(), backend.opened.get()), (1, 1));
        drop(route);
        metrics.forget_unused();
        assert_eq!((metrics.routes().len(), metrics.backends().len()), (1, 1));
        drop(backend);
        metrics.forget_unused();
        assert_eq!((metrics.routes().len(), metrics.backends().len()), (0, 0));
    }

    #[test]
    fn ends_of_one_name_are_one_row() {
        let backend = BackendCounts::default();
        for breach in [ProtocolError::CloseCode, ProtocolError::CloseLength] {
            backend.began();
            let closes = CloseCodes { to_client: Some(1002), to_backend: Some(4321) };
            backend.ended(
                TerminationReason::Breach(Side::Client, breach),
                closes,
                Duration::from_secs(1),
            );
        }
        let rows: Vec<CauseCount> =
            backend.route.ends().into_iter().filter(|c| c.count > 0).collect();
        assert_eq!(rows, [CauseCount { of: "client", reason: "ws_close", count: 2 }]);
        let sent: Vec<CauseCount> =
            backend.route.closes().into_iter().filter(|c| c.count > 0).collect();
        let row = |of, reason| CauseCount { of, reason, count: 2 };
        assert_eq!(sent, [row("client", "1002"), row("backend", "4xxx")]);
        assert_eq!((backend.open.get(), backend.opened.get()), (0, 2));
    }
}
