//! Probing backends: those that are down with a TCP connection, and all backends of a pool with
//! `[pool.probe]` as it says.

mod closing;
mod exchange;
mod frames;
pub mod health;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use self::closing::close;
use self::exchange::ProbeExchange;
use self::health::{ProbeHealth, ProbeState};
use super::connect::Connector;
use super::pool::Backend;
use crate::client::{ClientAddr, ClientKey, KeyPrefixes};
use crate::http::head_limits::HeadLimits;
use crate::net::network::Net;
use crate::reject::RejectReason;
use crate::telemetry::events::{backend_probed_down, backend_probed_up};

/// Tries to connect to a backend within `limit`, which records the result in its health, and sends
/// `proxy_header` (a PROXY header or nothing).
pub async fn probe(net: &dyn Net, backend: Arc<Backend>, proxy_header: Vec<u8>, limit: Duration) {
    if let Ok((stream, _)) = connector(net, backend, proxy_header, limit).connect().await {
        // The backend has accepted; how it ends the connection does not matter.
        let _ = timeout(CLOSE_TIMEOUT, close(stream)).await;
    }
}

/// Probes a backend as `[pool.probe]` says, and records the result in `health`. `limits` are those of
/// response heads.
pub async fn check(
    net: &dyn Net,
    backend: Arc<Backend>,
    health: &ProbeHealth,
    proxy_header: Vec<u8>,
    limits: HeadLimits,
) {
    let limit = health.settings.timeout;
    let time = (limit, Instant::now() + limit);
    let mut connector = connector(net, backend.clone(), proxy_header, limit);
    // Connections of clients have a count of their own.
    connector.records_failures = false;
    let (kind, host) = (&health.settings.kind, backend.address.to_string());
    let probed = match connector.connect().await {
        Ok((socket, _)) => ProbeExchange { net, kind, host: &host, limits, time }.run(socket).await,
        // Says nothing about the backend.
        Err(failed) if failed.reason == RejectReason::LocalPorts => return,
        Err(failed) if failed.reason == RejectReason::NoDescriptors => return,
        Err(failed) => Err(failed.detail),
    };
    record(&backend, health, probed.as_ref().map(|_| ()).map_err(String::as_str));
    if let Ok(connection) = probed {
        let _ = timeout(CLOSE_TIMEOUT, connection.close(net)).await;
    }
}

/// Records the result of a probe, and logs a change of the state.
fn record(backend: &Backend, health: &ProbeHealth, result: Result<(), &str>) {
    backend.counts.probes[usize::from(result.is_err())].inc();
    let (id, route) = (&backend.id, &backend.counts.route.name);
    let (kind, rise, fall) =
        (health.settings.kind.as_str(), health.settings.rise, health.settings.fall);
    match health.record(result) {
        Some(ProbeState::Up) => backend_probed_up(id, route, kind),
        Some(ProbeState::Down) => {
            backend_probed_down(id, route, kind, result.err().unwrap_or_default(), [rise, fall]);
        }
        Some(ProbeState::Unprobed) | None => {}
    }
}

fn connector(
    net: &dyn Net,
    backend: Arc<Backend>,
    proxy_header: Vec<u8>,
    limit: Duration,
) -> Connector<'_> {
    // The addresses of a name are tried in some order; one that accepts is enough.
    let no_client = ClientAddr::without_port(Ipv4Addr::UNSPECIFIED.into());
    let key = ClientKey::new(&no_client, KeyPrefixes::default());
    Connector { net, order: vec![backend], key, proxy_header, limit, records_failures: true }
}

/// How long a backend may take to close its side.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
