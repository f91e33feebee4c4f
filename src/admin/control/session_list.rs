//! Describes open tunnels.

use std::sync::Arc;
use std::time::Duration;

use crate::control_protocol::response::{SessionDetail, SessionList, SessionRow};
use crate::proxy::state::ProxyState;
use crate::sessions::info::SessionInfo;
use crate::sessions::registry::SessionHandle;
use crate::sys::clock::{now, wall};

/// Lists tunnels. This takes milliseconds for thousands of them.
pub(super) fn list(state: &ProxyState, selected: &[Arc<SessionHandle>]) -> SessionList {
    SessionList {
        now: wall(),
        open: state.registry.count(),
        sessions: selected.iter().map(|session| row(session)).collect(),
    }
}

fn row(session: &SessionHandle) -> SessionRow {
    let (info, stats) = (&session.info, session.stats.snapshot());
    let rtt = |rtt: Option<Duration>| rtt.map(millis);
    SessionRow {
        session: session.number,
        client: info.client().to_string(),
        listener: info.connection.client.listener.to_string(),
        route: info.counts.route.name.to_string(),
        backend: info.counts.id.to_string(),
        backend_address: info.counts.address.as_deref().map(str::to_owned),
        age_ms: whole_millis(now().saturating_duration_since(info.opened)),
        up_bytes: stats.bytes[0],
        down_bytes: stats.bytes[1],
        up_messages: stats.messages[0],
        down_messages: stats.messages[1],
        client_rtt_ms: rtt(stats.rtt[0]),
        backend_rtt_ms: rtt(stats.rtt[1]),
        closing: session.is_closing(),
    }
}

/// Describes one tunnel in full.
pub(super) fn detail(session: &SessionHandle) -> SessionDetail {
    let SessionInfo { connection, fields, backend_handshake_micros, generation, .. } =
        &session.info;
    let (client, request) = (&connection.client, fields.unpack());
    let delayed = session.stats.snapshot().delayed;
    let own = |text: &str| text.to_owned();
    SessionDetail {
        row: row(session),
        address: client.addr.to_string(),
        client_source: client.addr_source.label().unwrap_or("socket").to_owned(),
        protocol: own(client.protocol.as_str()),
        tls: client.tls.as_ref().map(|tls| format!("{} {}", tls.version.as_str(), tls.cipher)),
        sni: client.tls.as_ref().and_then(|tls| tls.sni.as_deref()).map(own),
        host: own(request.host),
        target: own(request.target),
        user_agent: request.user_agent.map(own),
        request_id: request.request_id.map(own),
        subprotocol: request.subprotocol.map(own),
        generation: u64::from(*generation),
        backend_handshake_ms: millis(Duration::from_micros(u64::from(*backend_handshake_micros))),
        client_delayed_ms: whole_millis(delayed[0]),
        backend_delayed_ms: whole_millis(delayed[1]),
    }
}

fn whole_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
