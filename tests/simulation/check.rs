//! What must hold after every run.

use tidegate::telemetry::metrics::ReasonCount;

use crate::peer::PeerLog;
use crate::reference::frames;
use crate::world::{Outcome, TunnelLog};

/// The first violation, if any.
pub fn violation(outcome: &Outcome) -> Option<String> {
    // A message that becomes too old ends its tunnel inside a frame.
    let too_old = reasons(outcome).any(|reason| reason.reason == "message_too_old");
    tunnels(&outcome.tunnels, too_old).or_else(|| at_rest(outcome))
}

/// The reasons for which the sessions of a run ended.
pub fn reasons(outcome: &Outcome) -> impl Iterator<Item = ReasonCount> {
    let routes = outcome.state.metrics.routes();
    routes.into_iter().flat_map(|route| route.terminations()).filter(|reason| reason.count > 0)
}

fn tunnels(tunnels: &[TunnelLog], may_end_inside_frame: bool) -> Option<String> {
    tunnels.iter().enumerate().find_map(|(number, tunnel)| {
        let (client, backend) = (tunnel.client.as_ref(), tunnel.backend.as_ref());
        let up = direction(client, backend, may_end_inside_frame)
            .map(|text| format!("to the backend: {text}"));
        let down = direction(backend, client, may_end_inside_frame)
            .map(|text| format!("to the client: {text}"));
        up.or(down)
            .or_else(|| after_violation(client?, backend?))
            .map(|text| format!("tunnel {number}, {text}"))
    })
}

/// The data frames that arrived are a prefix of those that were sent, whole, and a Close is last.
fn direction(
    from: Option<&PeerLog>,
    to: Option<&PeerLog>,
    may_end_inside_frame: bool,
) -> Option<String> {
    let to = to?;
    let nothing = PeerLog::default();
    let from = from.unwrap_or(&nothing);
    let (whole, partial) = frames(&to.received);
    let close = whole.iter().position(|frame| frame.first == 0x88);
    if let Some(close) = close
        && (close + 1 < whole.len() || partial > 0)
    {
        return Some(format!("{} frames and {partial} B after a Close", whole.len() - close - 1));
    }
    let data = whole.iter().filter(|frame| frame.first & 0x08 == 0);
    let mut sent = from.sent.iter();
    for (at, frame) in data.enumerate() {
        match sent.next() {
            Some((first, payload)) if (*first, payload) == (frame.first, &frame.payload) => {}
            // The log of a peer that never finished its handshake is empty.
            None if from.sent.is_empty() && from.received.is_empty() => return None,
            Some(_) | None => return Some(format!("data frame {at} differs from what was sent")),
        }
    }
    // Only a connection that broke, or that its receiver left, may end inside a frame.
    let broke = |peer: &PeerLog| peer.stopped_inside_frame || peer.left || peer.network_broke;
    let broke = may_end_inside_frame || to.read_failed || broke(from) || broke(to);
    (partial > 0 && !broke).then(|| format!("an orderly end inside a frame ({partial} B)"))
}

/// A client that sent too large a message receives all that its backend sent before it answered the
/// Close, and only then its own Close.
fn after_violation(client: &PeerLog, backend: &PeerLog) -> Option<String> {
    let (received, _) = frames(&client.received);
    let too_big = 1009u16.to_be_bytes();
    let violated = received.last()?.first == 0x88 && received.last()?.payload.starts_with(&too_big);
    // A reset after the close grace is seen by the backend as a failed read.
    let orderly = backend.closed && !backend.read_failed && !backend.network_broke;
    let arrived = received.iter().filter(|frame| frame.first & 0x08 == 0).count();
    (violated && orderly && arrived < backend.sent.len())
        .then(|| format!("{arrived} of {} frames arrived before the Close", backend.sent.len()))
}

/// All places are free, all gauges zero, and every session that started has ended for one reason.
fn at_rest(outcome: &Outcome) -> Option<String> {
    let state = &outcome.state;
    let metrics = &state.metrics;
    let opened: u64 = metrics.backends().iter().map(|backend| backend.opened.get()).sum();
    let open: u64 = metrics.backends().iter().map(|backend| backend.open.get()).sum();
    let connections: u64 = metrics.listeners().iter().map(|listener| listener.open.get()).sum();
    let ended: u64 = reasons(outcome).map(|reason| reason.count).sum();
    let facts = [
        ("open tunnels", open),
        ("open connections", connections),
        ("connection permits", state.concurrency.connections() as u64),
        ("tunnel permits", state.concurrency.tunnels() as u64),
        ("registered sessions", state.registry.count() as u64),
        ("tasks", state.tasks.len() as u64),
    ];
    if let Some((name, count)) = facts.into_iter().find(|(_, count)| *count != 0) {
        return Some(format!("{count} {name} at rest"));
    }
    (opened != ended).then(|| format!("{opened} sessions started, {ended} reasons counted"))
}
