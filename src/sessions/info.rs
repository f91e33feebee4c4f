//! What is known of a session from its beginning: for its records, and for whoever looks at it.

use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(test)]
use crate::client::{ClientInfo, KeyPrefixes};

use crate::client::ClientKey;
use crate::sessions::connection::Connection;
use crate::telemetry::metrics::handles::BackendCounts;
use crate::telemetry::record::SessionStart;
use crate::telemetry::request_fields::PackedFields;

/// What is known of a session when it begins; small, as there is one for every open socket.
#[derive(Debug)]
pub struct SessionInfo {
    /// Whose it is.
    pub connection: Arc<Connection>,
    /// Where it leads, and by which route.
    pub counts: Arc<BackendCounts>,
    /// What the request said of itself.
    pub particulars: PackedFields,
    /// When it was agreed.
    pub opened: Instant,
    /// How long the backend took, in microseconds.
    pub dial: u32,
    /// Number of the configuration it was admitted under.
    pub generation: u32,
}

impl SessionInfo {
    /// What it is counted under.
    pub fn client(&self) -> ClientKey {
        self.connection.visitor.key
    }

    /// The same for its records; `session` is its number.
    pub fn begun(&self, session: u64) -> SessionStart<'_> {
        SessionStart {
            client: &self.connection.visitor,
            session,
            route: &self.counts.route.name,
            backend: &self.counts.id,
            fields: self.particulars.unpack(),
            backend_handshake: Duration::from_micros(self.dial.into()),
            generation: self.generation.into(),
        }
    }
}

#[cfg(test)]
impl SessionInfo {
    /// Somebody's.
    pub fn sample() -> Self {
        let peer = "192.0.2.1:1".parse().unwrap();
        let visitor = ClientInfo::new(peer, KeyPrefixes::default(), "a".into());
        Self {
            connection: Arc::new(Connection::uncounted(visitor)),
            counts: Arc::default(),
            particulars: PackedFields::default(),
            opened: crate::sys::clock::now(),
            dial: 0,
            generation: 1,
        }
    }
}
