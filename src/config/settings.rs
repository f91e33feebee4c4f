//! The configuration after validation. Every value has a domain type, every default is filled in,
//! and no further checks are necessary.

pub mod acme;
pub mod choice;
pub mod pool;
pub mod probe;
pub mod rates;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};
use ipnet::IpNet;
use ws::SessionPolicy;

use self::acme::{AcmeCertificate, AcmeSettings};
use self::pool::{OnBackendLoss, PoolSettings};
use self::rates::RateSettings;
use super::address_rules::AddressRules;
use super::source_map::SourceMap;
use super::values::origin_rule::OriginRule;
use super::values::patterns::{HostPattern, PathPrefix};
use crate::client::KeyPrefixes;
use crate::http::forwarded::client_address::CLIENT_ADDRESS_HEADERS;
use crate::http::head_limits::HeadLimits;

/// A complete configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The file that the settings were read from, if any.
    pub file: Option<PathBuf>,
    /// Number of worker threads; changes require a restart.
    pub workers: usize,
    /// Listening sockets: at least one, with unique names.
    pub listeners: Vec<ListenerSettings>,
    /// Certificates: at least one if a listener uses TLS and there is no `[acme]`.
    pub certificates: Vec<CertificateSettings>,
    /// The certificate authority that certificates are ordered from; `None` if none are ordered.
    pub acme: Option<AcmeSettings>,
    /// Routes: at least one, with unique names. The order in which they match is independent of
    /// this order.
    pub routes: Vec<RouteSettings>,
    /// The pools that have a name, all unique. Routes share them.
    pub pools: Vec<Arc<PoolSettings>>,
    /// Address prefixes that identify one client.
    pub client_key: KeyPrefixes,
    /// Proxies that may state the client's address.
    pub trusted_proxies: TrustedProxySettings,
    /// Limits on open connections and tunnels.
    pub concurrency: ConcurrencySettings,
    /// Rate limits of one client.
    pub rates: RateSettings,
    /// Timeouts before a tunnel is open.
    pub timeouts: Timeouts,
    /// Parameters of a drain.
    pub drain: DrainSettings,
    /// The bodies of tidegate's own error responses, in the order of [`ERROR_PAGES`].
    pub error_pages: [Option<PathBuf>; ERROR_PAGES.len()],
    /// Address of the admin listener; `None` if it is off.
    pub admin: Option<SocketAddr>,
    /// The control socket.
    pub control: ControlSocket,
    /// Format and level of log messages, and redaction.
    pub log: LogSettings,
    /// Destination and format of access records.
    pub access: AccessSettings,
    /// Details of the file; ignored by comparisons.
    pub source_map: SourceMap,
}

/// The location of the control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlSocket {
    /// `control.sock` in the runtime directory that the service manager created, or else in `/run/tidegate`
    /// if this process may create it there.
    Auto,
    /// There is no control socket.
    Off,
    /// At this path.
    At(PathBuf),
}

/// Proxies in front of tidegate that may state the client's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedProxySettings {
    /// Their networks, without those of the files.
    pub networks: Arc<[IpNet]>,
    /// Files that contain more networks, one per line.
    pub files: Arc<[PathBuf]>,
    /// The header that carries the client's address; the other one is removed.
    pub header: ForwardedHeader,
}

/// The header in which trusted proxies name the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// The `X-Forwarded-For` header.
    XForwardedFor,
    /// The `Forwarded` header (RFC 7239).
    Forwarded,
    /// A header that contains nothing but the client's address, in lower case.
    ClientAddress(&'static str),
}

impl ForwardedHeader {
    /// Every choice.
    pub fn all() -> impl Iterator<Item = Self> {
        let fixed = [Self::XForwardedFor, Self::Forwarded];
        fixed.into_iter().chain(CLIENT_ADDRESS_HEADERS.map(Self::ClientAddress))
    }

    /// The name of the header in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
            Self::ClientAddress(name) => name,
        }
    }
}

/// Settings of one listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Name; the default is the address as written.
    pub name: Arc<str>,
    /// Address to bind; IPv6 sockets accept IPv6 only.
    pub address: SocketAddr,
    /// Whether connections use TLS (the default).
    pub tls: bool,
    /// Whether clients may use HTTP/2 (RFC 9113), selected in the TLS handshake or by its preface.
    pub http2: bool,
    /// Whether each connection starts with a PROXY protocol header, version 1 or 2. Requires
    /// trusted proxies.
    pub proxy_protocol: bool,
    /// A path that answers health checks of load balancers with `ok` or `unready`, before any
    /// route.
    pub health_path: Option<String>,
    /// How large request heads may be.
    pub request_head: HeadLimits,
    /// How requests that did not come over TLS are sent to `https`; `None` if they are served.
    pub redirect: Option<HttpsRedirect>,
    /// Paths that are served without TLS nevertheless.
    pub redirect_except: Arc<[PathPrefix]>,
    /// The addresses that may connect, or that PROXY headers may name.
    pub addresses: AddressRules,
}

/// The status of a redirect to `https`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpsRedirect {
    /// 308 for every method, which keeps method and body (RFC 9110 15.4.9).
    Permanent,
    /// 301 for GET and HEAD, and 308 for the other methods, for clients older than RFC 7538.
    Moved,
}

/// One certificate chain and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSettings {
    /// The source of the PEM data.
    pub source: CertificateSource,
    /// Whether clients get this certificate that send no SNI, or one that no certificate covers.
    pub default: bool,
}

/// The source of a chain and its key, read again at each reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// Two PEM files.
    Files {
        /// The chain, leaf first.
        chain: PathBuf,
        /// The private key.
        key: PathBuf,
    },
    /// Two PEM files that tidegate itself writes, once a certificate authority has issued them.
    Acme(Arc<AcmeCertificate>),
    /// PEM text generated by the program itself (`tidegate demo`).
    Memory {
        /// The chain, leaf first.
        chain: String,
        /// The private key.
        key: String,
    },
}

impl CertificateSource {
    /// The files with the chain and the key; `None` if the source is none.
    pub fn files(&self) -> Option<(Cow<'_, Path>, Cow<'_, Path>)> {
        match self {
            Self::Files { chain, key } => Some((Cow::Borrowed(chain), Cow::Borrowed(key))),
            Self::Acme(ordered) => Some((Cow::Owned(ordered.chain()), Cow::Owned(ordered.key()))),
            Self::Memory { .. } => None,
        }
    }
}

/// One route: what it matches, which requests it admits, its backends, and its session policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSettings {
    /// Name; the default is host and path as written.
    pub name: Arc<str>,
    /// Matching hosts.
    pub host: HostPattern,
    /// Matching paths.
    pub path: PathPrefix,
    /// Whether upper and lower case differ in paths.
    pub case_sensitive: bool,
    /// Whether requests are forwarded whose path a server may read as one of another route.
    pub allows_ambiguous_paths: bool,
    /// The clients that are admitted.
    pub addresses: AddressRules,
    /// Origins that may open WebSockets; never empty.
    pub origins: Vec<OriginRule>,
    /// Whether plain HTTP requests are forwarded as well.
    pub http: bool,
    /// Maximum number of open tunnels on this route; `None` if the route has no limit of its own.
    pub tunnels: Option<usize>,
    /// Handling of `permessage-deflate`.
    pub compression: Compression,
    /// The backends: a pool with a name, or those of the route itself.
    pub pool: Arc<PoolSettings>,
    /// What happens to the tunnels of a lost backend.
    pub on_backend_loss: OnBackendLoss,
    /// While this file exists, requests are answered with 503.
    pub maintenance_file: Option<PathBuf>,
    /// Whether each connection to a backend starts with a PROXY protocol header, version 2.
    pub send_proxy: bool,
    /// Whether backends get the `Forwarded` header (RFC 7239) in addition to `X-Forwarded-For`.
    pub send_forwarded: bool,
    /// The name that backends get in `Via`; `None` if tidegate does not add the field.
    pub via: Option<Arc<str>>,
    /// The `max-age` of `Strict-Transport-Security` (RFC 6797); `None` leaves the field to the application.
    pub hsts: Option<Duration>,
    /// Names with underscores that are forwarded nevertheless, in lower case.
    pub underscore_headers: Vec<HeaderName>,
    /// Changes to the request headers, applied last.
    pub request_headers: HeaderRules,
    /// Changes to the backend's response headers.
    pub response_headers: HeaderRules,
    /// How large response heads may be.
    pub response_head: HeadLimits,
    /// Timeouts of each request until a tunnel is open.
    pub timeouts: RequestTimeouts,
    /// Which of the plain requests that were answered are recorded.
    pub log_requests: LogRequests,
    /// Limits and timers of each session.
    pub policy: Arc<SessionPolicy>,
}

/// Which of the plain requests that a backend answered have a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogRequests {
    /// None.
    Off,
    /// Each one that completes this number of requests, counted by route; 1 for all.
    OneOf(NonZeroU32),
}

/// Changes to header fields, except those that frame a message or belong to the handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderRules {
    /// Fields to remove.
    pub remove: Vec<HeaderName>,
    /// Fields to set afterwards, replacing any field of the same name.
    pub set: Vec<(HeaderName, HeaderValue)>,
}

/// Handling of the client's compression offer (RFC 7692).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// The offer is removed, so messages are not compressed.
    Strip,
    /// Offer and response are forwarded unchanged; message sizes are counted as compressed.
    Pass,
    /// The offer of `permessage-deflate` and the response to it are forwarded unchanged, other
    /// extensions are removed from the offer; message sizes are counted as compressed and as
    /// decompressed.
    Inspect,
}

/// `[concurrency]`: limits on open connections and tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConcurrencySettings {
    /// Connections of the process; `None` for as many as the file descriptors allow.
    pub connections: Option<usize>,
    /// Tunnels of the process; `None` for as many as connections.
    pub tunnels: Option<usize>,
    /// Connections of one client key.
    pub connections_per_client: usize,
    /// Tunnels of one client key.
    pub tunnels_per_client: usize,
    /// Plain requests of one client key that are being served.
    pub requests_per_client: usize,
    /// Memory of the connections that carry no tunnel, in bytes; `None` for a share of what the service may use.
    pub pending_memory: Option<u64>,
}

/// Timeouts until the 101 response; the later ones are in [`SessionPolicy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To receive the complete PROXY protocol header.
    pub proxy_header: Duration,
    /// To complete the TLS handshake.
    pub tls: Duration,
    /// To receive a complete request head, from its first byte or the start of the connection.
    pub request_header: Duration,
    /// Maximum time between a response and the first byte of the next request.
    pub keep_alive: Duration,
    /// Those of routes without timeouts of their own.
    pub requests: RequestTimeouts,
}

/// Timeouts of one request, which a route may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestTimeouts {
    /// To connect to a backend, all attempts together.
    pub connect: Duration,
    /// From sending an upgrade request to receiving the backend's complete response head.
    pub response_header: Duration,
    /// Longest time without a body or response byte while a plain HTTP request is processed.
    pub idle: Duration,
    /// Least rate of the body of a plain HTTP request, in bytes per second; `None` if it has none.
    pub min_body_rate: Option<NonZeroU64>,
    /// How long a connection to a backend waits for the next request; `None` if it is not used again.
    pub backend_keep_alive: Option<Duration>,
}

/// Parameters of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainSettings {
    /// Time between reporting not ready and the start of the drain, for load balancers to notice.
    pub delay: Option<Duration>,
    /// Time over which the closes are spread evenly.
    pub window: Duration,
    /// Maximum closes per second; extends the window if necessary.
    pub rate: Option<NonZeroU32>,
    /// When the remaining tunnels are aborted; longer than the window.
    pub deadline: Duration,
}

/// The keys of `[error_pages]` and their statuses: those of tidegate's own responses that people see in a
/// browser.
pub const ERROR_PAGES: [(&str, StatusCode); 6] = [
    ("403", StatusCode::FORBIDDEN),
    ("404", StatusCode::NOT_FOUND),
    ("429", StatusCode::TOO_MANY_REQUESTS),
    ("502", StatusCode::BAD_GATEWAY),
    ("503", StatusCode::SERVICE_UNAVAILABLE),
    ("504", StatusCode::GATEWAY_TIMEOUT),
];

/// Settings of log messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Format of a line.
    pub format: LogFormat,
    /// Least severe level that is logged.
    pub level: tracing::Level,
    /// Names of the query parameters to redact, compared by word and ignoring case.
    pub redact: Arc<[String]>,
}

/// Settings of access records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessSettings {
    /// Destination of the records.
    pub to: AccessTarget,
    /// Format of a line.
    pub format: LogFormat,
    /// Whether the start of a tunnel is recorded as well.
    pub start: bool,
    /// Records of one kind that one client may cause per second on average; `None` for any number.
    pub records_per_client: Option<NonZeroU32>,
}

/// Destination of access records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessTarget {
    /// Standard error, together with the log messages.
    Stderr,
    /// Appended to this file, which is reopened on each reload.
    File(PathBuf),
}

/// Format of records and log messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of `key=value` pairs.
    Text,
    /// One JSON object per line.
    Json,
}
