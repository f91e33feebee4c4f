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
use self::exchange::{ProbeExchange, ProbeFailure};
use self::health::{ProbeHealth, ProbeState};
use super::connect::Connector;
use super::pool::Backend;
use crate::client::{ClientAddr, ClientKey, KeyPrefixes};
use crate::config::values::backend_address::BackendAddress;
use crate::http::head_limits::HeadLimits;
use crate::net::network::Net;
use crate::reject::RejectReason;
use crate::reject::backend_tls::BackendTlsFailure;
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
    let (kind, host) = (&health.settings.kind, host(backend.listed_address()));
    let probed = match connector.connect().await {
        Ok((socket, _)) => ProbeExchange { net, kind, host: &host, limits, time }.run(socket).await,
        // Says nothing about the backend.
        Err(failed) if failed.reason == RejectReason::LocalPorts => return,
        Err(failed) if failed.reason == RejectReason::NoDescriptors => return,
        Err(failed) if has_timed_out(failed.reason) => Err(ProbeFailure::TimedOut(failed.detail)),
        Err(failed) => Err(ProbeFailure::Failed(failed.detail)),
    };
    let result = match &probed {
        Ok(_) => Ok(()),
        // As with requests: clients that send slowly may hold all of its workers.
        Err(ProbeFailure::TimedOut(_)) if backend.health.waiting_uploads() > 0 => return,
        Err(ProbeFailure::TimedOut(cause) | ProbeFailure::Failed(cause)) => Err(cause.as_str()),
    };
    record(&backend, health, result);
    if let Ok(connection) = probed {
        let _ = timeout(CLOSE_TIMEOUT, connection.close(net)).await;
    }
}

/// Whether a connection has failed only because there was no answer.
fn has_timed_out(reason: RejectReason) -> bool {
    let tls = RejectReason::BackendTls(BackendTlsFailure::Timeout);
    [RejectReason::ConnectTimeout, tls].contains(&reason)
}

/// `Host` unless the settings name one.
fn host(address: &BackendAddress) -> String {
    match address {
        BackendAddress::Tcp { .. } => address.to_string().replace(".:", ":"),
        BackendAddress::Unix(_) => "localhost".to_owned(),
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

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::net::SocketAddr;
    use std::num::NonZeroU32;

    use super::*;
    use crate::config::settings::probe::{ProbeKind, ProbeSettings};
    use crate::net::network::{NetFuture, TargetAddr};
    use crate::net::socket::Socket;
    use crate::upstream::health::WaitingUpload;
    use crate::upstream::scripted::backend_at;

    /// A network on which nothing accepts.
    #[derive(Debug)]
    struct SilentNet;

    impl Net for SilentNet {
        fn connect<'a>(&'a self, _: &'a TargetAddr) -> NetFuture<'a, Socket> {
            Box::pin(pending())
        }

        fn resolve<'a>(&'a self, _: &'a str, port: u16) -> NetFuture<'a, Vec<SocketAddr>> {
            Box::pin(async move { Ok(vec![SocketAddr::from(([192, 0, 2, 1], port))]) })
        }

        fn fill_random(&self, _: &mut [u8]) {}
    }

    #[tokio::test(start_paused = true)]
    async fn timeout_while_uploads_wait_does_not_count() {
        let (kind, time) = (ProbeKind::Tcp, Duration::from_secs(1));
        let (rise, fall) = (NonZeroU32::MIN, NonZeroU32::MIN);
        let health =
            ProbeHealth::new(ProbeSettings { kind, interval: time, timeout: time, rise, fall });
        let backend = backend_at(("app.internal", 9001));
        let probed =
            || check(&SilentNet, backend.clone(), &health, Vec::new(), HeadLimits::default());
        let upload = WaitingUpload::new(&backend.health);
        probed().await;
        assert_eq!(
            (health.state(), backend.counts.connect_failures.get()),
            (ProbeState::Unprobed, 0)
        );
        drop(upload);
        probed().await;
        assert_eq!((health.state(), health.cause().is_some()), (ProbeState::Down, true));
    }

    #[test]
    fn host_is_the_address() {
        for (address, expected) in [
            ("app.internal:9001", "app.internal:9001"),
            ("app.internal.:9001", "app.internal:9001"),
            ("[::1]:9001", "[::1]:9001"),
            ("unix:/run/app.sock", "localhost"),
        ] {
            assert_eq!(host(&BackendAddress::parse(address).unwrap()), expected);
        }
    }
}
