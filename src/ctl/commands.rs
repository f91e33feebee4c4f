//! `ctl kill`, `drain`, `undrain`, `weight` and `maintenance`.

use super::format::{count, duration};
use super::output::{CommandFailure, Output};
use super::table::sanitize;
use super::tunnel_args::{DrainArgs, KillArgs};
use crate::control_protocol::response::{
    CanaryChanged, DrainResult, KillResult, MaintenanceChanged, NewTunnels, WeightChanged,
};
use crate::control_protocol::{ControlRequest, DrainScope};

/// Closes tunnels immediately.
///
/// # Errors
///
/// As for [`Output::print`].
pub fn kill(output: &Output, kill: KillArgs) -> Result<(), CommandFailure> {
    let KillArgs { sessions, selection, all, close } = kill;
    let request = ControlRequest::Kill {
        selection: selection.into_selection(sessions),
        all,
        close: close.into(),
    };
    output.print(&request, |result: KillResult| match result.sessions {
        0 => "no open tunnel matches\n".to_owned(),
        1 => "closing 1 tunnel\n".to_owned(),
        many => format!("closing {many} tunnels\n"),
    })
}

/// Closes tunnels gradually.
///
/// # Errors
///
/// As for [`Output::print`].
pub fn drain(output: &Output, drain: DrainArgs) -> Result<(), CommandFailure> {
    let pacing = drain.pacing();
    let DrainArgs { selection, all, close, wait, .. } = drain;
    let selection = selection.into_selection(Vec::new());
    let scope = match (&selection.route, &selection.backend) {
        (_, Some(backend)) => format!("--backend {}", sanitize(backend)),
        (Some(route), None) => format!("--route {}", sanitize(route)),
        (None, None) => "--all".to_owned(),
    };
    let show = |result| drain_result(&result, &scope);
    let request = ControlRequest::Drain { selection, all, pacing, close: close.into(), wait };
    if wait {
        // The proxy knows the duration, and the connection ends if it exits.
        return output.print_within(&request, None, show);
    }
    output.print(&request, show)
}

fn drain_result(result: &DrainResult, scope: &str) -> String {
    let DrainResult { sessions, window_ms, deadline_ms, aborted, .. } = *result;
    let (tunnels, note) = (count(sessions as u64, "tunnel"), new_tunnels(result, scope));
    match aborted {
        Some(aborted) => format!("{tunnels} drained, {aborted} aborted{note}\n"),
        None if sessions == 0 => format!("no open tunnel matches{note}\n"),
        None => {
            let (window, deadline) = (duration(window_ms), duration(deadline_ms));
            format!(
                "closing {tunnels} over {window}; those left after {deadline} are aborted{note}\n"
            )
        }
    }
}

/// What happens to new tunnels, and how that ends.
fn new_tunnels(result: &DrainResult, scope: &str) -> String {
    let routes: Vec<String> = result.rejecting_routes.iter().map(|name| sanitize(name)).collect();
    let routes = routes.join(", ");
    let what = match result.new_tunnels {
        NewTunnels::Admitted => return String::new(),
        NewTunnels::Elsewhere if routes.is_empty() => "go to the other backends".to_owned(),
        NewTunnels::Elsewhere => {
            format!("go to the other backends, and are rejected on routes without any ({routes}),")
        }
        NewTunnels::Rejected if routes.is_empty() => "are rejected".to_owned(),
        NewTunnels::Rejected => "are rejected, as there is no other backend,".to_owned(),
    };
    format!("; new tunnels {what} until `tidegate ctl undrain {scope}`")
}

/// Admits new tunnels again.
///
/// # Errors
///
/// As for [`Output::print`].
pub fn undrain(output: &Output, scope: DrainScope) -> Result<(), CommandFailure> {
    output.print(&ControlRequest::Undrain { scope }, |scope: DrainScope| match scope {
        DrainScope::All => "new tunnels are admitted\n".to_owned(),
        DrainScope::Route(route) => {
            format!("new tunnels are admitted on route {}\n", sanitize(&route))
        }
        DrainScope::Backend(backend) => {
            format!("new tunnels are admitted to backend {}\n", sanitize(&backend))
        }
    })
}

/// Changes the weight of a backend.
///
/// # Errors
///
/// As for [`Output::print`].
pub fn weight(output: &Output, request: ControlRequest) -> Result<(), CommandFailure> {
    output.print(&request, |changed: WeightChanged| {
        let routes = count(changed.routes as u64, "route");
        format!("weight {} on {routes}\n", changed.weight)
    })
}

/// Changes the share of canary requests of a pool.
///
/// # Errors
///
/// As for [`Output::print`].
pub fn canary(output: &Output, pool: String, share: Option<String>) -> Result<(), CommandFailure> {
    let name = sanitize(&pool);
    let request = ControlRequest::Canary { pool, share };
    output.print(&request, |changed: CanaryChanged| {
        let share = sanitize(&changed.share);
        let closing = match changed.closing {
            0 => String::new(),
            tunnels => format!("; closing {} of canaries", count(tunnels as u64, "tunnel")),
        };
        format!("canary share of pool {name}: {share}{closing}\n")
    })
}

/// Switches the maintenance of a route.
///
/// # Errors
///
/// As for [`Output::print`].
pub fn maintenance(output: &Output, route: String, on: bool) -> Result<(), CommandFailure> {
    let name = sanitize(&route);
    let request = ControlRequest::Maintenance { route, on };
    output.print(&request, |changed: MaintenanceChanged| match (changed.on, changed.file) {
        (true, Some(file)) => {
            let file = sanitize(&file);
            format!("route {name} stays in maintenance as long as the file {file} exists\n")
        }
        (true, None) => {
            format!("route {name} in maintenance: requests get 503, tunnels stay open\n")
        }
        (false, _) => format!("route {name} serves requests again\n"),
    })
}
