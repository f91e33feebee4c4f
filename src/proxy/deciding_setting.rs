//! The configuration key and value that caused a rejection or a drop, for the record.

use super::route::Route;
use super::snapshot::Snapshot;
use crate::config::settings::ListenerSettings;
use crate::config::settings::rates::ClientRate;
use crate::config::values::units::{ByteSize, show_duration};
use crate::reject::RejectReason;
use crate::reject::abort::AbortCause;
use crate::reject::drop_reason::{DropReason, ShedCause};
use crate::reject::maintenance::MaintenanceCause;
use crate::telemetry::record::DecidingSetting;

/// The setting that caused a connection to be dropped.
pub fn of_drop(
    reason: &DropReason,
    snapshot: &Snapshot,
    listener: Option<&ListenerSettings>,
) -> DecidingSetting {
    let settings = &snapshot.settings;
    let value = match reason {
        DropReason::AddressDenied(rule) => {
            listener.map(|listener| listener.addresses.deciding_value(*rule))
        }
        DropReason::ClientLimit | DropReason::Shed(ShedCause::ConnectionsOfClient) => {
            Some(settings.concurrency.connections_per_client.to_string())
        }
        DropReason::ClientConnectionRate => Some(shown_rate(settings.rates.connections)),
        DropReason::ProxyLimit | DropReason::Shed(ShedCause::Connections) => {
            Some(shown_limit(snapshot.capacity.connections, settings.concurrency.connections))
        }
        DropReason::Shed(ShedCause::Memory) => Some(pending_memory(snapshot)),
        DropReason::ProxyHeaderUntrusted => Some(snapshot.trusted_proxies.to_string()),
        DropReason::ProxyHeaderMissing => Some("true".to_owned()),
        DropReason::ProxyHeaderTimeout => Some(show_duration(settings.timeouts.proxy_header)),
        DropReason::Overloaded | DropReason::TlsTimeout => {
            Some(show_duration(settings.timeouts.tls))
        }
        DropReason::NoRequest | DropReason::HeadTimeout => {
            Some(show_duration(settings.timeouts.request_header))
        }
        DropReason::WriteTimeout => Some(show_duration(settings.timeouts.requests.idle)),
        DropReason::ProxyHeaderInvalid(_)
        | DropReason::TlsFailed(_)
        | DropReason::ClientDisconnected(_)
        | DropReason::HeadInvalid(_)
        | DropReason::Http2Invalid(_)
        | DropReason::Http2Flood(_) => None,
    };
    DecidingSetting { key: reason.key(), value }
}

fn pending_memory(snapshot: &Snapshot) -> String {
    ByteSize::new(snapshot.capacity.pending_memory).to_string()
}

/// The setting that caused a response to be aborted.
pub fn of_abort(cause: AbortCause, route: Option<&Route>) -> DecidingSetting {
    let value = match cause {
        AbortCause::BackendIdleTimeout | AbortCause::BodyTimeout => {
            route.map(|route| show_duration(route.timeouts.idle))
        }
        AbortCause::BodyTooSlow => route.and_then(min_body_rate),
        AbortCause::BackendDisconnected
        | AbortCause::BackendInvalid
        | AbortCause::RequestInvalid => None,
    };
    DecidingSetting { key: cause.key(), value }
}

/// The setting that caused a request to be rejected.
pub fn of_rejection(
    reason: &RejectReason,
    snapshot: &Snapshot,
    route: Option<&Route>,
) -> DecidingSetting {
    let (concurrency, rates) = (&snapshot.settings.concurrency, &snapshot.settings.rates);
    let value = match reason {
        RejectReason::NotWebsocket => Some("false".to_owned()),
        RejectReason::AddressDenied(rule) => {
            route.map(|route| route.addresses.deciding_value(*rule))
        }
        RejectReason::Maintenance(MaintenanceCause::File) => {
            route.and_then(|route| route.maintenance.file()).map(|file| file.display().to_string())
        }
        RejectReason::ClientLimit => Some(concurrency.tunnels_per_client.to_string()),
        RejectReason::ClientRateLimit => Some(shown_rate(rates.handshakes)),
        RejectReason::ClientRequestRate => Some(shown_rate(rates.requests)),
        RejectReason::ClientRequestLimit => Some(concurrency.requests_per_client.to_string()),
        RejectReason::ProxyLimit => {
            let configured = concurrency.tunnels.or(concurrency.connections);
            Some(shown_limit(snapshot.capacity.tunnels, configured))
        }
        RejectReason::MemoryLimit => Some(pending_memory(snapshot)),
        RejectReason::RouteLimit => {
            route.and_then(|route| route.max_tunnels).map(|n| n.to_string())
        }
        RejectReason::ConnectTimeout => route.map(|route| show_duration(route.timeouts.connect)),
        RejectReason::BackendIdleTimeout | RejectReason::BodyTimeout => {
            route.map(|route| show_duration(route.timeouts.idle))
        }
        RejectReason::BodyTooSlow => route.and_then(min_body_rate),
        RejectReason::ResponseAborted(_, cause) => return of_abort(*cause, route),
        RejectReason::ResponseTimeout => {
            route.map(|route| show_duration(route.timeouts.response_header))
        }
        RejectReason::RequestInvalid(_)
        | RejectReason::Maintenance(MaintenanceCause::Command)
        | RejectReason::UriTooLong
        | RejectReason::HeadTooLarge
        | RejectReason::UnsupportedProtocol
        | RejectReason::Expect
        | RejectReason::Method
        | RejectReason::HandshakeInvalid(_)
        | RejectReason::Version
        | RejectReason::NoRoute
        | RejectReason::Misdirected
        | RejectReason::Origin(_)
        | RejectReason::Draining
        | RejectReason::NoBackend
        | RejectReason::BackendTls(_)
        | RejectReason::BackendsFull
        | RejectReason::NoDescriptors
        | RejectReason::LocalPorts
        | RejectReason::BackendHandshakeInvalid(_)
        | RejectReason::Loop
        | RejectReason::ClientDisconnected
        | RejectReason::BackendRejected(_)
        | RejectReason::Redirected(_) => None,
    };
    let key = match (reason, route) {
        (RejectReason::NoBackend, Some(route)) => Some(route.pool.backends_key()),
        (RejectReason::BackendsFull, Some(route)) => Some(route.pool.max_tunnels_key()),
        (_, _) => reason.key(),
    };
    DecidingSetting { key, value }
}

/// A limit of connections, and what it comes from if it is not configured.
fn shown_limit(number: usize, configured: Option<usize>) -> String {
    match configured {
        Some(_) => number.to_string(),
        None => format!("{number} (auto: file descriptors, LimitNOFILE)"),
    }
}

fn min_body_rate(route: &Route) -> Option<String> {
    let rate = route.timeouts.min_body_rate?;
    Some(format!("{}/s", ByteSize::new(rate.get())))
}

fn shown_rate(rate: ClientRate) -> String {
    format!("{}/s, burst {}", rate.per_second, rate.burst)
}
