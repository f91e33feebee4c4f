//! What a scrape says of the process beside its counts, as it is at that moment.

use std::sync::Arc;

use super::handles::BackendCounts;
use super::process::ProcessUsage;

/// What is known of the process beside its counts, at the moment of a scrape.
#[derive(Clone, Debug, Default)]
pub struct ProcessSnapshot {
    /// When it started, in seconds since 1970.
    pub started: f64,
    /// Number of the configuration in force.
    pub generation: u64,
    /// Whether it is leaving.
    pub draining: bool,
    /// Connections it may hold.
    pub connections_max: usize,
    /// Tunnels it may hold.
    pub tunnels_max: usize,
    /// When the configuration was last read, in seconds since 1970, and whether it was taken.
    pub reload: (f64, bool),
    /// All backends of the configuration in force.
    pub backends: Vec<BackendState>,
    /// Its certificates.
    pub certificates: Vec<CertificateState>,
    /// What the kernel says.
    pub process: ProcessUsage,
    /// Lines that could not be written.
    pub lines_lost: u64,
    /// Tasks that panicked.
    pub panics: u64,
}

/// How a backend is.
#[derive(Clone, Debug)]
pub struct BackendState {
    /// Which.
    pub counts: Arc<BackendCounts>,
    /// Whether clients are sent there.
    pub up: bool,
}

/// How long a certificate lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateState {
    /// Its place in the file, from 0.
    pub index: usize,
    /// Its first DNS name.
    pub name: String,
    /// Its first moment, in seconds since 1970.
    pub not_before: u64,
    /// Its last moment, in seconds since 1970.
    pub not_after: u64,
}
