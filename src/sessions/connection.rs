//! A client's connection, as long as anything that came from it is open.

use std::sync::Arc;

use crate::admission::concurrency::Permit;
use crate::client::ClientInfo;
use crate::telemetry::metrics::handles::OpenConnection;

/// One client of a TCP connection: the peer, or a client that a trusted peer forwards for. The
/// connection counts towards the limits until the last request or session of it has ended.
#[derive(Debug)]
pub struct Connection {
    /// The client.
    pub visitor: ClientInfo,
    /// Held by the peer's connection, which forwarded clients keep alive.
    _permit: Option<Permit>,
    _counted: Option<OpenConnection>,
    _peer: Option<Arc<Connection>>,
}

impl Connection {
    /// The peer's own connection; holds its place in the limits and in the metrics.
    pub fn accepted(visitor: ClientInfo, permit: Permit, counted: Option<OpenConnection>) -> Self {
        Self { visitor, _permit: Some(permit), _counted: counted, _peer: None }
    }

    /// A client that the trusted `peer` forwards for.
    pub fn forwarded(visitor: ClientInfo, peer: Arc<Self>) -> Self {
        Self { visitor, _permit: None, _counted: None, _peer: Some(peer) }
    }

    /// A connection that counts nowhere.
    #[cfg(test)]
    pub fn uncounted(visitor: ClientInfo) -> Self {
        Self { visitor, _permit: None, _counted: None, _peer: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There is one for each open tunnel.
    #[test]
    fn stays_small() {
        assert!(size_of::<Connection>() <= 176, "{} B", size_of::<Connection>());
    }
}
