//! The pools in `/status.json`: their backends, and the names whose addresses these are.

use std::collections::{BTreeMap, HashMap};
use std::slice;
use std::sync::Arc;

use serde_json::{Value, json};
use ws::Side;

use crate::proxy::route::Route;
use crate::proxy::snapshot::Snapshot;
use crate::reject::maintenance::MaintenanceCause;
use crate::telemetry::metrics::handles::{BackendCounts, RouteCounts};
use crate::upstream::admin_override::KeptOverride;
use crate::upstream::backend_name::ListedName;
use crate::upstream::health::Health;
use crate::upstream::pool::Backend;

/// The pool of each route. `counts` are those of all backends that are in use or have tunnels.
pub(super) fn pools(snapshot: &Snapshot, counts: &[Arc<BackendCounts>]) -> Value {
    // Routes with the same backend share its state, and a probe counts for any of them.
    let mut failures: HashMap<*const Health, u64> = HashMap::new();
    for backend in snapshot.backends() {
        let count = failures.entry(Arc::as_ptr(&backend.health)).or_default();
        *count += backend.counts.connect_failures.get();
    }
    let failures = |backend: &Backend| failures.get(&Arc::as_ptr(&backend.health)).copied();
    let mut with_tunnels: HashMap<&str, Vec<&BackendCounts>> = HashMap::new();
    for of in counts.iter().filter(|of| of.open.get() > 0) {
        with_tunnels.entry(&*of.route.name).or_default().push(of);
    }
    let pool = |route: &Arc<Route>| {
        let counts = with_tunnels.get(&*route.name).map_or(&[][..], Vec::as_slice);
        pool(route, &tunnels(route, counts), &failures)
    };
    snapshot.route_list.iter().map(pool).collect()
}

/// The tunnels of one backend.
#[derive(Default)]
struct BackendTunnels<'c> {
    open: u64,
    /// Their counters.
    counts: Vec<&'c BackendCounts>,
}

/// The open tunnels of the route by the id of their backend, also at addresses that have left the answers for its names.
fn tunnels<'c>(
    route: &Route,
    counts: &[&'c BackendCounts],
) -> BTreeMap<Arc<str>, BackendTunnels<'c>> {
    let mut tunnels: BTreeMap<_, BackendTunnels<'_>> = BTreeMap::new();
    for counts in counts {
        let of_backend = tunnels.entry(route.pool.backend_with(counts)).or_default();
        of_backend.open += counts.open.get();
        of_backend.counts.push(counts);
    }
    let backends = route.pool.backends();
    tunnels.retain(|id, of| {
        let is_of_name = |of: &&BackendCounts| {
            route.pool.names.iter().any(|listed| listed.id == *of.listed_id())
        };
        backends.iter().any(|backend| backend.id == *id) || of.counts.iter().any(is_of_name)
    });
    tunnels
}

fn pool(
    route: &Route,
    tunnels: &BTreeMap<Arc<str>, BackendTunnels<'_>>,
    failures: &dyn Fn(&Backend) -> Option<u64>,
) -> Value {
    let backends = route.pool.backends();
    let expected = ExpectedShares::new(route);
    let open: u64 = tunnels.values().map(|of| of.open).sum();
    let share = |of_backend: u64| (open > 0).then(|| of_backend as f64 / open as f64);
    let row = |backend: &Arc<Backend>| {
        let counts = &backend.counts;
        let tunnels = tunnels.get(&backend.id).map_or(0, |of| of.open);
        json!({
            "id": &*backend.id,
            "name": backend.listed.as_ref().map(|listed| &*listed.id),
            "state": backend.shown_state().as_str(),
            "problem": backend.problem(),
            "drained": backend.is_draining(),
            "backup": backend.is_backup,
            "ejected": backend.is_ejected(),
            "probe": backend.probe.as_ref().map(|probe| probe.state().as_str()),
            "slow_start": route.pool.ramp(backend),
            "canary": backend.is_canary,
            "expected_share": expected.of(backend),
            "share": share(tunnels),
            "tunnels": tunnels,
            "tunnels_max": backend.max_tunnels,
            "opened": counts.opened.get(),
            "connect_failures": failures(backend),
            "ejections": counts.ejections.get(),
        })
    };
    let is_absent = |(id, _): &(&Arc<str>, _)| !backends.iter().any(|backend| backend.id == **id);
    let absent = tunnels.iter().filter(is_absent).map(|(id, of)| absent(id, of, share(of.open)));
    let rows = backends.iter().map(row).chain(absent);
    json!({
        "route": &*route.name,
        "pool": route.pool.name.as_deref(),
        "tls": route.pool.is_verified().map(|is_verified| json!({ "verified": is_verified })),
        "hash": route.pool.settings().hash.to_string(),
        "balance": route.pool.settings().balance.name(),
        "canary_share": route.pool.canary_share().to_string(),
        "drained": route.is_draining(),
        "maintenance": route.maintenance.cause().map(MaintenanceCause::as_str),
        "tunnels": open,
        "tunnels_max": route.max_tunnels,
        "waiting": route.pool.state().queue.len(),
        "delayed_seconds": delays(slice::from_ref(&route.counts)),
        "names": route.pool.names.iter().map(name).collect::<Vec<_>>(),
        "backends": rows.collect::<Vec<_>>(),
    })
}

/// The row of an address that has left the answer for its name. `share` is its part of the open tunnels.
fn absent(id: &str, of: &BackendTunnels<'_>, share: Option<f64>) -> Value {
    let sum = |count: fn(&BackendCounts) -> u64| of.counts.iter().map(|of| count(of)).sum::<u64>();
    let name = of.counts.first().map(|counts| &**counts.listed_id()).unwrap_or_default();
    json!({
        "id": id,
        "name": name,
        "state": "absent",
        "problem": format!("not an address of {name} any more; it gets no new tunnels"),
        "drained": false,
        "backup": false,
        "ejected": false,
        "probe": null,
        "slow_start": null,
        "canary": false,
        "expected_share": 0.0,
        "share": share,
        "tunnels": of.open,
        "tunnels_max": null,
        "opened": sum(|of| of.opened.get()),
        "connect_failures": sum(|of| of.connect_failures.get()),
        "ejections": sum(|of| of.ejections.get()),
    })
}

/// The shares of the requests that the backends of a pool should get.
struct ExpectedShares {
    /// The weights of those that are no canaries, and of those that are. Backups get nothing as long as the others work.
    weights: [f64; 2],
    /// The share of the canaries.
    canaries: f64,
}

impl ExpectedShares {
    fn new(route: &Route) -> Self {
        let backends = route.pool.backends();
        let weights = [false, true].map(|is_canary| {
            let of_kind = |of: &&Arc<Backend>| !of.is_backup && of.is_canary == is_canary;
            backends.iter().filter(of_kind).map(|backend| weight(backend)).sum()
        });
        let has_canary = weights[1] > 0.0;
        let canaries = if has_canary { route.pool.canary_share().fraction() } else { 0.0 };
        Self { weights, canaries }
    }

    fn of(&self, backend: &Backend) -> f64 {
        match backend.is_backup {
            true => 0.0,
            false if backend.is_canary => self.canaries * weight(backend) / self.weights[1],
            false => (1.0 - self.canaries) * weight(backend) / self.weights[0],
        }
    }
}

fn weight(backend: &Backend) -> f64 {
    f64::from(backend.effective_weight().get())
}

fn name(listed: &Arc<ListedName>) -> Value {
    json!({
        "name": &*listed.id,
        "addresses": listed.name.answer().len(),
        "problem": listed.name.failure(),
        "drained": listed.admin_override.drain.is_draining(),
        "kept": listed.addresses.kept().iter().map(kept).collect::<Vec<_>>(),
    })
}

fn kept(of: &KeptOverride) -> Value {
    json!({
        "address": &*of.address,
        "drained": of.value.drain.is_draining(),
        "weight": of.value.weight(),
        "seconds_left": of.left.as_secs(),
    })
}

/// Total delay imposed on each side by limits, in seconds.
pub(super) fn delays(routes: &[Arc<RouteCounts>]) -> Value {
    let total = |side| routes.iter().map(|route| route.delay_seconds(side)).sum::<f64>();
    json!({ "client": total(Side::Client), "backend": total(Side::Backend) })
}
