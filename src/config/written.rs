//! What is known of a file beside what it means: where its keys stand, what was written of values
//! that are not in force, and which file it was. Settings that differ in nothing else are equal.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use ws::SessionPolicy;

/// Beside the settings.
#[derive(Clone, Default)]
pub struct SourceMap {
    /// The line of each key that is in the file, from 1.
    pub(crate) lines: HashMap<Box<str>, usize>,
    /// What routes are held to that say nothing of their own.
    pub(crate) common: Arc<SessionPolicy>,
    /// How long pongs may take, where nobody is pinged as well: common, then of each route.
    pub(crate) heartbeat_timeouts: Vec<PongTimeouts>,
    /// The number of threads is what tidegate chose.
    pub(crate) workers_auto: bool,
    /// The admin listener, be there one or not.
    pub(crate) admin: Option<AdminLines>,
    /// The beginning of the SHA-256 of the file, in hexadecimal digits.
    pub(crate) fingerprint: Option<Arc<str>>,
}

/// How long a client's pong may take, and a backend's.
pub(crate) type PongTimeouts = [Duration; 2];

/// `[admin]`
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdminLines {
    pub(crate) address: SocketAddr,
    pub(crate) public: bool,
}

impl SourceMap {
    /// The line a key stands in; `None`: it is not in the file.
    pub fn line(&self, key: &str) -> Option<usize> {
        self.lines.get(key).copied()
    }

    /// Which file it was: the first digits of what `sha256sum` says of it.
    pub fn fingerprint(&self) -> Option<&str> {
        self.fingerprint.as_deref()
    }

    /// How long pongs may take: on a route, or (`None`) on those that say nothing.
    pub(crate) fn heartbeat_timeouts(&self, route: Option<usize>) -> PongTimeouts {
        let usual = self.common.heartbeat_client.or(SessionPolicy::default().heartbeat_client);
        let usual = usual.map_or(Duration::ZERO, |usual| usual.timeout);
        let place = route.map_or(0, |route| route + 1);
        self.heartbeat_timeouts.get(place).copied().unwrap_or([usual; 2])
    }
}

/// How it was written changes nothing of what it means.
impl PartialEq for SourceMap {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for SourceMap {}

impl fmt::Debug for SourceMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Written").field("keys", &self.lines.len()).finish_non_exhaustive()
    }
}

/// The lines of places in a text, which come as `(key, first byte)`.
pub(crate) fn lines(text: &str, places: Vec<(String, usize)>) -> HashMap<Box<str>, usize> {
    let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
    let line = |at: usize| ends.partition_point(|end| *end < at) + 1;
    places.into_iter().map(|(key, at)| (key.into_boxed_str(), line(at))).collect()
}

/// The first digits of a file's SHA-256, as `sha256sum` shows them.
pub(crate) fn fingerprint(bytes: &[u8]) -> Option<Arc<str>> {
    let SupportedCipherSuite::Tls13(suite) = TLS13_AES_128_GCM_SHA256 else {
        return None;
    };
    let hash = suite.common.hash_provider.hash(bytes);
    let digits: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    digits.get(..DIGITS).map(Arc::from)
}

/// Enough to tell files apart, few enough to compare by eye.
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
        let places = vec![("a".into(), at("1")), ("b".into(), at("2")), ("c".into(), at("3"))];
        let lines = lines(text, places);
        assert_eq!((lines["a"], lines["b"], lines["c"]), (1, 3, 4));
    }
}
