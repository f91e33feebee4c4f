//! Pools: backends and how they are reached.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::probe::ProbeSettings;
use crate::config::values::patterns::BackendAddress;

/// The backends of one or several routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Name of the `[[pool]]`; `None` for backends that a route lists itself.
    pub name: Option<Arc<str>>,
    /// Backends: at least one, with unique ids.
    pub backends: Vec<BackendSettings>,
    /// What happens to the tunnels of a lost backend, unless a route says otherwise.
    pub on_backend_loss: OnBackendLoss,
    /// How the backends are probed; `None`: only those that do not accept connections, with a connection.
    pub probe: Option<ProbeSettings>,
}

impl PoolSettings {
    /// The pool of a route that lists its backends itself.
    pub fn of_route(backends: Vec<BackendSettings>) -> Self {
        Self { name: None, backends, on_backend_loss: OnBackendLoss::Keep, probe: None }
    }
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
    /// Share of the clients relative to the pool's other backends.
    pub weight: NonZeroU32,
}
