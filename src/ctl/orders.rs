//! `ctl kill`, `drain`, `undrain` and `weight`.

use super::args::{Drain, Kill};
use super::figures::{count, span};
use super::speech::{Ending, Speech};
use super::table::harmless;
use crate::protocol::answer::{Drained, Killed, Weighed};
use crate::protocol::{Place, Request};

/// Closes tunnels at once.
pub fn kill(speech: &Speech, kill: Kill) -> Result<(), Ending> {
    let Kill { sessions, which, all, says } = kill;
    let request = Request::Kill { of: which.selection(sessions), all, words: says.into() };
    speech.put(&request, |killed: Killed| match killed.sessions {
        0 => "no open tunnel fits\n".to_owned(),
        1 => "1 tunnel was told to close\n".to_owned(),
        many => format!("{many} tunnels were told to close\n"),
    })
}

/// Closes tunnels one by one.
pub fn drain(speech: &Speech, drain: Drain) -> Result<(), Ending> {
    let pace = drain.pace();
    let Drain { which, all, says, wait, .. } = drain;
    let of = which.selection(Vec::new());
    let away = if of.is_place() { "; no new ones until undrain" } else { "" };
    let drained = |told| drained(told, away);
    let request = Request::Drain { of, all, pace, words: says.into(), wait };
    if wait {
        // How long that takes is known over there; the connection ends with the process.
        return speech.put_within(&request, None, drained);
    }
    speech.put(&request, drained)
}

fn drained(drained: Drained, away: &str) -> String {
    let Drained { sessions, window_ms, deadline_ms, cut } = drained;
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
pub fn undrain(speech: &Speech, place: Place) -> Result<(), Ending> {
    speech.put(&Request::Undrain { place }, |place: Place| {
        let place = match place {
            Place::All => "everywhere".to_owned(),
            Place::Route(route) => format!("on route {}", harmless(&route)),
            Place::Backend(backend) => format!("at backend {}", harmless(&backend)),
        };
        format!("new tunnels are let in again {place}\n")
    })
}

/// Gives a backend another share.
pub fn weight(speech: &Speech, request: Request) -> Result<(), Ending> {
    speech.put(&request, |weighed: Weighed| {
        let routes = count(weighed.routes as u64, "route");
        format!("its weight is {} on {routes}\n", weighed.weight)
    })
}
