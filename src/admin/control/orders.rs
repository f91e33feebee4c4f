//! Closing tunnels, and keeping new ones away.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use ws::{CLOSE_REASON_MAX, CloseCode, CloseMessage, SessionClose, TerminationReason};

use super::choose::{choose, is_everything, unknown_backend, unknown_route};
use crate::config::settings::DrainSettings;
use crate::config::values::units::show_duration;
use crate::protocol::answer::{
    CommandError, CommandErrorKind, DrainResult, KillResult, WeightChanged,
};
use crate::protocol::{CloseRequest, DrainPacing, DrainScope, Selection};
use crate::proxy::snapshot::{Route, Snapshot};
use crate::proxy::state::ProxyState;
use crate::sessions::drain_plan::{self, DrainPlan};
use crate::upstream::pool::Backend;

/// Closes tunnels at once.
pub(super) fn kill(
    gate: &ProxyState,
    of: &Selection,
    all: bool,
    words: &CloseRequest,
) -> Result<KillResult, CommandError> {
    mean_it(of, all)?;
    let lines = choose(gate, of)?;
    let standard = (CloseCode::POLICY_VIOLATION, "closed by an operator");
    let message = Some(spoken(words, standard)?);
    let notice = Arc::new(SessionClose { reason: TerminationReason::Killed, message });
    lines.iter().for_each(|line| line.leave(&notice));
    Ok(KillResult { sessions: lines.len() })
}

/// When a drain is over.
type DrainDone = JoinHandle<drain_plan::DrainOutcome>;

/// Begins to close tunnels one by one, and keeps new ones away from what is drained.
pub(super) fn drain(
    gate: &Arc<ProxyState>,
    of: &Selection,
    all: bool,
    pace: DrainPacing,
    words: &CloseRequest,
) -> Result<(DrainResult, DrainDone), CommandError> {
    mean_it(of, all)?;
    if gate.is_draining() {
        return Err(CommandError::new(
            CommandErrorKind::Refused,
            "the process drains already, and leaves",
        ));
    }
    let generation = gate.snapshot();
    // Whether such are known at all.
    choose(gate, of)?;
    let busy = || {
        CommandError::new(
            CommandErrorKind::Busy,
            "too many drains are under way; wait for one to end",
        )
    };
    if !gate.drains.have_room() {
        return Err(busy());
    }
    course(gate, &generation, pace, words, 0)?;
    // First, so that a handshake under way is either among them, or not let in.
    keep_away(gate, &generation, of);
    let lines = choose(gate, of)?;
    let course = course(gate, &generation, pace, words, lines.len())?;
    let begun = DrainResult {
        sessions: lines.len(),
        window_ms: millis(course.window(lines.len())),
        deadline_ms: millis(course.pace.deadline),
        cut: None,
    };
    let over = gate.drains.begin(of.clone(), course, &lines).ok_or_else(busy)?;
    Ok((begun, over))
}

/// Nobody new, where a place as a whole is drained.
fn keep_away(gate: &ProxyState, generation: &Snapshot, of: &Selection) {
    if !of.is_place() {
        return;
    }
    match (&of.route, &of.backend) {
        (None, None) => {
            gate.away.set(true);
        }
        (Some(route), None) => {
            for route in routes(generation, Some(route)) {
                route.drain.set(true);
            }
        }
        (route, Some(backend)) => {
            // None, where it was removed and only its tunnels are left.
            for backend in backends(generation, route.as_deref(), backend).unwrap_or_default() {
                backend.standing.away.set(true);
            }
        }
    }
}

/// Lets new tunnels in again, and ends what drains are under way there: what they have not closed
/// yet stays.
pub(super) fn undrain(gate: &ProxyState, place: &DrainScope) -> Result<(), CommandError> {
    let generation = gate.snapshot();
    let all_routes = || generation.route_list.iter();
    let (routes, backends): (Vec<_>, Vec<_>) = match place {
        DrainScope::All => (all_routes().collect(), all_backends(&generation).collect()),
        DrainScope::Route(name) => (routes(&generation, Some(name)).collect(), Vec::new()),
        DrainScope::Backend(id) => (Vec::new(), backends(&generation, None, id)?),
    };
    if let (DrainScope::Route(name), true) = (place, routes.is_empty()) {
        return Err(unknown_route(&generation, name));
    }
    let mut changed = gate.drains.stop(place) > 0;
    changed |= *place == DrainScope::All && gate.away.set(false);
    for away in routes.iter().map(|route| &*route.drain) {
        changed |= away.set(false);
    }
    for away in backends.iter().map(|backend| &backend.standing.away) {
        changed |= away.set(false);
    }
    if !changed {
        return Err(CommandError::new(CommandErrorKind::Refused, "nothing is drained there"));
    }
    Ok(())
}

/// Another share of the clients.
pub(super) fn weigh(
    gate: &ProxyState,
    id: &str,
    route: Option<&str>,
    weight: Option<u32>,
) -> Result<WeightChanged, CommandError> {
    let zero = || {
        let words = "a weight is 1 at least; to send nobody there, drain the backend";
        CommandError::new(CommandErrorKind::BadRequest, words)
    };
    let weight = weight.map(|weight| NonZeroU32::new(weight).ok_or_else(zero)).transpose()?;
    let generation = gate.snapshot();
    let found = backends(&generation, route, id)?;
    found.iter().for_each(|backend| backend.standing.weigh(weight));
    let now = found.first().map_or(0, |backend| backend.share().get());
    Ok(WeightChanged { routes: found.len(), weight: now })
}

fn routes<'g, 'n>(
    generation: &'g Snapshot,
    name: Option<&'n str>,
) -> impl Iterator<Item = &'g Arc<Route>> + use<'g, 'n> {
    let routes = generation.route_list.iter();
    routes.filter(move |route| name.is_none_or(|name| *route.name == *name))
}

/// A backend on every route, or on one, that has it.
fn backends<'g>(
    generation: &'g Snapshot,
    route: Option<&str>,
    id: &str,
) -> Result<Vec<&'g Arc<Backend>>, CommandError> {
    let on: Vec<&Arc<Route>> = routes(generation, route).collect();
    if let (Some(route), true) = (route, on.is_empty()) {
        return Err(unknown_route(generation, route));
    }
    let of_route = on.iter().flat_map(|route| route.pool.backends());
    let found: Vec<_> = of_route.filter(|backend| *backend.id == *id).collect();
    if found.is_empty() {
        return Err(unknown_backend(generation, id));
    }
    Ok(found)
}

fn all_backends(generation: &Snapshot) -> impl Iterator<Item = &Arc<Backend>> {
    generation.route_list.iter().flat_map(|route| route.pool.backends())
}

fn course(
    gate: &ProxyState,
    generation: &Snapshot,
    pace: DrainPacing,
    words: &CloseRequest,
    tunnels: usize,
) -> Result<DrainPlan, CommandError> {
    let file = generation.settings.drain;
    let window = pace.window_ms.map_or(file.window, Duration::from_millis);
    let rate = pace.per_second.map_or(Ok(file.rate), |rate| {
        let zero = || CommandError::new(CommandErrorKind::BadRequest, "a rate is 1/s at least");
        NonZeroU32::new(rate).ok_or_else(zero).map(Some)
    })?;
    // Who asks for a longer window, or for a rate that takes longer, wants all of it.
    let asked = pace.per_second.map_or(0.0, |rate| tunnels as f64 / f64::from(rate));
    let long = window.max(Duration::from_secs_f64(asked));
    let standard = file.deadline.max(long + (file.deadline - file.window)).min(DEADLINE_MAX);
    let deadline = pace.deadline_ms.map_or(standard, Duration::from_millis);
    if deadline > DEADLINE_MAX || deadline < window {
        let words = format!(
            "the deadline, {}, must be as long as the window, {}, and a week at most",
            show_duration(deadline),
            show_duration(window)
        );
        return Err(CommandError::new(CommandErrorKind::BadRequest, words));
    }
    let reason = TerminationReason::Drained;
    let message = match words {
        CloseRequest { code: None, reason: None } => None,
        CloseRequest { .. } => Some(spoken(words, (CloseCode::SERVICE_RESTART, ""))?),
    };
    let pace = DrainSettings { window, rate, deadline, ..file };
    Ok(DrainPlan {
        notice: Arc::new(SessionClose { reason, message }),
        pace,
        net: gate.net.clone(),
    })
}

/// What clients are told, as far as it is lawful.
fn spoken(
    words: &CloseRequest,
    (code, reason): (CloseCode, &str),
) -> Result<CloseMessage, CommandError> {
    let bad = |words: String| CommandError::new(CommandErrorKind::BadRequest, words);
    let code = match words.code {
        None => code,
        // Chromium takes 1014 in a Close frame for a breach of the protocol.
        Some(number) => CloseCode::new(number).filter(|_| number != 1014).ok_or_else(|| {
            bad(format!("{number} may not stand in a Close frame; 1000 to 1013, or 3000 to 4999"))
        })?,
    };
    let reason = words.reason.as_deref().unwrap_or(reason);
    if reason.len() > CLOSE_REASON_MAX {
        return Err(bad(format!("the reason is longer than {CLOSE_REASON_MAX} bytes")));
    }
    Ok(CloseMessage { code, text: reason.into() })
}

fn mean_it(of: &Selection, all: bool) -> Result<(), CommandError> {
    if is_everything(of) && !all {
        let words = "this would be every tunnel: say which, or that all are meant";
        return Err(CommandError::new(CommandErrorKind::BadRequest, words));
    }
    Ok(())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

const DEADLINE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
