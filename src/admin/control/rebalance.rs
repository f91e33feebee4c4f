//! `tidegate ctl rebalance`, and `canary`, whose end sends clients home.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::selection::unknown;
use crate::config::toml::diagnostic::Problem;
use crate::config::values::share::Share;
use crate::control_protocol::response::{
    CanaryChanged, CommandError, CommandErrorKind, PoolRebalance, RebalanceResult, RebalanceStopped,
};
use crate::proxy::route::Route;
use crate::proxy::snapshot::Snapshot;
use crate::proxy::state::ProxyState;
use crate::server::rebalance::{RebalanceRate, RebalanceTarget, find, start};
use crate::upstream::backends_owner::BackendsOwner;

/// Counts the tunnels of each pool whose clients have another backend now and, unless `dry_run`, starts to close them.
/// Takes milliseconds for thousands of tunnels.
pub(super) fn rebalance(
    state: &Arc<ProxyState>,
    pool: Option<&str>,
    per_second: Option<u32>,
    dry_run: bool,
) -> Result<RebalanceResult, CommandError> {
    let zero = || CommandError::new(CommandErrorKind::BadRequest, "the rate must be at least 1/s");
    let rate = per_second.map(|rate| NonZeroU32::new(rate).ok_or_else(zero)).transpose()?;
    if state.is_draining() {
        let message = "every tunnel is being drained; clients could not come back";
        return Err(CommandError::new(CommandErrorKind::Rejected, message));
    }
    let snapshot = state.snapshot();
    let mut pools = Vec::new();
    for (owner, route) in owners(&snapshot, pool)? {
        let target = RebalanceTarget { owner, only_canaries: false };
        let found = find(state, &target);
        let of_pool = route.pool.settings().rebalance_rate;
        let (pool, is_needed) =
            (target.owner.name().to_string(), found.moving.len() + found.held > 0);
        let (per_second, joined) = match dry_run || !is_needed {
            true => (rate.unwrap_or(of_pool), false),
            false => {
                let rate = rate.map_or(RebalanceRate::OfPool(of_pool), RebalanceRate::Given);
                start(state, target, rate, "by command")
            }
        };
        pools.push(PoolRebalance {
            pool,
            tunnels: found.tunnels,
            moving: found.moving.len(),
            held: found.held,
            per_second: per_second.get(),
            joined,
            unmovable: route.pool.is_movable().err().map(|cause| cause.to_string()),
        });
    }
    Ok(RebalanceResult { pools })
}

/// Stops the rebalances of a pool, or all.
pub(super) fn stop(
    state: &ProxyState,
    pool: Option<&str>,
) -> Result<RebalanceStopped, CommandError> {
    owners(&state.snapshot(), pool)?;
    let stopped = state.rebalances.stop(pool);
    let closed = stopped.iter().map(|running| running.progress.closed()).sum();
    Ok(RebalanceStopped { pools: stopped.len(), closed })
}

/// Overrides the share of canary requests of a pool; `None` removes the override. If no request goes to the canaries any
/// more, their tunnels are closed at the rate of the pool.
pub(super) fn set_canary(
    state: &Arc<ProxyState>,
    name: &str,
    share: Option<&str>,
) -> Result<CanaryChanged, CommandError> {
    let invalid =
        |problem: Problem| CommandError::new(CommandErrorKind::BadRequest, problem.to_string());
    let share = share.map(|text| Share::parse(text).map_err(invalid)).transpose()?;
    let snapshot = state.snapshot();
    // The routes of a pool share its state.
    let mut routes = snapshot.route_list.iter();
    let route = routes.find(|route| route.pool.name.as_deref() == Some(name));
    let pool = &route.ok_or_else(|| no_canaries(&snapshot, name))?.pool;
    if !pool.backends().iter().any(|backend| backend.is_canary) {
        let message = format!("no backend of pool {name} has canary = true");
        return Err(CommandError::new(CommandErrorKind::Rejected, message));
    }
    pool.state().canary.set(share, &pool.settings().canary);
    let mut closing = 0;
    if pool.is_canary_aborted() {
        let target =
            RebalanceTarget { owner: BackendsOwner::Pool(name.into()), only_canaries: true };
        closing = find(state, &target).moving.len();
        if closing > 0 {
            let rate = RebalanceRate::OfPool(pool.settings().rebalance_rate);
            start(state, target, rate, "the canary was aborted");
        }
    }
    Ok(CanaryChanged { share: pool.canary_share().to_string(), closing })
}

/// The lists of backends that are meant, each with the first route that uses it.
fn owners<'s>(
    snapshot: &'s Snapshot,
    pool: Option<&str>,
) -> Result<Vec<(BackendsOwner, &'s Arc<Route>)>, CommandError> {
    let mut found: Vec<(BackendsOwner, &Arc<Route>)> = Vec::new();
    for route in &snapshot.route_list {
        let owner = route.backends_owner();
        let is_meant = pool.is_none_or(|pool| **owner.name() == *pool);
        if is_meant && !found.iter().any(|(known, _)| *known == owner) {
            found.push((owner, route));
        }
    }
    match pool {
        Some(pool) if found.is_empty() => Err(unknown_pool(snapshot, pool)),
        Some(_) | None => Ok(found),
    }
}

/// The error for a name that is not that of a `[[pool]]`, the only lists with canaries.
fn no_canaries(snapshot: &Snapshot, name: &str) -> CommandError {
    let pools: Vec<&str> =
        snapshot.route_list.iter().filter_map(|route| route.pool.name.as_deref()).collect();
    if snapshot.route_list.iter().any(|route| *route.name == *name) {
        let message = format!(
            "route \"{name}\" lists its backends itself, and only a [[pool]] has canaries: move its backends to a \
             [[pool]], and name that in the route, as in pool = \"NAME\""
        );
        return CommandError::new(CommandErrorKind::NotFound, message);
    }
    if pools.is_empty() {
        let message = format!("unknown pool \"{name}\"; the configuration has no [[pool]]");
        return CommandError::new(CommandErrorKind::NotFound, message);
    }
    unknown("pool", name, pools.into_iter())
}

fn unknown_pool(snapshot: &Snapshot, name: &str) -> CommandError {
    let owners = snapshot.route_list.iter().map(|route| route.backends_owner());
    let names: Vec<String> = owners.map(|owner| owner.name().to_string()).collect();
    unknown("pool", name, names.iter().map(String::as_str))
}
