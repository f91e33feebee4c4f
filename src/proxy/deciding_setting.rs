//! Which configuration key decided, and what it was set to, for the record of a refusal.

use super::snapshot::{Generation, Route};
use crate::config::values::units::show_duration;
use crate::reject::{Dropped, Refusal};
use crate::telemetry::record::Deciding;

/// For a connection that was dropped.
pub fn of_drop(dropped: &Dropped, generation: &Generation) -> Deciding {
    let settings = &generation.settings;
    let value = match dropped {
        Dropped::ClientFull => Some(settings.caps.connections_per_client.to_string()),
        Dropped::GateFull => Some(generation.room.connections.to_string()),
        Dropped::ProxyHeaderUntrusted => Some(settings.trusted.to_string()),
        Dropped::ProxyHeaderMissing => Some("true".to_owned()),
        Dropped::ProxyHeaderTimeout => Some(show_duration(settings.timeouts.proxy_header)),
        Dropped::TlsTimeout => Some(show_duration(settings.timeouts.tls)),
        Dropped::HeadTimeout => Some(show_duration(settings.timeouts.head)),
        Dropped::WriteStall => Some(show_duration(settings.timeouts.http_silence)),
        Dropped::ProxyHeaderBad(_)
        | Dropped::TlsFailed(_)
        | Dropped::Gone(_)
        | Dropped::HeadBad(_) => None,
    };
    Deciding { key: dropped.key(), value }
}

/// For a request that was refused.
pub fn of_refusal(refusal: &Refusal, generation: &Generation, route: Option<&Route>) -> Deciding {
    let caps = &generation.settings.caps;
    let value = match refusal {
        Refusal::NotWebsocket => Some("false".to_owned()),
        Refusal::ClientFull => Some(caps.tunnels_per_client.to_string()),
        Refusal::ClientRate => {
            Some(format!("{}/s, burst {}", caps.handshakes_per_client, caps.handshakes_burst))
        }
        Refusal::GateFull => Some(generation.room.tunnels.to_string()),
        Refusal::RouteFull => route.and_then(|route| route.tunnels_max).map(|n| n.to_string()),
        Refusal::DialTimeout => route.map(|route| show_duration(route.timeouts.dial)),
        Refusal::BackendSilent | Refusal::BodyTimeout => {
            route.map(|route| show_duration(route.timeouts.http_silence))
        }
        Refusal::BackendTimeout => route.map(|route| show_duration(route.timeouts.backend_answer)),
        Refusal::RequestBad(_)
        | Refusal::UriTooLong
        | Refusal::Expect
        | Refusal::Method
        | Refusal::HandshakeBad(_)
        | Refusal::Version
        | Refusal::NoRoute
        | Refusal::Misdirected
        | Refusal::Origin
        | Refusal::Draining
        | Refusal::NoBackend
        | Refusal::NoDescriptors
        | Refusal::BackendBad(_)
        | Refusal::Loop
        | Refusal::ClientGone
        | Refusal::BackendRefused(_) => None,
    };
    Deciding { key: refusal.key(), value }
}
