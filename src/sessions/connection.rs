//! A client's connection, which stays counted while a request or session of it is open.

use std::sync::Arc;

use crate::admission::concurrency::Permit;
use crate::client::ClientInfo;
use crate::telemetry::metrics::handles::OpenConnection;

/// One client of a TCP connection: the peer, or a client that a trusted peer forwards for. The
/// connection counts towards the limits until the last request or session of it has ended.
#[derive(Debug)]
pub struct Connection {
    /// Address, client key and TLS parameters.
    pub client: ClientInfo,
    /// Held by the peer's connection, which forwarded clients keep alive.
    _permit: Option<Permit>,
    _counted: Option<OpenConnection>,
    _peer: Option<Arc<Connection>>,
}

impl Connection {
    /// The peer's own connection. Dropping it releases the permit and the metric.
    pub fn accepted(client: ClientInfo, permit: Permit, counted: Option<OpenConnection>) -> Self {
        Self { client, _permit: Some(permit), _counted: counted, _peer: None }
    }

    /// A client that the trusted `peer` forwards for.
    pub fn forwarded(client: ClientInfo, peer: Arc<Self>) -> Self {
        Self { client, _permit: None, _counted: None, _peer: Some(peer) }
    }

    /// A connection without a permit or a metric.
    #[cfg(test)]
    pub fn uncounted(client: ClientInfo) -> Self {
        Self { client, _permit: None, _counted: None, _peer: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every open tunnel holds one.
    #[test]
    fn stays_small() {
        assert!(size_of::<Connection>() <= 176, "{} B", size_of::<Connection>());
    }
}
