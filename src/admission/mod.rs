//! Admission checks for connections and tunnels: concurrency limits, handshake rate and `Origin`.
//! Without IO.

pub mod concurrency;
pub(crate) mod origin;
pub(crate) mod rate;
