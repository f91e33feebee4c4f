//! The state of the process that a scrape reports in addition to the counters.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::backend_state::BackendState;
use super::handles::BackendCounts;
use super::process::ProcessUsage;

/// The state of the process at the time of a scrape. All times are in seconds since 1970.
#[derive(Clone, Debug, Default)]
pub struct ProcessSnapshot {
    /// Start time of the process.
    pub started: f64,
    /// Number of the active configuration.
    pub generation: u64,
    /// Whether new clients should go elsewhere: the process is shutting down or an operator has
    /// drained it.
    pub draining: bool,
    /// Maximum number of open connections.
    pub connections_max: usize,
    /// Maximum number of open tunnels.
    pub tunnels_max: usize,
    /// Memory of the connections that carry no tunnel, and its budget, in bytes.
    pub pending_memory: [u64; 2],
    /// Time of the last reload, and whether it was applied.
    pub reload: (f64, bool),
    /// All backends of the active configuration.
    pub backends: Vec<BackendSnapshot>,
    /// Open tunnels by route and id of the backend.
    pub tunnels: TunnelsByBackend,
    /// All names whose addresses are backends.
    pub names: Vec<NameSnapshot>,
    /// All certificates of the active configuration.
    pub certificates: Vec<CertificateValidity>,
    /// Orders of certificates; `None` if none are ordered.
    pub acme: Option<AcmeSnapshot>,
    /// Memory and file descriptors in use.
    pub usage: ProcessUsage,
    /// Log lines and access records that could not be written.
    pub lines_lost: u64,
    /// Access records not written because a client caused too many.
    pub records_suppressed: u64,
    /// Number of tasks that panicked.
    pub panics: u64,
}

/// The numbers of open tunnels, by route and id of the backend.
pub type TunnelsByBackend = BTreeMap<(Arc<str>, Arc<str>), u64>;

/// A backend at the time of a scrape.
#[derive(Clone, Debug)]
pub struct BackendSnapshot {
    /// Its counters, which also name it.
    pub counts: Arc<BackendCounts>,
    /// Whether it receives new tunnels, and why not.
    pub state: BackendState,
    /// Local ports that are left for further connections to it; `None` for a Unix socket.
    pub local_ports_left: Option<usize>,
}

/// A name of one route whose addresses are backends, at the time of a scrape.
#[derive(Clone, Debug)]
pub struct NameSnapshot {
    /// Name of the route.
    pub route: Arc<str>,
    /// The id of the name in the configuration.
    pub name: Arc<str>,
    /// Addresses of the last answer.
    pub addresses: usize,
    /// Successful and failed lookups.
    pub lookups: [u64; 2],
}

/// Orders of certificates.
#[derive(Clone, Debug, Default)]
pub struct AcmeSnapshot {
    /// Orders that ended with a certificate.
    pub issued: u64,
    /// Orders that failed.
    pub failed: u64,
    /// The certificates that are ordered.
    pub certificates: Vec<AcmeCertificateSnapshot>,
}

/// A certificate that is ordered.
#[derive(Clone, Debug)]
pub struct AcmeCertificateSnapshot {
    /// Its first name.
    pub name: String,
    /// Whether one has been issued.
    pub is_issued: bool,
    /// Failed orders since the last success.
    pub failures: u32,
    /// When it is ordered next, in seconds since 1970.
    pub next_order: u64,
}

/// The validity period of a certificate (RFC 5280 4.1.2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateValidity {
    /// Position of the `[[certificate]]` in the configuration file, from 0.
    pub index: usize,
    /// The key of the configuration that names it, for warnings.
    pub config_key: String,
    /// The first DNS name of the certificate; empty if it has none.
    pub name: String,
    /// Its other DNS names.
    pub more_names: Arc<[String]>,
    /// Start of the validity period, in seconds since 1970.
    pub not_before: u64,
    /// Last second of the validity period, in seconds since 1970.
    pub not_after: u64,
    /// Whether tidegate renews it.
    pub renews_itself: bool,
}
