//! Why a connection was dropped before it had a complete request.

use super::address_rule::AddressRule;
use super::invalid_head::InvalidHead;
use super::stage::ConnectionStage;

/// What had run out when a connection was closed for a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShedCause {
    /// Connections of the process.
    Connections,
    /// Connections of the client key.
    ConnectionsOfClient,
    /// Memory of the connections that carry no tunnel.
    Memory,
}

/// Why a connection ended before it had a complete request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// The listener does not admit the address of the client.
    AddressDenied(AddressRule),
    /// The client key has reached its limit of open connections.
    ClientLimit,
    /// The client key opens more connections per second than it may.
    ClientConnectionRate,
    /// The process has reached its limit of open connections.
    ProxyLimit,
    /// The peer is not a trusted proxy, but the listener expects the PROXY protocol.
    ProxyHeaderUntrusted,
    /// The connection did not start with a PROXY header, which the listener requires.
    ProxyHeaderMissing,
    /// The PROXY header is malformed; the text names the violated rule.
    ProxyHeaderInvalid(&'static str),
    /// The connection had no request in progress, and a new one needed its place, or others its memory.
    Shed(ShedCause),
    /// The PROXY header was incomplete at its deadline.
    ProxyHeaderTimeout,
    /// The connection got no turn in time: more connections arrive than can be opened.
    Overloaded,
    /// The TLS handshake failed; the text is the TLS library's error.
    TlsFailed(String),
    /// The TLS handshake was incomplete at its deadline.
    TlsTimeout,
    /// The peer disconnected before its first request was complete.
    ClientDisconnected(ConnectionStage),
    /// Not a byte of a request had been received at the deadline for its head.
    NoRequest,
    /// The request head was incomplete at its deadline.
    HeadTimeout,
    /// The data is not an HTTP/1.1 request head or exceeds its limits; answered with 400 or 431.
    HeadInvalid(InvalidHead),
    /// The peer violated HTTP/2 (RFC 9113 5.4.1); the text names the error.
    Http2Invalid(String),
    /// The peer sent more HTTP/2 frames of one kind than any client needs; the text names the kind.
    Http2Flood(String),
    /// The peer stopped reading its response.
    WriteTimeout,
}

impl DropReason {
    /// The value in records and metric labels.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::AddressDenied(_) => "address_denied",
            Self::ClientLimit => "client_limit",
            Self::ClientConnectionRate => "client_connection_rate",
            Self::ProxyLimit => "proxy_limit",
            Self::Shed(_) => "shed",
            Self::ProxyHeaderUntrusted => "proxy_header_untrusted",
            Self::ProxyHeaderMissing => "proxy_header_missing",
            Self::ProxyHeaderInvalid(_) => "proxy_header_invalid",
            Self::ProxyHeaderTimeout => "proxy_header_timeout",
            Self::Overloaded => "overloaded",
            Self::TlsFailed(_) => "tls_failed",
            Self::TlsTimeout => "tls_timeout",
            Self::ClientDisconnected(_) => "client_disconnected",
            Self::NoRequest => "no_request",
            Self::HeadTimeout => "head_timeout",
            Self::HeadInvalid(_) => "head_invalid",
            Self::Http2Invalid(_) => "http2_invalid",
            Self::Http2Flood(_) => "http2_flood",
            Self::WriteTimeout => "write_timeout",
        }
    }

    /// The stage in which it happened.
    pub fn stage(&self) -> ConnectionStage {
        match self {
            Self::AddressDenied(_)
            | Self::ClientLimit
            | Self::ClientConnectionRate
            | Self::ProxyLimit
            | Self::Shed(_)
            | Self::ProxyHeaderUntrusted
            | Self::ProxyHeaderMissing
            | Self::ProxyHeaderInvalid(_)
            | Self::ProxyHeaderTimeout
            | Self::Overloaded => ConnectionStage::Accept,
            Self::TlsFailed(_) | Self::TlsTimeout => ConnectionStage::Tls,
            Self::ClientDisconnected(stage) => *stage,
            Self::NoRequest
            | Self::HeadTimeout
            | Self::HeadInvalid(_)
            | Self::Http2Invalid(_)
            | Self::Http2Flood(_)
            | Self::WriteTimeout => ConnectionStage::Head,
        }
    }

    /// The configuration key that caused it, if any.
    pub fn key(&self) -> Option<&'static str> {
        match self {
            Self::AddressDenied(AddressRule::Denied(_)) => Some("listener.deny"),
            Self::AddressDenied(AddressRule::NotAllowed) => Some("listener.allow"),
            Self::ClientLimit | Self::Shed(ShedCause::ConnectionsOfClient) => {
                Some("concurrency.connections_per_client")
            }
            Self::ClientConnectionRate => Some("rates.connections_per_client"),
            Self::ProxyLimit | Self::Shed(ShedCause::Connections) => {
                Some("concurrency.connections")
            }
            Self::Shed(ShedCause::Memory) => Some("concurrency.pending_memory"),
            Self::ProxyHeaderUntrusted => Some("trusted_proxies.addresses"),
            Self::ProxyHeaderMissing => Some("listener.proxy_protocol"),
            Self::ProxyHeaderTimeout => Some("timeouts.proxy_header"),
            Self::Overloaded | Self::TlsTimeout => Some("timeouts.tls"),
            Self::NoRequest | Self::HeadTimeout => Some("timeouts.request_header"),
            Self::WriteTimeout => Some("timeouts.idle"),
            Self::ProxyHeaderInvalid(_)
            | Self::TlsFailed(_)
            | Self::ClientDisconnected(_)
            | Self::HeadInvalid(_)
            | Self::Http2Invalid(_)
            | Self::Http2Flood(_) => None,
        }
    }
}
