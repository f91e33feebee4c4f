//! TLS for client connections: certificates, their selection and the TLS handshake.

pub(crate) mod certs;
pub mod terminate;
