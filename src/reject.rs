//! Why a connection or a request was refused: one name each, and the status, slug and wording
//! that follow from it. What happens after the 101 is [`ws::End`].

use std::fmt;

use hyper::StatusCode;

/// How far a connection had come when it stopped; with the slug it says where and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionStage {
    /// Accepted, no byte of TLS or HTTP judged yet.
    Accept,
    /// In the TLS handshake.
    Tls,
    /// Waiting for, or reading, a request head.
    Head,
    /// The head is judged: handshake, route, origin, caps.
    Admit,
    /// A backend is dialled and asked.
    Backend,
    /// After the 101.
    Tunnel,
}

impl ConnectionStage {
    /// The name in records and metric labels.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Tls => "tls",
            Self::Head => "head",
            Self::Admit => "admit",
            Self::Backend => "backend",
            Self::Tunnel => "tunnel",
        }
    }
}

/// A connection that ended before anything could be said to the client in HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// The client key holds as many connections as it may.
    ClientFull,
    /// The process holds as many connections as it may.
    GateFull,
    /// The peer is no trusted proxy, and its listener is for those alone.
    ProxyHeaderUntrusted,
    /// What arrived is no PROXY header, where each connection must begin with one.
    ProxyHeaderMissing,
    /// The PROXY header is malformed; the text says which rule was broken.
    ProxyHeaderBad(&'static str),
    /// The PROXY header was not complete in time.
    ProxyHeaderTimeout,
    /// The TLS handshake failed; the words are the TLS library's.
    TlsFailed(String),
    /// The TLS handshake did not finish in time.
    TlsTimeout,
    /// The peer went away before its first request was complete.
    Gone(ConnectionStage),
    /// No complete request head arrived in time.
    HeadTimeout,
    /// What arrived is no HTTP/1.1 request head, or one over its limits; the parser answered 400,
    /// 414 or 431.
    HeadBad(String),
    /// The peer stopped reading its response.
    WriteStall,
}

impl DropReason {
    /// The name in records and metric labels.
    pub fn slug(&self) -> &'static str {
        match self {
            Self::ClientFull => "client_limit",
            Self::GateFull => "proxy_limit",
            Self::ProxyHeaderUntrusted => "proxy_header_untrusted",
            Self::ProxyHeaderMissing => "proxy_header_missing",
            Self::ProxyHeaderBad(_) => "proxy_header_invalid",
            Self::ProxyHeaderTimeout => "proxy_header_timeout",
            Self::TlsFailed(_) => "tls_failed",
            Self::TlsTimeout => "tls_timeout",
            Self::Gone(_) => "client_disconnected",
            Self::HeadTimeout => "head_timeout",
            Self::HeadBad(_) => "head_invalid",
            Self::WriteStall => "write_timeout",
        }
    }

    /// Where on the way it happened.
    pub fn stage(&self) -> ConnectionStage {
        match self {
            Self::ClientFull
            | Self::GateFull
            | Self::ProxyHeaderUntrusted
            | Self::ProxyHeaderMissing
            | Self::ProxyHeaderBad(_)
            | Self::ProxyHeaderTimeout => ConnectionStage::Accept,
            Self::TlsFailed(_) | Self::TlsTimeout => ConnectionStage::Tls,
            Self::Gone(stage) => *stage,
            Self::HeadTimeout | Self::HeadBad(_) | Self::WriteStall => ConnectionStage::Head,
        }
    }

    /// The configuration key that decided, if one did.
    pub fn key(&self) -> Option<&'static str> {
        match self {
            Self::ClientFull => Some("concurrency.connections_per_client"),
            Self::GateFull => Some("concurrency.connections"),
            Self::ProxyHeaderUntrusted => Some("trusted_proxies.addresses"),
            Self::ProxyHeaderMissing => Some("listener.proxy_protocol"),
            Self::ProxyHeaderTimeout => Some("timeouts.proxy_header"),
            Self::TlsTimeout => Some("timeouts.tls"),
            Self::HeadTimeout => Some("timeouts.request_header"),
            Self::WriteStall => Some("timeouts.idle"),
            Self::ProxyHeaderBad(_) | Self::TlsFailed(_) | Self::Gone(_) | Self::HeadBad(_) => None,
        }
    }
}

/// A request that got an HTTP status from us instead of what it asked for.
///
/// The text in a variant says which rule was broken; it goes to the record, not to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectReason {
    /// The request head breaks a rule of RFC 9110 or 9112, or of ours.
    RequestBad(&'static str),
    /// The request target is longer than 8 KiB.
    UriTooLong,
    /// `Expect` asks for what is not given here.
    Expect,
    /// A plain request on a route that serves only WebSockets.
    NotWebsocket,
    /// An upgrade by a method other than GET, or a method a gateway does not serve.
    Method,
    /// The opening handshake breaks RFC 6455 4.2.1.
    HandshakeBad(&'static str),
    /// `Sec-WebSocket-Version` is not 13.
    Version,
    /// No route has this host and path.
    NoRoute,
    /// The authority is served under another certificate than the one the client was shown.
    Misdirected,
    /// The route does not welcome this Origin.
    Origin,
    /// The client key holds as many tunnels as it may.
    ClientFull,
    /// The client key opens handshakes faster than it may.
    ClientRate,
    /// The process holds as many tunnels as it may.
    GateFull,
    /// The route holds as many tunnels as it may.
    RouteFull,
    /// The process is leaving.
    Draining,
    /// No backend took the connection.
    NoBackend,
    /// The backend's answer is no lawful answer to what we asked.
    BackendBad(&'static str),
    /// No backend took the connection in time.
    DialTimeout,
    /// The backend did not answer in time.
    BackendTimeout,
    /// In a plain HTTP exchange, the backend neither sent nor took a byte for too long.
    BackendSilent,
    /// In a plain HTTP exchange, the client did not go on with its request body.
    BodyTimeout,
    /// The process has no file descriptor (or memory) left for a connection to a backend.
    NoDescriptors,
    /// The request came round again: our own `Via` is in it.
    Loop,
    /// The client left while the backend was asked.
    ClientGone,
    /// The backend refused the upgrade itself; its answer was passed on.
    BackendRefused(StatusCode),
}

impl RejectReason {
    /// The status that goes to the client.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::RequestBad(_) | Self::HandshakeBad(_) | Self::ClientGone => {
                StatusCode::BAD_REQUEST
            }
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::Expect => StatusCode::EXPECTATION_FAILED,
            Self::NotWebsocket | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::Origin => StatusCode::FORBIDDEN,
            Self::ClientFull | Self::ClientRate => StatusCode::TOO_MANY_REQUESTS,
            Self::GateFull
            | Self::RouteFull
            | Self::Draining
            | Self::NoBackend
            | Self::NoDescriptors => StatusCode::SERVICE_UNAVAILABLE,
            Self::BackendBad(_) => StatusCode::BAD_GATEWAY,
            Self::DialTimeout | Self::BackendTimeout | Self::BackendSilent => {
                StatusCode::GATEWAY_TIMEOUT
            }
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::BackendRefused(status) => *status,
        }
    }

    /// The name in records and metric labels.
    pub fn slug(&self) -> &'static str {
        match self {
            Self::RequestBad(_) => "request_invalid",
            Self::UriTooLong => "uri_too_long",
            Self::Expect => "expect",
            Self::NotWebsocket => "not_websocket",
            Self::Method => "method",
            Self::HandshakeBad(_) => "handshake_invalid",
            Self::Version => "version",
            Self::NoRoute => "no_route",
            Self::Misdirected => "misdirected",
            Self::Origin => "origin",
            Self::ClientFull => "client_limit",
            Self::ClientRate => "client_rate_limit",
            Self::GateFull => "proxy_limit",
            Self::RouteFull => "route_limit",
            Self::Draining => "draining",
            Self::NoBackend => "no_backend",
            Self::BackendBad(_) => "backend_handshake_invalid",
            Self::DialTimeout => "connect_timeout",
            Self::BackendTimeout => "response_timeout",
            Self::BackendSilent => "backend_idle_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::NoDescriptors => "no_descriptors",
            Self::Loop => "loop",
            Self::ClientGone => "client_disconnected",
            Self::BackendRefused(_) => "backend_rejected",
        }
    }

    /// Where on the way it happened.
    pub fn stage(&self) -> ConnectionStage {
        match self {
            Self::NoBackend
            | Self::BackendBad(_)
            | Self::DialTimeout
            | Self::BackendTimeout
            | Self::BackendSilent
            | Self::BodyTimeout
            | Self::NoDescriptors
            | Self::ClientGone
            | Self::BackendRefused(_) => ConnectionStage::Backend,
            Self::RequestBad(_)
            | Self::UriTooLong
            | Self::Expect
            | Self::NotWebsocket
            | Self::Method
            | Self::HandshakeBad(_)
            | Self::Version
            | Self::NoRoute
            | Self::Misdirected
            | Self::Origin
            | Self::ClientFull
            | Self::ClientRate
            | Self::GateFull
            | Self::RouteFull
            | Self::Draining
            | Self::Loop => ConnectionStage::Admit,
        }
    }

    /// The configuration key that decided, if one did.
    pub fn key(&self) -> Option<&'static str> {
        match self {
            Self::NotWebsocket => Some("route.http"),
            Self::NoRoute => Some("route.host, route.path"),
            Self::Misdirected => Some("certificate"),
            Self::Origin => Some("route.origins"),
            Self::ClientFull => Some("concurrency.tunnels_per_client"),
            Self::ClientRate => Some("rates.handshakes_per_client"),
            Self::GateFull => Some("concurrency.tunnels"),
            Self::RouteFull => Some("route.tunnels"),
            Self::NoBackend => Some("route.backends"),
            Self::DialTimeout => Some("timeouts.connect"),
            Self::BackendTimeout => Some("timeouts.response_header"),
            Self::BackendSilent | Self::BodyTimeout => Some("timeouts.idle"),
            Self::RequestBad(_)
            | Self::UriTooLong
            | Self::Expect
            | Self::Method
            | Self::HandshakeBad(_)
            | Self::Version
            | Self::Draining
            | Self::BackendBad(_)
            | Self::NoDescriptors
            | Self::Loop
            | Self::ClientGone
            | Self::BackendRefused(_) => None,
        }
    }

    /// Whether a later try may succeed, so that the answer carries `Retry-After`.
    pub fn is_passing(&self) -> bool {
        matches!(self.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
            && !matches!(self, Self::BackendRefused(_))
    }
}

/// For the operator: what was wrong, in words.
impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RequestBad(rule) | Self::HandshakeBad(rule) | Self::BackendBad(rule) => rule,
            Self::UriTooLong => "the request target is longer than 8 KiB",
            Self::Expect => "an expectation this gateway does not meet",
            Self::NotWebsocket => "this route serves only WebSockets",
            Self::Method => "this method is not served",
            Self::Version => "Sec-WebSocket-Version is not 13",
            Self::NoRoute => "no route for this host and path",
            Self::Misdirected => "this host is served under another certificate",
            Self::Origin => {
                "origin not allowed by this route; add it to route.origins (\"missing\" allows \
                 requests without an Origin header)"
            }
            Self::ClientFull => "too many open tunnels for one client",
            Self::ClientRate => "too many handshakes from one client",
            Self::GateFull => "the proxy is full",
            Self::RouteFull => "the route is full",
            Self::Draining => "no new tunnels: the proxy leaves, or was drained here by order",
            Self::NoBackend => "no backend took the connection",
            Self::DialTimeout => "no backend took the connection in time",
            Self::BackendTimeout => "the backend did not answer in time",
            Self::BackendSilent => "the backend fell silent",
            Self::BodyTimeout => "the request body did not come in time",
            Self::NoDescriptors => "no file descriptor left for the backend",
            Self::Loop => "the request passed through here before",
            Self::ClientGone => "the client left while the backend was asked",
            Self::BackendRefused(_) => "the backend refused the upgrade",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_passing_refusals_invite_a_retry() {
        assert!(RejectReason::Draining.is_passing());
        assert!(RejectReason::ClientRate.is_passing());
        assert!(!RejectReason::Origin.is_passing());
        assert!(!RejectReason::BackendRefused(StatusCode::SERVICE_UNAVAILABLE).is_passing());
    }
}
