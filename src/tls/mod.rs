//! TLS: certificates, their selection, the handshake with clients, and the files for TLS to backends.

pub(crate) mod certs;
pub(crate) mod challenges;
pub(crate) mod pool;
pub mod terminate;
