//! Pools: backends and how they are reached.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::choice::ChoiceSettings;
use super::probe::ProbeSettings;
use crate::config::values::backend_address::BackendAddress;

/// The backends of one or several routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Name of the `[[pool]]`; `None` for backends that a route lists itself.
    pub name: Option<Arc<str>>,
    /// Backends: at least one, with unique ids.
    pub backends: Vec<BackendSettings>,
    /// Which of them a request goes to.
    pub choice: ChoiceSettings,
    /// What happens to the tunnels of a lost backend, unless a route says otherwise.
    pub on_backend_loss: OnBackendLoss,
    /// How the backends are probed; `None`: only those that do not accept connections, with a connection.
    pub probe: Option<ProbeSettings>,
    /// How connections to the backends are encrypted; `None` if they are not.
    pub tls: Option<Arc<PoolTlsSettings>>,
    /// How often the names of backends are looked up, whose addresses are backends of their own; `None`: each name is
    /// one backend, and looked up when a connection is needed.
    pub resolve: Option<Duration>,
    /// The addresses of this machine from which connections to the backends come; empty if the system chooses one.
    pub bind: Vec<IpAddr>,
}

impl PoolSettings {
    /// How often names are looked up by default.
    pub const RESOLVE: Duration = Duration::from_secs(10);

    /// The pool of a route that lists its backends itself.
    pub fn of_route(backends: Vec<BackendSettings>) -> Self {
        Self {
            name: None,
            backends,
            choice: ChoiceSettings::default(),
            on_backend_loss: OnBackendLoss::Keep,
            probe: None,
            tls: None,
            resolve: Some(Self::RESOLVE),
            bind: Vec::new(),
        }
    }
}

/// TLS to the backends of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolTlsSettings {
    /// File with the issuers that are trusted; `None` for those of the system.
    pub ca: Option<PathBuf>,
    /// The name that is requested (SNI); `None` for the host of each backend, or no name for an IP address.
    pub server_name: Option<Arc<str>>,
    /// The name or IP address that certificates must be valid for; `None` for the server name, or the host of
    /// each backend.
    pub verify_name: Option<Arc<str>>,
    /// What tidegate shows to backends that ask for a certificate.
    pub certificate: Option<ClientCertificate>,
    /// Any certificate is accepted.
    pub insecure_skip_verify: bool,
}

/// The PEM files of a client certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientCertificate {
    /// The chain, the client's own certificate first.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// What happens to the tunnels of a lost backend, one that was removed or is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBackendLoss {
    /// They stay open.
    Keep,
    /// They are closed as in a drain.
    Drain,
    /// They are closed as in a drain if the backend is still lost after this time.
    CloseAfter(Duration),
}

/// One backend of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendSettings {
    /// Input of the sticky hash; the default is the address as written.
    pub id: Arc<str>,
    /// Address to connect to.
    pub address: BackendAddress,
    /// Whether each address of its name is a backend of its own.
    pub is_per_address: bool,
    /// Share of the clients relative to the pool's other backends.
    pub weight: NonZeroU32,
    /// Whether it is used only if all others are ejected.
    pub is_backup: bool,
    /// Whether it serves only the requests that [`ChoiceSettings::canary`] selects.
    pub is_canary: bool,
    /// Maximum number of its tunnels; `None` if it has no limit of its own.
    pub max_tunnels: Option<usize>,
    /// The value of the pin cookie by which another proxy names it.
    pub cookie_value: Option<Arc<str>>,
}
