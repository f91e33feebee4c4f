//! Names that are often written instead of a key: former names, and names in other programs.

/// The key of the same table that was formerly called, or that other programs call, by the name at
/// the end of `key`, a path such as `route[0].heartbeat.patience`. `None` if it is not a synonym.
pub(crate) fn synonym(key: &str) -> Option<&'static str> {
    let is = |other: &str| {
        key.strip_suffix(other).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    };
    SYNONYMS.iter().find(|(other, _)| is(other)).map(|(_, meant)| *meant)
}

/// The end of the path as written, and the key to suggest.
const SYNONYMS: [(&str, &str); 20] = [
    // Former names.
    ("caps", "concurrency"),
    ("heartbeat.backend_patience", "backend_timeout"),
    ("heartbeat.patience", "timeout"),
    ("limits.controls_from_backend", "control_frames_from_backend"),
    ("limits.controls_from_client", "control_frames_from_client"),
    ("limits.write_stall", "write_timeout"),
    ("limits.write_trickle", "min_write_rate"),
    ("lost_backends", "on_backend_loss"),
    ("timeouts.backend_answer", "response_header"),
    ("timeouts.dial", "connect"),
    ("timeouts.head", "request_header"),
    ("timeouts.http_silence", "idle"),
    // Names that other programs use.
    ("access.file", "to"),
    ("access.path", "to"),
    ("heartbeat.client_interval", "interval"),
    ("heartbeat.client_patience", "timeout"),
    ("heartbeat.client_timeout", "timeout"),
    ("timeouts.proxy_read", "idle"),
    ("underscores_in_headers", "underscore_headers"),
    ("timeouts.read", "idle"),
];
