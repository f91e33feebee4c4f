//! Details of the configuration file that do not affect its meaning: the lines of its keys, values
//! that are written but not in use, and the fingerprint of the file. They do not take part in
//! comparisons of settings.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use ws::{HeartbeatPolicy, PingProof, SessionPolicy};

/// Where settings come from.
#[derive(Clone, Default)]
pub struct SourceMap {
    /// Line of each key that is in the file, from 1.
    pub(crate) lines: HashMap<Box<str>, usize>,
    /// Session policy of the top-level tables, which routes without limits of their own use.
    pub(crate) top_level_policy: Arc<SessionPolicy>,
    /// Heartbeat values that are listed also where the heartbeat is off: those of the top-level
    /// table, then those of each route.
    pub(crate) heartbeats: Vec<HeartbeatValues>,
    /// Whether tidegate chose the number of threads.
    pub(crate) workers_auto: bool,
    /// The `[admin]` table, also if the admin listener is off.
    pub(crate) admin: Option<AdminValues>,
    /// First hexadecimal digits of the file's SHA-256.
    pub(crate) fingerprint: Option<Arc<str>>,
}

/// The timeouts of the client and of the backend, and what proves that they are alive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeartbeatValues {
    pub(crate) client_timeout: Duration,
    pub(crate) backend_timeout: Duration,
    pub(crate) proof: PingProof,
}

/// Address and `public` of the `[admin]` table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdminValues {
    pub(crate) address: SocketAddr,
    pub(crate) public: bool,
}

impl SourceMap {
    /// Line of a key, from 1; `None` if the key is not in the file.
    pub fn line(&self, key: &str) -> Option<usize> {
        self.lines.get(key).copied()
    }

    /// The first 12 digits of the file's `sha256sum`; `None` if no file was read.
    pub fn fingerprint(&self) -> Option<&str> {
        self.fingerprint.as_deref()
    }

    /// Heartbeat values of a route, or with `None` those of the top-level table.
    pub(crate) fn heartbeat(&self, route: Option<usize>) -> HeartbeatValues {
        let index = route.map_or(0, |route| route + 1);
        self.heartbeats
            .get(index)
            .copied()
            .unwrap_or_else(|| HeartbeatValues::default(self.top_level_policy.heartbeat_client))
    }
}

impl HeartbeatValues {
    /// Those of this heartbeat, or of the default one.
    pub(crate) fn default(heartbeat: Option<HeartbeatPolicy>) -> Self {
        let heartbeat = heartbeat.or(SessionPolicy::default().heartbeat_client);
        let timeout = heartbeat.map_or(Duration::ZERO, |heartbeat| heartbeat.timeout);
        let proof = heartbeat.map_or(PingProof::Any, |heartbeat| heartbeat.proof);
        Self { client_timeout: timeout, backend_timeout: timeout, proof }
    }
}

/// All source maps are equal: they do not affect the meaning of settings.
impl PartialEq for SourceMap {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for SourceMap {}

impl fmt::Debug for SourceMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceMap").field("keys", &self.lines.len()).finish_non_exhaustive()
    }
}

/// Converts byte offsets of keys into lines.
pub(crate) fn lines(text: &str, locations: Vec<(String, usize)>) -> HashMap<Box<str>, usize> {
    let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
    let line = |at: usize| ends.partition_point(|end| *end < at) + 1;
    locations.into_iter().map(|(key, at)| (key.into_boxed_str(), line(at))).collect()
}

/// The first digits of a file's SHA-256, as `sha256sum` prints them.
pub(crate) fn fingerprint(bytes: &[u8]) -> Option<Arc<str>> {
    let SupportedCipherSuite::Tls13(suite) = TLS13_AES_128_GCM_SHA256 else {
        return None;
    };
    let hash = suite.common.hash_provider.hash(bytes);
    let digits: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    digits.get(..DIGITS).map(Arc::from)
}

/// Enough digits to distinguish files, and few enough to compare by eye.
const DIGITS: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    // Requirements: CF19.
    #[test]
    fn fingerprint_is_a_prefix_of_sha256sum() {
        assert_eq!(fingerprint(b"").as_deref(), Some("e3b0c44298fc"));
        assert_eq!(fingerprint(b"abc").as_deref(), Some("ba7816bf8f01"));
    }

    #[test]
    fn lines_are_counted_from_one() {
        let text = "a = 1\r\n\nb = 2\nc = 3";
        let at = |what| text.find(what).unwrap();
        let locations = vec![("a".into(), at("1")), ("b".into(), at("2")), ("c".into(), at("3"))];
        let lines = lines(text, locations);
        assert_eq!((lines["a"], lines["b"], lines["c"]), (1, 3, 4));
    }
}
