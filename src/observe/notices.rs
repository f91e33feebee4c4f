//! What happened to a backend rather than to a connection.

use std::fmt;
use std::time::Duration;

use tracing::{debug, info, warn};

/// A backend did not take a connection; `left_out` if that was once too often.
pub fn backend_failed(id: &str, why: &dyn fmt::Display, left_out: Option<Duration>) {
    match left_out {
        Some(span) => warn!(
            backend = id,
            error = why.to_string(),
            seconds = span.as_secs(),
            "backend left out for a while; its clients go to the next, if there is one"
        ),
        None => debug!(backend = id, error = why.to_string(), "backend refused a connection"),
    }
}

/// A backend that was left out gave a lawful answer again.
pub fn backend_back(id: &str) {
    info!(backend = id, "backend back");
}
