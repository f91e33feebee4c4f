//! Bytes arrive; no HTTP yet. Owns the listening sockets, the TLS handshake and the certificates.
//! Knows nothing of requests, routes or clients' rights.

mod certs;
mod listener;
mod tls;

pub use certs::CertTable;
pub use listener::{Accepted, BindFault, Event, Listener};
pub use tls::{TlsTerminator, ticketer};
