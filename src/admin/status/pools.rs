//! The pools in `/status.json`: their backends, and the names whose addresses these are.

use std::collections::HashMap;
use std::slice;
use std::sync::Arc;

use serde_json::{Value, json};
use ws::Side;

use crate::proxy::route::Route;
use crate::proxy::snapshot::Snapshot;
use crate::reject::maintenance::MaintenanceCause;
use crate::telemetry::metrics::handles::{BackendCounts, RouteCounts};
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
        pool(route, &absent(route, counts), &failures)
    };
    snapshot.route_list.iter().map(pool).collect()
}

/// Those of the route that have tunnels at addresses that have left the answers for its names.
fn absent<'c>(route: &Route, counts: &[&'c BackendCounts]) -> Vec<&'c BackendCounts> {
    let backends = route.pool.backends();
    let is_absent = |of: &&&BackendCounts| {
        route.pool.names.iter().any(|listed| listed.id == *of.listed_id())
            && !backends.iter().any(|backend| backend.id == of.id)
    };
    counts.iter().filter(is_absent).copied().collect()
}

fn pool(
    route: &Route,
    absent: &[&BackendCounts],
    failures: &dyn Fn(&Backend) -> Option<u64>,
) -> Value {
    let backends = route.pool.backends();
    let weight = |backend: &Arc<Backend>| f64::from(backend.effective_weight().get());
    let weights: f64 =
        backends.iter().filter(|of| !of.is_backup && !of.is_canary).map(weight).sum();
    let counts = backends.iter().map(|backend| &*backend.counts);
    let open: u64 = counts.chain(absent.iter().copied()).map(|counts| counts.open.get()).sum();
    let share = |counts: &BackendCounts| (open > 0).then(|| counts.open.get() as f64 / open as f64);
    let row = |backend: &Arc<Backend>| {
        let counts = &backend.counts;
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
            "expected_share": if backend.is_backup || backend.is_canary { 0.0 } else { weight(backend) / weights },
            "share": share(counts),
            "tunnels": counts.open.get(),
            "tunnels_max": backend.max_tunnels,
            "opened": counts.opened.get(),
            "connect_failures": failures(backend),
            "ejections": counts.ejections.get(),
        })
    };
    let absent_row = |counts: &&BackendCounts| {
        let name = counts.listed_id();
        json!({
            "id": &*counts.id,
            "name": &**name,
            "state": "absent",
            "problem": format!("not an address of {name} any more; it gets no new tunnels"),
            "drained": false,
            "backup": false,
            "ejected": false,
            "probe": null,
            "slow_start": null,
            "canary": false,
            "expected_share": 0.0,
            "share": share(counts),
            "tunnels": counts.open.get(),
            "tunnels_max": null,
            "opened": counts.opened.get(),
            "connect_failures": counts.connect_failures.get(),
            "ejections": counts.ejections.get(),
        })
    };
    let rows = backends.iter().map(row).chain(absent.iter().map(absent_row));
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

fn name(listed: &Arc<ListedName>) -> Value {
    json!({
        "name": &*listed.id,
        "addresses": listed.name.answer().len(),
        "problem": listed.name.failure(),
        "drained": listed.admin_override.drain.is_draining(),
    })
}

/// Total delay imposed on each side by limits, in seconds.
pub(super) fn delays(routes: &[Arc<RouteCounts>]) -> Value {
    let total = |side| routes.iter().map(|route| route.delay_seconds(side)).sum::<f64>();
    json!({ "client": total(Side::Client), "backend": total(Side::Backend) })
}
