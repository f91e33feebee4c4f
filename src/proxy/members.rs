//! Gives the pools of a snapshot the backends at the present addresses of their names. This is no reload: nothing else
//! changes.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::route::Route;
use super::shared_backends::SharedBackends;
use super::snapshot::Snapshot;

/// Updates the routes with names whose addresses have changed. `previous` is the snapshot that this one is about to
/// replace. Connections that wait for a request at addresses that are gone are closed; tunnels stay.
pub fn update(snapshot: &Snapshot, previous: Option<&Snapshot>) {
    let is_outdated = |route: &&Arc<Route>| route.pool.is_outdated();
    if !snapshot.route_list.iter().any(|route| is_outdated(&route)) {
        return;
    }
    // Of two lists that are made at the same time, the older one must not be the last.
    let _one_at_a_time = UPDATING.lock().unwrap_or_else(PoisonError::into_inner);
    let known = previous.into_iter().chain([snapshot]).flat_map(Snapshot::owned_backends);
    let mut shared = SharedBackends::of(known, snapshot.idle_places(), snapshot.pool_tls.clone());
    let mut before = Vec::new();
    for (route, settings) in snapshot.route_list.iter().zip(&snapshot.settings.routes) {
        if is_outdated(&route) {
            before.extend(route.pool.backends());
            route.update_members(settings, &mut shared, &snapshot.metrics);
        }
    }
    let kept: HashSet<_> = snapshot.backends().map(|backend| backend.key()).collect();
    before.iter().filter(|gone| !kept.contains(&gone.key())).for_each(|gone| gone.idle.clear());
    drop((before, shared));
    snapshot.metrics.remove_unused();
}

static UPDATING: Mutex<()> = Mutex::new(());
