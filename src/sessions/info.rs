//! The data of a session that does not change while it is open.

use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(test)]
use crate::client::{ClientInfo, KeyPrefixes};

use crate::client::ClientKey;
use crate::sessions::connection::Connection;
use crate::telemetry::metrics::handles::BackendCounts;
use crate::telemetry::record::SessionStart;
use crate::telemetry::request_fields::PackedFields;
use crate::upstream::choice::rendezvous::KeyHash;

/// The static data of a session, for its records, the status page and the control socket. Kept
/// small, as every open tunnel holds one.
#[derive(Debug)]
pub struct SessionInfo {
    /// The client's connection.
    pub connection: Arc<Connection>,
    /// Metrics of its route and backend, with their names.
    pub counts: Arc<BackendCounts>,
    /// Fields of the request, already redacted.
    pub fields: PackedFields,
    /// The hash of the key by which the backend was chosen.
    pub key: KeyHash,
    /// When the backend's 101 was accepted.
    pub opened: Instant,
    /// Time from the first attempt to connect to a backend to its 101, in microseconds.
    pub backend_handshake_micros: u32,
    /// Generation of the snapshot that admitted it.
    pub generation: u32,
}

impl SessionInfo {
    /// The client key.
    pub fn client(&self) -> ClientKey {
        self.connection.client.key
    }

    /// The start record of the session with this number.
    pub fn start_record(&self, session: u64) -> SessionStart<'_> {
        SessionStart {
            client: &self.connection.client,
            session,
            route: &self.counts.route.name,
            backend: &self.counts.id,
            backend_address: self.counts.address.as_deref(),
            fields: self.fields.unpack(),
            backend_handshake: Duration::from_micros(self.backend_handshake_micros.into()),
            generation: self.generation.into(),
        }
    }
}

#[cfg(test)]
impl SessionInfo {
    /// A session of 192.0.2.1.
    pub fn sample() -> Self {
        let peer = "192.0.2.1:1".parse().unwrap();
        let client = ClientInfo::new(peer, KeyPrefixes::default(), "a".into());
        Self {
            connection: Arc::new(Connection::uncounted(client)),
            counts: Arc::default(),
            fields: PackedFields::default(),
            key: KeyHash::of_text(b""),
            opened: crate::sys::clock::now(),
            backend_handshake_micros: 0,
            generation: 1,
        }
    }
}
