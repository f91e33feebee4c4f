//! May this client in? Concurrency limits, the handshake rate and the Origin check. No IO.

pub mod concurrency;
pub(crate) mod origin;
pub(crate) mod rate;
