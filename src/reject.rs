//! Why a connection was dropped or a request rejected. Each reason determines the status, the value
//! in records and metrics, and the message. After the 101 the reason is a
//! [`ws::TerminationReason`].

pub mod abort;
pub mod address_rule;
pub mod backend_tls;
pub mod drop_reason;
pub mod invalid_head;
pub mod maintenance;
pub mod stage;

use std::fmt;

use abort::AbortCause;
use address_rule::AddressRule;
use backend_tls::BackendTlsFailure;
use hyper::StatusCode;
use maintenance::MaintenanceCause;
use stage::ConnectionStage;

/// Why a request was rejected with an HTTP status.
///
/// The text in a variant names the violated rule. It is written to the record, not sent to the
/// client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectReason {
    /// The request head violates RFC 9110, RFC 9112 or a stricter rule of this proxy.
    RequestInvalid(&'static str),
    /// The request target is longer than half of the largest request head.
    UriTooLong,
    /// A request head of HTTP/2 has too many fields. In HTTP/1.1 such a head is not parsed
    /// ([`DropReason::HeadInvalid`](drop_reason::DropReason::HeadInvalid)).
    HeadTooLarge,
    /// An extended CONNECT for another protocol than WebSocket (RFC 8441 5).
    UnsupportedProtocol,
    /// `Expect` with anything but `100-continue`, or on an upgrade.
    Expect,
    /// A plain request on a route with `http = false`.
    NotWebsocket,
    /// An upgrade with a method other than GET, or a method that a gateway does not serve.
    Method,
    /// The opening handshake violates RFC 6455 4.2.1.
    HandshakeInvalid(&'static str),
    /// `Sec-WebSocket-Version` is not 13.
    Version,
    /// No route matches the host and path.
    NoRoute,
    /// The certificate of this TLS connection does not cover the requested host (RFC 9110 15.5.20).
    Misdirected,
    /// The route does not allow this origin.
    Origin(OriginMismatch),
    /// The client key has reached its limit of open tunnels.
    ClientLimit,
    /// The client key has exceeded its handshake rate.
    ClientRateLimit,
    /// The client key has exceeded its rate of plain requests.
    ClientRequestRate,
    /// The client key has reached its limit of plain requests that are being served.
    ClientRequestLimit,
    /// The connections that carry no tunnel have reached their limit of memory.
    MemoryLimit,
    /// The process has reached its limit of open tunnels.
    ProxyLimit,
    /// The route has reached its limit of open tunnels.
    RouteLimit,
    /// The process, the route or all its backends are draining.
    Draining,
    /// No backend accepted the connection.
    NoBackend,
    /// There is no TLS connection to a backend.
    BackendTls(BackendTlsFailure),
    /// Every backend has its maximum number of tunnels.
    BackendsFull,
    /// The backend's response is not valid for the request.
    BackendHandshakeInvalid(&'static str),
    /// No backend accepted the connection within the connect timeout.
    ConnectTimeout,
    /// The backend sent no response head within its timeout.
    ResponseTimeout,
    /// In a plain HTTP exchange, the backend transferred no data within the idle timeout.
    BackendIdleTimeout,
    /// In a plain HTTP exchange, the client sent no data of its request body within the idle timeout.
    BodyTimeout,
    /// In a plain HTTP exchange, the client sent its request body more slowly than the least rate.
    BodyTooSlow,
    /// The process has no file descriptor or memory left for a connection to a backend.
    NoDescriptors,
    /// This machine has no local port left for a connection to a backend.
    LocalPorts,
    /// A forwarding loop: `CDN-Loop` names this proxy more than once.
    Loop,
    /// The client disconnected while the backend was contacted.
    ClientDisconnected,
    /// The backend rejected the upgrade; its response was passed on.
    BackendRejected(StatusCode),
    /// The response with this status was aborted after its head had been sent.
    ResponseAborted(StatusCode, AbortCause),
    /// A request without TLS was redirected to `https` with this status.
    Redirected(StatusCode),
    /// The route does not admit the address of the client.
    AddressDenied(AddressRule),
    /// The route is in maintenance.
    Maintenance(MaintenanceCause),
}

/// What an origin differs in from those that a route allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginMismatch {
    /// The request has no `Origin`.
    Missing,
    /// The origin is that of the requested host with `https`, but the request counts as `http`.
    Scheme,
    /// The list does not contain the origin.
    NotListed,
}

/// The message for the operator.
impl fmt::Display for OriginMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => {
                "no Origin header, which clients other than browsers omit; to allow them, add \
                 \"missing\" to route.origins"
            }
            Self::Scheme => {
                "the page was loaded over https, but this request counts as http: list the proxy \
                 that terminates TLS in trusted_proxies.addresses, and let it send \
                 X-Forwarded-Proto: https"
            }
            Self::NotListed => "origin not allowed by this route; add it to route.origins",
        })
    }
}

impl RejectReason {
    /// The response status sent to the client.
    pub fn status(&self) -> StatusCode {
        match self {
            // After `ClientDisconnected` the response is never delivered.
            Self::RequestInvalid(_) | Self::HandshakeInvalid(_) | Self::ClientDisconnected => {
                StatusCode::BAD_REQUEST
            }
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UnsupportedProtocol => StatusCode::NOT_IMPLEMENTED,
            Self::Expect => StatusCode::EXPECTATION_FAILED,
            Self::NotWebsocket | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::Origin(_) | Self::AddressDenied(_) => StatusCode::FORBIDDEN,
            Self::ClientLimit
            | Self::ClientRateLimit
            | Self::ClientRequestRate
            | Self::ClientRequestLimit => StatusCode::TOO_MANY_REQUESTS,
            Self::ProxyLimit
            | Self::MemoryLimit
            | Self::RouteLimit
            | Self::Draining
            | Self::Maintenance(_)
            | Self::NoBackend
            | Self::BackendsFull
            | Self::NoDescriptors
            | Self::LocalPorts => StatusCode::SERVICE_UNAVAILABLE,
            Self::BackendHandshakeInvalid(_) | Self::BackendTls(_) => StatusCode::BAD_GATEWAY,
            Self::ConnectTimeout | Self::ResponseTimeout | Self::BackendIdleTimeout => {
                StatusCode::GATEWAY_TIMEOUT
            }
            Self::BodyTimeout | Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::BackendRejected(status)
            | Self::ResponseAborted(status, _)
            | Self::Redirected(status) => *status,
        }
    }

    /// The value in records and metric labels.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::RequestInvalid(_) => "request_invalid",
            Self::UriTooLong => "uri_too_long",
            Self::HeadTooLarge => "head_too_large",
            Self::UnsupportedProtocol => "unsupported_protocol",
            Self::Expect => "expect",
            Self::NotWebsocket => "not_websocket",
            Self::Method => "method",
            Self::HandshakeInvalid(_) => "handshake_invalid",
            Self::Version => "version",
            Self::NoRoute => "no_route",
            Self::Misdirected => "misdirected",
            Self::Origin(_) => "origin",
            Self::ClientLimit => "client_limit",
            Self::ClientRateLimit => "client_rate_limit",
            Self::ClientRequestRate => "client_request_rate",
            Self::ClientRequestLimit => "client_request_limit",
            Self::MemoryLimit => "memory_limit",
            Self::ProxyLimit => "proxy_limit",
            Self::RouteLimit => "route_limit",
            Self::Draining => "draining",
            Self::NoBackend => "no_backend",
            Self::BackendTls(failure) => failure.as_str(),
            Self::BackendsFull => "backends_full",
            Self::BackendHandshakeInvalid(_) => "backend_handshake_invalid",
            Self::ConnectTimeout => "connect_timeout",
            Self::ResponseTimeout => "response_timeout",
            Self::BackendIdleTimeout => "backend_idle_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::BodyTooSlow => "body_too_slow",
            Self::NoDescriptors => "no_descriptors",
            Self::LocalPorts => "local_ports_exhausted",
            Self::Loop => "loop",
            Self::ClientDisconnected => "client_disconnected",
            Self::BackendRejected(_) => "backend_rejected",
            Self::ResponseAborted(_, cause) => cause.as_str(),
            Self::Redirected(_) => "redirected",
            Self::AddressDenied(_) => "address_denied",
            Self::Maintenance(_) => "maintenance",
        }
    }

    /// The stage in which it happened.
    pub fn stage(&self) -> ConnectionStage {
        match self {
            Self::NoBackend
            | Self::BackendTls(_)
            | Self::BackendsFull
            | Self::BackendHandshakeInvalid(_)
            | Self::ConnectTimeout
            | Self::ResponseTimeout
            | Self::BackendIdleTimeout
            | Self::BodyTimeout
            | Self::BodyTooSlow
            | Self::NoDescriptors
            | Self::LocalPorts
            | Self::ClientDisconnected
            | Self::BackendRejected(_) => ConnectionStage::Backend,
            Self::ResponseAborted(..) => ConnectionStage::Response,
            Self::RequestInvalid(_)
            | Self::UriTooLong
            | Self::HeadTooLarge
            | Self::UnsupportedProtocol
            | Self::Expect
            | Self::NotWebsocket
            | Self::Method
            | Self::HandshakeInvalid(_)
            | Self::Version
            | Self::NoRoute
            | Self::Misdirected
            | Self::Origin(_)
            | Self::ClientLimit
            | Self::ClientRateLimit
            | Self::ClientRequestRate
            | Self::ClientRequestLimit
            | Self::MemoryLimit
            | Self::ProxyLimit
            | Self::RouteLimit
            | Self::Draining
            | Self::Loop
            | Self::Redirected(_)
            | Self::AddressDenied(_)
            | Self::Maintenance(_) => ConnectionStage::Admit,
        }
    }

    /// The configuration key that caused it, if any.
    pub fn key(&self) -> Option<&'static str> {
        match self {
            Self::UriTooLong => Some("listener.request_head_size"),
            Self::HeadTooLarge => Some("listener.request_head_fields"),
            Self::NotWebsocket => Some("route.http"),
            Self::NoRoute => Some("route.host, route.path"),
            Self::Misdirected => Some("certificate"),
            Self::Origin(OriginMismatch::Scheme) => Some("trusted_proxies.addresses"),
            Self::Origin(_) => Some("route.origins"),
            Self::ClientLimit => Some("concurrency.tunnels_per_client"),
            Self::ClientRateLimit => Some("rates.handshakes_per_client"),
            Self::ClientRequestRate => Some("rates.requests_per_client"),
            Self::ClientRequestLimit => Some("concurrency.requests_per_client"),
            Self::MemoryLimit => Some("concurrency.pending_memory"),
            Self::ProxyLimit => Some("concurrency.tunnels"),
            Self::RouteLimit => Some("route.tunnels"),
            Self::NoBackend => Some("route.backends"),
            Self::BackendTls(failure) => Some(failure.key()),
            Self::BackendsFull => Some("route.backends.max_tunnels"),
            Self::ConnectTimeout => Some("timeouts.connect"),
            Self::ResponseTimeout => Some("timeouts.response_header"),
            Self::BackendIdleTimeout | Self::BodyTimeout => Some("timeouts.idle"),
            Self::BodyTooSlow => Some("timeouts.min_body_rate"),
            Self::ResponseAborted(_, cause) => cause.key(),
            Self::Redirected(_) => Some("listener.redirect"),
            Self::AddressDenied(AddressRule::Denied(_)) => Some("route.deny"),
            Self::AddressDenied(AddressRule::NotAllowed) => Some("route.allow"),
            Self::Maintenance(MaintenanceCause::File) => Some("route.maintenance_file"),
            Self::RequestInvalid(_)
            | Self::UnsupportedProtocol
            | Self::Expect
            | Self::Method
            | Self::HandshakeInvalid(_)
            | Self::Version
            | Self::Draining
            | Self::Maintenance(MaintenanceCause::Command)
            | Self::BackendHandshakeInvalid(_)
            | Self::NoDescriptors
            | Self::LocalPorts
            | Self::Loop
            | Self::ClientDisconnected
            | Self::BackendRejected(_) => None,
        }
    }

    /// Whether a later attempt may succeed, so that the response carries `Retry-After`.
    pub fn is_retryable(&self) -> bool {
        matches!(self.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
            && !matches!(self, Self::BackendRejected(_) | Self::ResponseAborted(..))
    }
}

/// The message for the operator.
impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RequestInvalid(rule)
            | Self::HandshakeInvalid(rule)
            | Self::BackendHandshakeInvalid(rule) => rule,
            Self::UriTooLong => "request target longer than half of the largest request head",
            Self::HeadTooLarge => "request head with too many fields",
            Self::UnsupportedProtocol => {
                "extended CONNECT for another protocol than websocket (RFC 8441)"
            }
            Self::Expect => {
                "unsupported Expect header; only 100-continue on a plain request is supported"
            }
            Self::NotWebsocket => {
                "plain HTTP request on a WebSocket-only route; set route.http = true to forward it"
            }
            Self::Method => {
                "method not supported: an upgrade requires GET, and a plain request must not use \
                 CONNECT, TRACE or OPTIONS *"
            }
            Self::Version => "Sec-WebSocket-Version is not 13",
            Self::NoRoute => "no route matches this host and path",
            Self::Misdirected => {
                "the certificate of this connection does not cover the requested host"
            }
            Self::Origin(mismatch) => return mismatch.fmt(f),
            Self::ClientLimit => "limit of open tunnels per client reached",
            Self::ClientRateLimit => "handshake rate limit per client exceeded",
            Self::ClientRequestRate => "rate limit of plain requests per client exceeded",
            Self::ClientRequestLimit => "limit of plain requests in progress per client reached",
            Self::MemoryLimit => "memory limit of connections without a tunnel reached",
            Self::ProxyLimit => "limit of open tunnels reached",
            Self::RouteLimit => "limit of open tunnels for this route reached",
            Self::Draining => {
                "draining: new tunnels are rejected (shutdown, or `tidegate ctl drain`)"
            }
            Self::BackendTls(failure) => return failure.fmt(f),
            Self::NoBackend => "no backend available: all connection attempts failed",
            Self::BackendsFull => "every backend has its maximum number of tunnels",
            Self::ConnectTimeout => "timeout connecting to a backend",
            Self::ResponseTimeout => "timeout waiting for the backend's response",
            Self::BackendIdleTimeout => "backend idle timeout: no data transferred",
            Self::BodyTimeout => "timeout reading the request body",
            Self::BodyTooSlow => "request body too slow",
            Self::NoDescriptors => {
                "cannot open a socket: out of file descriptors or memory; raise LimitNOFILE or free \
                 memory"
            }
            Self::LocalPorts => {
                "no local port left (EADDRNOTAVAIL); widen net.ipv4.ip_local_port_range, or give the \
                 backend further addresses"
            }
            Self::Loop => {
                "forwarding loop: CDN-Loop names this proxy more than once; check route.backends"
            }
            Self::ClientDisconnected => "client disconnected while the backend was contacted",
            Self::BackendRejected(_) => "backend rejected the upgrade",
            Self::ResponseAborted(_, cause) => return cause.fmt(f),
            Self::Redirected(_) => "request without TLS redirected to https",
            Self::AddressDenied(rule) => return rule.fmt(f),
            Self::Maintenance(cause) => return cause.fmt(f),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_temporary_rejections_are_retryable() {
        assert!(RejectReason::Draining.is_retryable());
        assert!(RejectReason::ClientRateLimit.is_retryable());
        assert!(!RejectReason::Origin(OriginMismatch::NotListed).is_retryable());
        assert!(!RejectReason::BackendRejected(StatusCode::SERVICE_UNAVAILABLE).is_retryable());
    }
}
