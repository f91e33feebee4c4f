//! Commands that change the running proxy: kill, drain, undrain, weight, maintenance.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use ws::{CLOSE_REASON_MAX, CloseCode, CloseMessage, SessionClose, TerminationReason};

use super::selection::{select, unknown_backend, unknown_route};
use crate::config::settings::DrainSettings;
use crate::config::values::units::show_in_one_unit;
use crate::control_protocol::response::{
    CommandError, CommandErrorKind, DrainResult, KillResult, MaintenanceChanged, NewTunnels,
    WeightChanged,
};
use crate::control_protocol::{CloseRequest, DrainPacing, DrainScope, Selection, close_code};
use crate::proxy::route::Route;
use crate::proxy::snapshot::Snapshot;
use crate::proxy::state::ProxyState;
use crate::reject::maintenance::MaintenanceCause;
use crate::server::maintenance_files;
use crate::sessions::drain_plan::{DrainOutcome, DrainPlan};
use crate::upstream::admin_override::AdminOverride;

/// Closes the selected tunnels immediately.
pub(super) fn kill(
    state: &ProxyState,
    selection: &Selection,
    all: bool,
    close: &CloseRequest,
) -> Result<KillResult, CommandError> {
    require_all_flag(selection, all)?;
    let sessions = select(state, selection)?;
    let default = (CloseCode::POLICY_VIOLATION, "closed by an operator");
    let message = Some(close_message(close, default)?);
    let close = Arc::new(SessionClose { reason: TerminationReason::Killed, message });
    sessions.iter().for_each(|session| session.close(&close));
    Ok(KillResult { sessions: sessions.len() })
}

/// Finishes when the drain does; cancelled by `undrain`.
type DrainTask = JoinHandle<DrainOutcome>;

/// Starts to close the selected tunnels gradually. If a whole scope is drained, new tunnels to it
/// are rejected.
pub(super) fn drain(
    state: &Arc<ProxyState>,
    selection: &Selection,
    all: bool,
    pacing: DrainPacing,
    close: &CloseRequest,
) -> Result<(DrainResult, DrainTask), CommandError> {
    require_all_flag(selection, all)?;
    if state.is_shutting_down() {
        let message = "the process is shutting down and already drains every tunnel";
        return Err(CommandError::new(CommandErrorKind::Rejected, message));
    }
    let snapshot = state.snapshot();
    // Rejects unknown names before anything changes.
    select(state, selection)?;
    let busy = || {
        let message = "too many drains are running; wait until one has finished";
        CommandError::new(CommandErrorKind::Busy, message)
    };
    if !state.drains.has_capacity_for(selection) {
        return Err(busy());
    }
    make_plan(state, &snapshot, pacing, close, 0)?;
    // Set before the tunnels are listed, so that a concurrent handshake is either listed or
    // rejected.
    reject_new_tunnels(state, &snapshot, selection);
    let sessions = select(state, selection)?;
    let plan = make_plan(state, &snapshot, pacing, close, sessions.len())?;
    let (new_tunnels, rejecting_routes) = new_tunnels(&snapshot, selection);
    let started = DrainResult {
        sessions: sessions.len(),
        window_ms: millis(plan.window(sessions.len())),
        deadline_ms: millis(plan.pacing.deadline),
        aborted: None,
        new_tunnels,
        rejecting_routes,
    };
    let task = state.drains.start(selection.clone(), plan, &sessions).ok_or_else(busy)?;
    Ok((started, task))
}

/// Sets the drain flag of a whole scope; does nothing for other selections.
fn reject_new_tunnels(state: &ProxyState, snapshot: &Snapshot, selection: &Selection) {
    if !selection.is_scope() {
        return;
    }
    match (&selection.route, &selection.backend) {
        (None, None) => {
            state.admin_drain.set(true);
        }
        (Some(route), None) => {
            for route in routes(snapshot, Some(route)) {
                route.drain.set(true);
            }
        }
        (route, Some(backend)) => {
            // None if a reload removed the backend while tunnels to it are open.
            let found = overrides(snapshot, route.as_deref(), backend)
                .unwrap_or_else(|_| absent(state, snapshot, route.as_deref(), backend));
            found.iter().for_each(|admin_override| {
                admin_override.drain.set(true);
            });
        }
    }
}

/// What happens to new tunnels now that the selection is drained, and the routes that reject them because they have no
/// other backend.
fn new_tunnels(snapshot: &Snapshot, selection: &Selection) -> (NewTunnels, Vec<String>) {
    if !selection.is_scope() {
        return (NewTunnels::Admitted, Vec::new());
    }
    let Some(id) = &selection.backend else { return (NewTunnels::Rejected, Vec::new()) };
    let (with_another, rejecting): (Vec<_>, Vec<_>) = routes(snapshot, selection.route.as_deref())
        .filter(|route| route.pool.is_listed(id))
        .partition(|route| route.pool.backends().iter().any(|backend| !backend.is_draining()));
    let rejecting: Vec<String> = rejecting.iter().map(|route| route.name.to_string()).collect();
    match with_another.is_empty() && !rejecting.is_empty() {
        true => (NewTunnels::Rejected, rejecting),
        false => (NewTunnels::Elsewhere, rejecting),
    }
}

/// Admits new tunnels again and stops the drains of the scope. Tunnels that were not closed yet
/// stay open.
pub(super) fn undrain(state: &ProxyState, scope: &DrainScope) -> Result<(), CommandError> {
    let snapshot = state.snapshot();
    let all_routes = || snapshot.route_list.iter();
    let (routes, overrides): (Vec<_>, Vec<_>) = match scope {
        DrainScope::All => (all_routes().collect(), all_overrides(&snapshot).collect()),
        DrainScope::Route(name) => (routes(&snapshot, Some(name)).collect(), Vec::new()),
        DrainScope::Backend(id) => (Vec::new(), overrides(&snapshot, None, id)?),
    };
    if let (DrainScope::Route(name), true) = (scope, routes.is_empty()) {
        return Err(unknown_route(&snapshot, name));
    }
    state.drains.cancel(scope);
    if *scope == DrainScope::All {
        state.admin_drain.set(false);
    }
    for drain_flag in routes.iter().map(|route| &*route.drain) {
        drain_flag.set(false);
    }
    for admin_override in overrides {
        admin_override.drain.set(false);
    }
    Ok(())
}

/// Overrides the weight of a backend on one route, or on all routes; `None` removes the override.
pub(super) fn set_weight(
    state: &ProxyState,
    id: &str,
    route: Option<&str>,
    weight: Option<u32>,
) -> Result<WeightChanged, CommandError> {
    let zero = || {
        let message = "the weight must be at least 1; to send no clients there, drain the backend";
        CommandError::new(CommandErrorKind::BadRequest, message)
    };
    let weight = weight.map(|weight| NonZeroU32::new(weight).ok_or_else(zero)).transpose()?;
    let snapshot = state.snapshot();
    let found = overrides(&snapshot, route, id)?;
    found.iter().for_each(|admin_override| admin_override.set_weight(weight));
    let mut pools = routes(&snapshot, route).map(|route| &route.pool);
    let weight = pools.find_map(|pool| pool.effective_weight(id)).map_or(0, NonZeroU32::get);
    Ok(WeightChanged { routes: found.len(), weight })
}

/// Switches the maintenance of a route. Looks for its file, which may block: while it exists, maintenance stays
/// on.
pub(super) fn set_maintenance(
    state: &ProxyState,
    name: &str,
    on: bool,
) -> Result<MaintenanceChanged, CommandError> {
    let snapshot = state.snapshot();
    let route =
        routes(&snapshot, Some(name)).next().ok_or_else(|| unknown_route(&snapshot, name))?;
    route.maintenance.set_by_command(on);
    maintenance_files::look(route);
    let cause = route.maintenance.cause();
    let file = route.maintenance.file().filter(|_| cause == Some(MaintenanceCause::File));
    Ok(MaintenanceChanged {
        on: cause.is_some(),
        file: file.map(|file| file.display().to_string()),
    })
}

fn routes<'s, 'n>(
    snapshot: &'s Snapshot,
    name: Option<&'n str>,
) -> impl Iterator<Item = &'s Arc<Route>> + use<'s, 'n> {
    let routes = snapshot.route_list.iter();
    routes.filter(move |route| name.is_none_or(|name| *route.name == *name))
}

/// What operators set for the backend with this id, or for all backends of the name with this id, on one route or on
/// all routes.
fn overrides(
    snapshot: &Snapshot,
    route: Option<&str>,
    id: &str,
) -> Result<Vec<Arc<AdminOverride>>, CommandError> {
    let routes: Vec<&Arc<Route>> = routes(snapshot, route).collect();
    if let (Some(route), true) = (route, routes.is_empty()) {
        return Err(unknown_route(snapshot, route));
    }
    let of_routes = routes.iter().filter_map(|route| route.pool.admin_override(id));
    let found: Vec<_> = of_routes.map(|(_, admin_override)| admin_override).collect();
    if found.is_empty() {
        return Err(unknown_backend(snapshot, id));
    }
    Ok(found)
}

/// What operators set for an address with tunnels that has left the answer for its name.
fn absent(
    state: &ProxyState,
    snapshot: &Snapshot,
    route: Option<&str>,
    address: &str,
) -> Vec<Arc<AdminOverride>> {
    let mut found = Vec::new();
    for counts in state.metrics.tunnel_counts() {
        if counts.open.get() == 0 || **counts.place() != *address {
            continue;
        }
        for route in routes(snapshot, route).filter(|route| route.name == counts.route.name) {
            let mut names = route.pool.names.iter();
            if route.pool.backend_with(&counts) == *counts.place()
                && let Some(listed) = names.find(|listed| listed.id == *counts.listed_id())
            {
                found.push(listed.addresses.get_absent(counts.place()));
            }
        }
    }
    found
}

/// What operators set for all backends, and for all names.
fn all_overrides(snapshot: &Snapshot) -> impl Iterator<Item = Arc<AdminOverride>> {
    let names = snapshot.route_list.iter().flat_map(|route| route.pool.names.iter());
    let names = names.flat_map(|listed| {
        [listed.admin_override.clone()].into_iter().chain(listed.addresses.all())
    });
    names.chain(snapshot.backends().map(|backend| backend.admin_override.clone()))
}

fn make_plan(
    state: &ProxyState,
    snapshot: &Snapshot,
    pacing: DrainPacing,
    close: &CloseRequest,
    tunnels: usize,
) -> Result<DrainPlan, CommandError> {
    let file = snapshot.settings.drain;
    let window = pacing.window_ms.map_or(file.window, Duration::from_millis);
    let rate = pacing.per_second.map_or(Ok(file.rate), |rate| {
        let zero =
            || CommandError::new(CommandErrorKind::BadRequest, "the rate must be at least 1/s");
        NonZeroU32::new(rate).ok_or_else(zero).map(Some)
    })?;
    // A longer window, or a rate that needs one, extends the default deadline by the same amount.
    let at_rate = pacing.per_second.map_or(0.0, |rate| tunnels as f64 / f64::from(rate));
    let extended = window.max(Duration::from_secs_f64(at_rate));
    let default = file.deadline.max(extended + (file.deadline - file.window)).min(DEADLINE_MAX);
    let deadline = pacing.deadline_ms.map_or(default, Duration::from_millis);
    if deadline > DEADLINE_MAX || deadline < window {
        let message = match pacing.deadline_ms {
            None => {
                let [window, max] = show_in_one_unit([window, DEADLINE_MAX]);
                format!("the window {window} is longer than the maximum deadline of a drain, {max}")
            }
            Some(_) if deadline > DEADLINE_MAX => {
                let [deadline, max] = show_in_one_unit([deadline, DEADLINE_MAX]);
                format!("the deadline {deadline} is longer than the maximum, {max}")
            }
            Some(_) => {
                let [deadline, window] = show_in_one_unit([deadline, window]);
                format!("the deadline {deadline} is shorter than the window {window}")
            }
        };
        return Err(CommandError::new(CommandErrorKind::BadRequest, message));
    }
    let reason = TerminationReason::Drained;
    let message = match close {
        CloseRequest { code: None, reason: None } => None,
        CloseRequest { .. } => Some(close_message(close, (CloseCode::SERVICE_RESTART, ""))?),
    };
    let pacing = DrainSettings { window, rate, deadline, ..file };
    Ok(DrainPlan {
        close: Arc::new(SessionClose { reason, message }),
        pacing,
        net: state.net.clone(),
    })
}

/// Validates the requested code and reason (RFC 6455 7.4 and 5.5).
fn close_message(
    close: &CloseRequest,
    (code, reason): (CloseCode, &str),
) -> Result<CloseMessage, CommandError> {
    let bad = |message: String| CommandError::new(CommandErrorKind::BadRequest, message);
    let code = match close.code {
        None => code,
        Some(number) => close_code(number).map_err(bad)?,
    };
    let reason = close.reason.as_deref().unwrap_or(reason);
    if reason.len() > CLOSE_REASON_MAX {
        return Err(bad(format!("the reason is longer than {CLOSE_REASON_MAX} bytes")));
    }
    Ok(CloseMessage { code, text: reason.into() })
}

fn require_all_flag(selection: &Selection, all: bool) -> Result<(), CommandError> {
    if *selection == Selection::default() && !all {
        let message = "nothing is selected; set `all` to select every tunnel";
        return Err(CommandError::new(CommandErrorKind::BadRequest, message));
    }
    Ok(())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

const DEADLINE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
