//! `ctl kill`, `drain`, `undrain` and `weight`.

use super::args::{DrainArgs, KillArgs};
use super::figures::{count, span};
use super::speech::{CommandFailure, Output};
use super::table::harmless;
use crate::protocol::answer::{DrainResult, KillResult, WeightChanged};
use crate::protocol::{ControlRequest, DrainScope};

/// Closes tunnels at once.
pub fn kill(speech: &Output, kill: KillArgs) -> Result<(), CommandFailure> {
    let KillArgs { sessions, which, all, says } = kill;
    let request = ControlRequest::Kill { of: which.selection(sessions), all, words: says.into() };
    speech.put(&request, |killed: KillResult| match killed.sessions {
        0 => "no open tunnel fits\n".to_owned(),
        1 => "1 tunnel was told to close\n".to_owned(),
        many => format!("{many} tunnels were told to close\n"),
    })
}

/// Closes tunnels one by one.
pub fn drain(speech: &Output, drain: DrainArgs) -> Result<(), CommandFailure> {
    let pace = drain.pace();
    let DrainArgs { which, all, says, wait, .. } = drain;
    let of = which.selection(Vec::new());
    let away = if of.is_place() { "; no new ones until undrain" } else { "" };
    let drained = |told| drained(told, away);
    let request = ControlRequest::Drain { of, all, pace, words: says.into(), wait };
    if wait {
        // How long that takes is known over there; the connection ends with the process.
        return speech.put_within(&request, None, drained);
    }
    speech.put(&request, drained)
}

fn drained(drained: DrainResult, away: &str) -> String {
    let DrainResult { sessions, window_ms, deadline_ms, cut } = drained;
    let tunnels = count(sessions as u64, "tunnel");
    match cut {
        Some(cut) => format!("{tunnels} drained, {cut} of them cut{away}\n"),
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
pub fn undrain(speech: &Output, place: DrainScope) -> Result<(), CommandFailure> {
    speech.put(&ControlRequest::Undrain { place }, |place: DrainScope| {
        let place = match place {
            DrainScope::All => "everywhere".to_owned(),
            DrainScope::Route(route) => format!("on route {}", harmless(&route)),
            DrainScope::Backend(backend) => format!("at backend {}", harmless(&backend)),
        };
        format!("new tunnels are let in again {place}\n")
    })
}

/// Gives a backend another share.
pub fn weight(speech: &Output, request: ControlRequest) -> Result<(), CommandFailure> {
    speech.put(&request, |weighed: WeightChanged| {
        let routes = count(weighed.routes as u64, "route");
        format!("its weight is {} on {routes}\n", weighed.weight)
    })
}
