//! TLS to one backend.

use std::sync::Arc;

use crate::config::settings::pool::PoolTlsSettings;
use crate::config::values::backend_address::BackendAddress;
use crate::net::tls_client::OutboundTls;

/// How connections to a backend are encrypted.
#[derive(Clone, Debug)]
pub struct BackendTls {
    /// What the client was built from.
    pub settings: Arc<PoolTlsSettings>,
    /// The sessions that it has belong to this backend. `None` if the files of the pool could not be used: no connection is
    /// possible then.
    pub client: Option<OutboundTls>,
}

/// Identifies a backend: routes and snapshots that have one with the same key share what is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BackendKey {
    /// Its id.
    pub id: Arc<str>,
    /// Its address.
    pub address: BackendAddress,
    /// Its address in the configuration: another name may stand for another service, and for other certificates.
    pub listed: BackendAddress,
    /// Its TLS; another one is another service.
    pub tls: Option<Arc<PoolTlsSettings>>,
}
