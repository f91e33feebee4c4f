//! Probes backends that are down, so that they come back without a request having to fail first, and a quiet
//! proxy does not show an old state. Other backends are probed only if their pool has a `[pool.probe]`. Also ends
//! ejections whose time is over, and looks up the names of backends.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, interval, sleep};

use super::local_port_warnings::LocalPortWarnings;
use super::name_lookups::NameLookups;
use super::pool_probes::PoolProbes;
use crate::proxy::route::Route;
use crate::proxy::snapshot::Snapshot;
use crate::proxy::state::ProxyState;
use crate::telemetry::events::backend_readmitted;
use crate::upstream::backend_tls::BackendKey;
use crate::upstream::pool::Backend;
use crate::upstream::probe::probe;

/// Probes backends until dropped.
pub async fn run(state: Arc<ProxyState>) {
    let mut probes = JoinSet::new();
    let mut running: HashMap<BackendKey, AbortHandle> = HashMap::new();
    let mut pool_probes = PoolProbes::default();
    let mut port_warnings = LocalPortWarnings::default();
    let mut name_lookups = NameLookups::default();
    let mut poll = interval(POLL_INTERVAL);
    loop {
        poll.tick().await;
        while probes.try_join_next().is_some() {}
        running.retain(|_, probe| !probe.is_finished());
        let snapshot = state.snapshot();
        end_ejections(&snapshot, Instant::now());
        port_warnings.check(&snapshot);
        name_lookups.start(&state, &snapshot, POLL_INTERVAL, &mut probes);
        pool_probes.start(&state, &snapshot, POLL_INTERVAL, &mut probes);
        for (route, backend) in due(&snapshot, Instant::now()) {
            if running.len() >= PROBES_MAX {
                break;
            }
            let key = backend.key();
            if running.contains_key(&key) {
                continue;
            }
            let net = state.net.clone();
            let (header, limit) = (route.forwarding.local_proxy_header(), route.timeouts.connect);
            // Several proxies that lost a backend at the same time do not return at the same time.
            let delay = JITTER.mul_f64(net.random_f64());
            let probing = probes.spawn(async move {
                sleep(delay).await;
                probe(&*net, backend, header, limit).await;
            });
            running.insert(key, probing);
        }
    }
}

/// Ends the ejections that are over.
fn end_ejections(snapshot: &Snapshot, now: Instant) {
    for backend in snapshot.backends() {
        if backend.responses.end_ejection(now).is_some() {
            backend_readmitted(&backend.id, &backend.counts.route.name);
        }
    }
}

/// The backends that are down and have not been tried for a while, the longest untried first, so that
/// more than can be probed at a time take turns.
fn due(snapshot: &Snapshot, now: Instant) -> Vec<(&Route, Arc<Backend>)> {
    let mut due = Vec::new();
    for route in &snapshot.route_list {
        let backends = route.pool.backends().into_iter();
        for backend in backends.filter(|backend| backend.probe.is_none()) {
            let due_since = backend.health.probe_due(now);
            due.extend(due_since.map(|tried| (tried, &**route, backend)));
        }
    }
    due.sort_by_key(|(tried, ..)| *tried);
    due.into_iter().map(|(_, route, backend)| (route, backend)).collect()
}

const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Probes are delayed by up to this time.
const JITTER: Duration = Duration::from_secs(1);
/// Probes at the same time.
const PROBES_MAX: usize = 64;
