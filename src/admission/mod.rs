//! Admission checks for connections and tunnels: concurrency limits, turns, handshake rate and `Origin`.
//! Performs no I/O. The reasons for which requests are rejected, and the status of each (403, 429,
//! 503), are in [`reject`](crate::reject).

mod client_entries;
pub mod concurrency;
pub(crate) mod origin;
pub(crate) mod pending;
pub(crate) mod pending_memory;
pub(crate) mod rate;
pub(crate) mod request_memory;
pub(crate) mod turns;
