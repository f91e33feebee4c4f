//! Bytes arrive; no HTTP yet. Owns the listening sockets, the PROXY header, the TLS handshake and
//! the certificates.
//! Knows nothing of requests, routes or clients' rights.

mod certs;
mod inherited;
mod listener;
mod passage;
pub mod proxy_header;
mod tls;

pub use certs::{CertTable, Seen, Step, look};
pub use inherited::{ELDER, Heir, Inherited};
pub use listener::{Accepted, BindFault, Event, Listener};
pub use passage::Passage;
pub use proxy_header::{Proxied, read_proxy_header};
pub use tls::{TlsTerminator, ticketer};
