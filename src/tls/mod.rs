//! TLS towards clients: certificates and termination.

pub(crate) mod certs;
pub mod terminate;
