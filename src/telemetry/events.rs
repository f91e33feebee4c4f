//! Log messages about backends and about open tunnels.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use tracing::{debug, info, warn};
use ws::{LimitKind, SessionPolicy, Side, Violation};

use super::redact::truncate;
use crate::client::{ClientInfo, ClientKey};

/// Logs a failed connection attempt of this route: a warning if the backend was ejected because of it,
/// otherwise a debug message.
pub fn backend_connect_failed(id: &str, route: &str, error: &dyn fmt::Display, is_ejected: bool) {
    let error = error.to_string();
    if is_ejected {
        warn!(
            route,
            backend = id,
            error,
            "backend down: connection attempts failed in a row; it is tried last until one succeeds"
        );
    } else {
        debug!(route, backend = id, error, "cannot connect to backend");
    }
}

/// Logs that a client left after a backend had not responded to its handshake for this long. Callers log it at most once
/// a minute for each backend.
pub fn backend_silent(id: &str, route: &str, waited: Duration) {
    warn!(
        route,
        backend = id,
        waited_ms = waited.as_millis() as u64,
        "clients leave before the backend responds to their handshakes: it accepts connections, but may hang"
    );
}

/// Logs that a backend accepted no connection in time while it waits for the rest of this many request bodies. Callers
/// log it at most once a minute for each backend.
pub fn backend_held(id: &str, route: &str, uploads: u64) {
    warn!(
        route,
        backend = id,
        uploads,
        "backend accepts no connection while it waits for slow request bodies; it does not count as down; \
         timeouts.min_body_rate and concurrency.requests_per_client limit them"
    );
}

/// Logs that an ejected backend accepted a connection again.
pub fn backend_recovered(id: &str, route: &str) {
    info!(route, backend = id, "backend up: it accepts connections again");
}

/// Logs that a backend is ejected because responses to `clients` failed, last for this cause.
pub fn backend_ejected(
    id: &str,
    route: &str,
    cause: &dyn fmt::Display,
    clients: usize,
    time: Duration,
) {
    warn!(
        route,
        backend = id,
        error = %cause,
        clients,
        time_ms = time.as_millis() as u64,
        "backend ejected: responses failed; it is tried last for this time, and then as before"
    );
}

/// Logs that responses of a backend fail, but that its pool does not allow to eject it. Callers log it at most
/// once a minute.
pub fn backend_not_ejected(id: &str, route: &str, cause: &dyn fmt::Display) {
    warn!(
        route,
        backend = id,
        error = %cause,
        "backend not ejected although responses failed: half of the pool is ejected, or no other backend is up"
    );
}

/// Logs that a backend is down because probes failed, the last one for this cause.
pub fn backend_probed_down(
    id: &str,
    route: &str,
    probe: &str,
    error: &str,
    [rise, fall]: [NonZeroU32; 2],
) {
    warn!(
        route,
        backend = id,
        probe,
        error,
        "backend down: probes failed ({fall} in a row); it gets no requests until probes succeed ({rise} in a row)"
    );
}

/// Logs that a backend is up because probes succeeded.
pub fn backend_probed_up(id: &str, route: &str, probe: &str) {
    info!(route, backend = id, probe, "backend up: it answers probes");
}

/// Logs that a tenth of the local ports for connections to a backend is left, or less.
pub fn local_ports_low(id: &str, route: &str, left: usize, total: usize) {
    warn!(
        route,
        backend = id,
        left,
        total,
        "few local ports are left for connections to this backend; list more addresses of this machine in bind of \
         its [[pool]], or widen net.ipv4.ip_local_port_range"
    );
}

/// Logs that the addresses of the name of backends have changed, to `addresses` of them.
pub fn name_moved(
    name: &dyn fmt::Display,
    added: &[SocketAddr],
    removed: &[SocketAddr],
    addresses: usize,
) {
    info!(
        %name,
        addresses,
        added = listed(added),
        removed = listed(removed),
        "name of a backend has other addresses; open tunnels stay where they are"
    );
}

/// Logs that an address which has been missing in the answer for its name is back, with what an operator had set for it.
pub fn address_override_back(name: &str, backend: &str, drained: bool, weight: Option<u32>) {
    info!(
        name,
        backend, drained, weight, "backend is in the answer again; what ctl set for it still holds"
    );
}

/// Logs that lookups of the name of backends fail, while `addresses` of the last answer stay in use.
pub fn name_fails(name: &dyn fmt::Display, error: &str, addresses: usize) {
    let effect = match addresses {
        0 => "requests to it fail until it has an address",
        _ => "the addresses of the last answer stay in use",
    };
    warn!(%name, error, addresses, "lookups of the name of a backend fail; {effect}");
}

/// Logs that lookups of the name of backends succeed again.
pub fn name_recovered(name: &dyn fmt::Display, addresses: usize) {
    info!(%name, addresses, "lookups of the name of a backend succeed again");
}

/// The first of these addresses.
fn listed(addresses: &[SocketAddr]) -> String {
    let mut shown: Vec<String> =
        addresses.iter().take(ADDRESSES_MAX).map(SocketAddr::to_string).collect();
    if addresses.len() > ADDRESSES_MAX {
        shown.push(format!("and {} more", addresses.len() - ADDRESSES_MAX));
    }
    shown.join(", ")
}

/// Logs that the time of an ejection is over.
pub fn backend_readmitted(id: &str, route: &str) {
    info!(route, backend = id, "backend readmitted: the time of its ejection is over");
}

/// Addresses in one line of the log.
const ADDRESSES_MAX: usize = 8;

/// One side of an open tunnel.
#[derive(Clone, Copy, Debug)]
pub struct TunnelSide<'a> {
    /// Number of the session, as in its records.
    pub session: u64,
    /// The key by which the client is counted.
    pub client: ClientKey,
    /// Name of the route, as configured.
    pub route: &'a str,
    /// Id of the backend in the pool of the route.
    pub backend: &'a str,
    /// The limits and timers of the session.
    pub policy: &'a SessionPolicy,
    /// The side that the message is about.
    pub side: Side,
}

/// Logs a violation that would have closed the tunnel if its action were not `report`, with the size in
/// bytes if it exceeds a limit on sizes. Callers log it once per tunnel, side and violation.
pub fn would_close(at: TunnelSide<'_>, violation: Violation, size: Option<u64>) {
    let (key, value) = match violation {
        Violation::LimitExceeded(limit) => {
            (limit.key(at.side), limit.value(at.policy.limits(at.side)))
        }
        Violation::ProtocolError(_) => ("route.strict", Some("report".to_owned())),
    };
    info!(
        session = at.session,
        client_key = %at.client,
        route = at.route,
        backend = at.backend,
        side = at.side.as_str(),
        rule = violation.as_str(),
        key,
        value,
        size,
        "limit or protocol violation reported; the tunnel stays open"
    );
}

/// Logs the first header of a route that was not forwarded because of an underscore in its name.
pub fn header_dropped(route: &str, name: &str) {
    info!(
        route,
        header = &*truncate(name),
        key = "route.underscore_headers",
        "header with an underscore in its name not forwarded; list it in underscore_headers to forward it"
    );
}

/// Logs a plain request that was evidently meant as a handshake. Callers log it at most once a minute for each
/// route.
pub fn lost_handshake(route: &str, client: &ClientInfo, detail: &str) {
    warn!(
        route,
        client = %client.addr,
        peer = client.peer.as_ref().map(tracing::field::display),
        detail,
        "WebSocket handshake arrived as a plain request and cannot open a tunnel; the proxy in front must \
         send HTTP/1.1 and pass on the fields Upgrade and Connection"
    );
}

/// Logs a violation in the handshake of a backend that would have rejected it if `strict` were
/// `enforce`. Logged once per tunnel.
pub fn handshake_reported(
    session: u64,
    client: ClientKey,
    route: &str,
    backend: &str,
    detail: &str,
) {
    info!(
        session,
        client_key = %client,
        route,
        backend,
        detail,
        key = "route.strict",
        value = "report",
        "handshake violation of the backend reported; the tunnel opens"
    );
}

/// Logs that reads from a side are delayed by a rate limit. Callers log it once per tunnel, side and
/// limit.
pub fn delaying(at: TunnelSide<'_>, limit: LimitKind) {
    info!(
        session = at.session,
        client_key = %at.client,
        route = at.route,
        backend = at.backend,
        side = at.side.as_str(),
        rule = limit.as_str(),
        key = limit.key(at.side),
        value = limit.value(at.policy.limits(at.side)),
        "rate limit exceeded, delaying reads from the {}",
        at.side.as_str()
    );
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::sync::mpsc::sync_channel;

    use serde_json::Value;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::config::settings::LogFormat;
    use crate::telemetry::fixtures;
    use crate::telemetry::log_event::LogLayer;
    use ws::{Limit, LimitAction, ProtocolError, RateLimit};

    fn logged(side: Side, log: impl FnOnce(TunnelSide<'_>)) -> Value {
        let mut policy = SessionPolicy::default();
        policy.from_client.message = Some(Limit { max: 2048, action: LimitAction::Report });
        let (per_second, burst) = (NonZeroU64::new(50).unwrap(), NonZeroU64::new(100).unwrap());
        policy.from_backend.messages =
            Some(RateLimit { per_second, burst, action: LimitAction::Delay });
        let (lines, logged) = sync_channel(64);
        let send = move |line| lines.send(line).unwrap();
        let layer = LogLayer { format: LogFormat::Json, send };
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let (client, backend) = (fixtures::client().key, "127.0.0.1:9001");
            log(TunnelSide { session: 7, client, route: "chat", backend, policy: &policy, side });
        });
        serde_json::from_slice(&logged.recv().unwrap()).unwrap()
    }

    #[test]
    fn reported_violations_name_rule_and_key() {
        let line = logged(Side::Client, |at| {
            would_close(at, Violation::LimitExceeded(LimitKind::Message), Some(5000))
        });
        for (key, value) in [
            ("level", "INFO"),
            ("message", "limit or protocol violation reported; the tunnel stays open"),
            ("client_key", "203.0.113.7"),
            ("route", "chat"),
            ("backend", "127.0.0.1:9001"),
            ("side", "client"),
            ("rule", "message_too_big"),
            ("key", "limits.message_from_client"),
            ("value", "2KiB"),
        ] {
            assert_eq!(line[key], value, "{key} in {line}");
        }
        assert_eq!((&line["session"], &line["size"]), (&7.into(), &5000.into()));
        let line = logged(Side::Backend, |at| {
            would_close(at, Violation::ProtocolError(ProtocolError::Opcode), None)
        });
        for (key, value) in [
            ("side", "backend"),
            ("rule", "ws_opcode"),
            ("key", "route.strict"),
            ("value", "report"),
        ] {
            assert_eq!(line[key], value, "{key} in {line}");
        }
    }

    #[test]
    fn delays_name_limit_and_key() {
        let line = logged(Side::Backend, |at| delaying(at, LimitKind::Messages));
        for (key, value) in [
            ("level", "INFO"),
            ("message", "rate limit exceeded, delaying reads from the backend"),
            ("client_key", "203.0.113.7"),
            ("route", "chat"),
            ("side", "backend"),
            ("rule", "message_rate"),
            ("key", "limits.messages_from_backend"),
            ("value", "50/s, burst 100"),
        ] {
            assert_eq!(line[key], value, "{key} in {line}");
        }
    }
}
