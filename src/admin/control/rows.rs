//! Open tunnels, as they are shown.

use std::sync::Arc;
use std::time::Duration;

use crate::protocol::answer::{SessionDetail, SessionList, SessionRow};
use crate::proxy::state::ProxyState;
use crate::sessions::info::SessionInfo;
use crate::sessions::registry::SessionHandle;
use crate::sys::clock::{now, wall};

/// A list; takes milliseconds if there are thousands.
pub(super) fn list(gate: &ProxyState, lines: &[Arc<SessionHandle>]) -> SessionList {
    SessionList {
        now: wall(),
        open: gate.registry.len(),
        sessions: lines.iter().map(|line| row(line)).collect(),
    }
}

fn row(line: &SessionHandle) -> SessionRow {
    let (facts, figures) = (&line.facts, line.live.figures());
    let rtt = |rtt: Option<Duration>| rtt.map(millis);
    SessionRow {
        session: line.session,
        client: facts.client().to_string(),
        listener: facts.connection.visitor.listener.to_string(),
        route: facts.counts.route.name.to_string(),
        backend: facts.counts.id.to_string(),
        age_ms: whole(now().saturating_duration_since(facts.opened)),
        up_bytes: figures.bytes[0],
        down_bytes: figures.bytes[1],
        up_messages: figures.messages[0],
        down_messages: figures.messages[1],
        client_rtt_ms: rtt(figures.rtt[0]),
        backend_rtt_ms: rtt(figures.rtt[1]),
        closing: line.is_leaving(),
    }
}

/// One, with all that is known of it.
pub(super) fn detail(line: &SessionHandle) -> SessionDetail {
    let SessionInfo { connection, particulars, dial, generation, .. } = &line.facts;
    let (visitor, said) = (&connection.visitor, particulars.unpack());
    let delayed = line.live.figures().delayed;
    let own = |text: &str| text.to_owned();
    SessionDetail {
        row: row(line),
        address: visitor.addr.to_string(),
        known_by: visitor.known_by.slug().unwrap_or("socket").to_owned(),
        tls: visitor.tls.as_ref().map(|tls| format!("{} {}", tls.version.slug(), tls.cipher)),
        sni: visitor.tls.as_ref().and_then(|tls| tls.sni.as_deref()).map(own),
        host: own(said.host),
        target: own(said.target),
        user_agent: said.user_agent.map(own),
        request_id: said.request_id.map(own),
        subprotocol: said.subprotocol.map(own),
        generation: u64::from(*generation),
        backend_handshake_ms: millis(Duration::from_micros(u64::from(*dial))),
        client_delayed_ms: whole(delayed[0]),
        backend_delayed_ms: whole(delayed[1]),
    }
}

fn whole(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
