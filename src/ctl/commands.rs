//! `ctl kill`, `drain`, `undrain` and `weight`.

use super::args::{DrainArgs, KillArgs};
use super::format::{count, span};
use super::output::{CommandFailure, Output};
use super::table::sanitize;
use crate::protocol::response::{DrainResult, KillResult, WeightChanged};
use crate::protocol::{ControlRequest, DrainScope};

/// Closes tunnels at once.
pub fn kill(output: &Output, kill: KillArgs) -> Result<(), CommandFailure> {
    let KillArgs { sessions, which, all, says } = kill;
    let request =
        ControlRequest::Kill { selection: which.selection(sessions), all, close: says.into() };
    output.put(&request, |killed: KillResult| match killed.sessions {
        0 => "no open tunnel fits\n".to_owned(),
        1 => "1 tunnel was told to close\n".to_owned(),
        many => format!("{many} tunnels were told to close\n"),
    })
}

/// Closes tunnels one by one.
pub fn drain(output: &Output, drain: DrainArgs) -> Result<(), CommandFailure> {
    let pacing = drain.pacing();
    let DrainArgs { which, all, says, wait, .. } = drain;
    let selection = which.selection(Vec::new());
    let away = if selection.is_scope() { "; no new ones until undrain" } else { "" };
    let drained = |told| drained(told, away);
    let request = ControlRequest::Drain { selection, all, pacing, close: says.into(), wait };
    if wait {
        // How long that takes is known over there; the connection ends with the process.
        return output.put_within(&request, None, drained);
    }
    output.put(&request, drained)
}

fn drained(drained: DrainResult, away: &str) -> String {
    let DrainResult { sessions, window_ms, deadline_ms, aborted } = drained;
    let tunnels = count(sessions as u64, "tunnel");
    match aborted {
        Some(aborted) => format!("{tunnels} drained, {aborted} of them cut{away}\n"),
        None if sessions == 0 => format!("no open tunnel fits{away}\n"),
        None => {
            let (window, deadline) = (span(window_ms), span(deadline_ms));
            format!(
                "{tunnels} will be closed over {window}; what is left after {deadline} is \
                 cut{away}\n"
            )
        }
    }
}

/// Lets new tunnels in again.
pub fn undrain(output: &Output, scope: DrainScope) -> Result<(), CommandFailure> {
    output.put(&ControlRequest::Undrain { scope }, |scope: DrainScope| {
        let place = match scope {
            DrainScope::All => "everywhere".to_owned(),
            DrainScope::Route(route) => format!("on route {}", sanitize(&route)),
            DrainScope::Backend(backend) => format!("at backend {}", sanitize(&backend)),
        };
        format!("new tunnels are let in again {place}\n")
    })
}

/// Gives a backend another share.
pub fn weight(output: &Output, request: ControlRequest) -> Result<(), CommandFailure> {
    output.put(&request, |weighed: WeightChanged| {
        let routes = count(weighed.routes as u64, "route");
        format!("its weight is {} on {routes}\n", weighed.weight)
    })
}
