//! What is true: the configuration after validation. Every value is a domain type, every default
//! is filled in, nothing is left to be checked.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use ipnet::IpNet;
use ws::SessionPolicy;

use super::values::origin::OriginRule;
use super::values::patterns::{BackendAddress, HostPattern, PathPrefix};
use super::written::SourceMap;
use crate::client::{ClientAddr, KeyPrefixes};

/// A whole configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where it was read from; `None`: from no file.
    pub file: Option<PathBuf>,
    /// Worker threads; fixed at start.
    pub workers: usize,
    /// Where clients come in; at least one, names unique.
    pub listeners: Vec<ListenerSettings>,
    /// At least one if any listener speaks TLS.
    pub certificates: Vec<CertificateSettings>,
    /// At least one, names unique; first match by the route table's own order, not this one.
    pub routes: Vec<RouteSettings>,
    /// What counts as one client.
    pub client_key: KeyPrefixes,
    /// Whose word about the client is taken.
    pub trusted: TrustedProxies,
    /// How many connections and tunnels may be open at one time.
    pub concurrency: ConcurrencySettings,
    /// How often a client may start something.
    pub rates: Rates,
    /// How long before the tunnel.
    pub timeouts: Timeouts,
    /// How to leave.
    pub drain: DrainSettings,
    /// Health and status; `None` if switched off.
    pub admin: Option<SocketAddr>,
    /// Where orders are taken.
    pub control: ControlSocket,
    /// How to speak.
    pub log: LogSettings,
    /// Where the records of connections go.
    pub access: AccessSettings,
    /// How it was written; takes no part in equality.
    pub written: SourceMap,
}

/// Where orders are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlSocket {
    /// `control.sock` in the directory that the service manager made for us, if it made one.
    Auto,
    /// Nowhere.
    Off,
    /// Here.
    At(PathBuf),
}

/// Proxies in front of this one, whose word about the client is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedProxies {
    /// Where they are; empty: nobody is believed.
    pub networks: Arc<[IpNet]>,
    /// Where they write the client's address; the other one is removed.
    pub header: ForwardedHeader,
}

impl TrustedProxies {
    /// Whether the word of whoever is at this address is taken.
    pub fn has(&self, addr: &ClientAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&addr.ip()))
    }
}

/// The first few networks, for a person.
impl fmt::Display for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, network) in self.networks.iter().take(SHOWN_MAX).enumerate() {
            let before = if place == 0 { "" } else { ", " };
            write!(f, "{before}{network}")?;
        }
        f.write_str(if self.networks.len() > SHOWN_MAX { ", ..." } else { "" })
    }
}

/// Where a trusted proxy writes whom it forwards for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`
    XForwardedFor,
    /// `Forwarded` (RFC 7239)
    Forwarded,
}

/// One listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Defaults to the address as written.
    pub name: Arc<str>,
    /// Where to bind; IPv6 sockets take IPv6 only.
    pub address: SocketAddr,
    /// False only where the file says `tls = false`.
    pub tls: bool,
    /// Each connection begins with a PROXY header, version 1 or 2; only where trusted proxies
    /// are listed.
    pub proxy_protocol: bool,
    /// A path that answers `ok` or `unready` to load balancers, before any route.
    pub health_path: Option<String>,
}

/// One certificate chain with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSettings {
    /// Where the PEM comes from.
    pub source: CertificateSource,
    /// Shown to clients that name no server, or one that no certificate covers.
    pub default: bool,
}

/// Where a chain and its key are read, again at each reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// PEM files.
    Files {
        /// The chain, leaf first.
        chain: PathBuf,
        /// The private key.
        key: PathBuf,
    },
    /// PEM text made by the program itself (`tidegate demo`).
    Memory {
        /// The chain, leaf first.
        chain: String,
        /// The private key.
        key: String,
    },
}

/// One route: what it matches, whom it admits, where it leads, and under which terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSettings {
    /// Defaults to host and path as written.
    pub name: Arc<str>,
    /// Which hosts.
    pub host: HostPattern,
    /// Which paths.
    pub path: PathPrefix,
    /// Which pages may open WebSockets; never empty.
    pub origins: Vec<OriginRule>,
    /// Whether plain HTTP is forwarded as well.
    pub http: bool,
    /// Most tunnels on this route at one time; `None`: no cap of its own.
    pub tunnels: Option<usize>,
    /// What happens to `permessage-deflate`.
    pub compression: Compression,
    /// At least one, ids unique.
    pub backends: Vec<BackendSettings>,
    /// What becomes of the tunnels of a backend that was removed or is down.
    pub on_backend_loss: OnBackendLoss,
    /// Each connection to a backend begins with a PROXY header, version 2.
    pub send_proxy: bool,
    /// Backends are told of the client by `Forwarded` (RFC 7239) as well.
    pub send_forwarded: bool,
    /// Changes to the head that goes to a backend, after all else.
    pub request_headers: HeaderRules,
    /// Changes to the head that comes from a backend.
    pub response_headers: HeaderRules,
    /// What each session is held to.
    pub terms: Arc<SessionPolicy>,
}

/// What becomes of the tunnels of a backend that was removed or is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBackendLoss {
    /// They go on as long as they can.
    Keep,
    /// They are closed, as in a drain.
    Drain,
    /// The same, if it is still lost after this time.
    CloseAfter(Duration),
}

/// Changes to a head; names that frame a message or belong to the handshake are not among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderRules {
    /// Taken off.
    pub remove: Vec<HeaderName>,
    /// Put on after that, in place of any of the same name.
    pub set: Vec<(HeaderName, HeaderValue)>,
}

/// What happens to the client's offer of RFC 7692 compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// The offer is removed, so that message sizes are what they say.
    Strip,
    /// Offers and answers pass unchanged; message sizes are counted as compressed.
    Pass,
    /// The client's messages are held to the limit after decompression, too. For this the answer
    /// gets `client_no_context_takeover`.
    Inspect,
}

/// One backend of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendSettings {
    /// What the sticky hash sees; defaults to the address as written.
    pub id: Arc<str>,
    /// Where to connect.
    pub address: BackendAddress,
    /// Share of the clients, relative to its siblings.
    pub weight: NonZeroU32,
}

/// `[concurrency]`: limits on open connections and tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConcurrencySettings {
    /// Connections of the whole process; `None`: as many as the descriptors allow.
    pub connections: Option<usize>,
    /// Tunnels of the whole process; `None`: as many as connections.
    pub tunnels: Option<usize>,
    /// Connections of one client key.
    pub connections_per_client: usize,
    /// Tunnels of one client key.
    pub tunnels_per_client: usize,
}

/// `[rates]`: limits on how often a client may start something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// WebSocket handshakes of one client key, a second.
    pub handshakes_per_client: NonZeroU32,
    /// How many handshakes may come at once before the rate holds.
    pub handshakes_burst: NonZeroU32,
}

/// Deadlines before the tunnel; those after the 101 are in [`SessionPolicy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// The PROXY header of a listener that expects one, whole.
    pub proxy_header: Duration,
    /// TLS handshake, whole.
    pub tls: Duration,
    /// Request head, whole, and the wait for it on an open connection.
    pub request_header: Duration,
    /// All attempts to connect to a backend.
    pub connect: Duration,
    /// From the request sent to the backend's whole answer head to an upgrade.
    pub response_header: Duration,
    /// Longest silence in the exchange of a plain HTTP request: no byte of body or answer.
    pub idle: Duration,
}

/// How tunnels are closed when the process leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainSettings {
    /// How long all goes on but readiness, so that a balancer notices; `None`: no time at all.
    pub delay: Option<Duration>,
    /// Closes are spread evenly over this time.
    pub window: Duration,
    /// Most closes a second; where the window is too short for it, it is made longer.
    pub rate: Option<NonZeroU32>,
    /// Whatever is left is cut at this time; longer than the window.
    pub deadline: Duration,
}

/// How records are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Shape of a line.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: tracing::Level,
    /// Parameters whose value is never written, compared by word and without case.
    pub redact: Arc<[String]>,
}

/// Where the records of connections go, and how many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessSettings {
    /// Where to.
    pub to: AccessTarget,
    /// Shape of a line.
    pub format: LogFormat,
    /// Whether a tunnel also gets a record when it begins.
    pub start: bool,
}

/// Where the records of connections go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessTarget {
    /// With all other lines.
    Stderr,
    /// To this file, appended to, opened anew on each reload.
    File(PathBuf),
}

/// Shape of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of `key=value`.
    Text,
    /// One JSON object a line.
    Json,
}

/// Most networks in a record.
const SHOWN_MAX: usize = 8;
