//! Connections to backends: selecting a backend, connecting to it, and using the connection for one
//! tunnel or for plain requests.
//!
//! A tunnel gets a new connection. A connection carries another plain request only if the response before it
//! ended without doubt, so that no response is assigned to the wrong request. Every head that is sent to a
//! backend is built from validated parts.

pub(crate) mod admin_override;
pub(crate) mod backend_name;
pub(crate) mod backend_tls;
pub(crate) mod backends_owner;
pub(crate) mod choice;
pub(crate) mod connect;
pub(crate) mod connect_error;
pub(crate) mod ejection;
pub(crate) mod forward;
pub(crate) mod forwarded_headers;
pub(crate) mod handshake;
pub(crate) mod head;
pub(crate) mod health;
pub(crate) mod http1;
pub(crate) mod negotiate;
pub(crate) mod pool;
pub(crate) mod probe;
pub(crate) mod resolve;
pub(crate) mod response_outcome;
#[cfg(test)]
pub(crate) mod scripted;
pub(crate) mod source_addresses;
pub(crate) mod tls_failure;
pub(crate) mod trailers;
