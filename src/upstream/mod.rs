//! The other side: choose a backend, dial it, and either make it a tunnel's far end or hand it
//! one plain request.
//!
//! One connection per WebSocket and per plain request: nothing is pooled, so no answer can meet
//! another's question. Every head that leaves here is built from validated parts.

pub(crate) mod admin_override;
pub(crate) mod connect;
pub(crate) mod exchange;
pub(crate) mod forward;
pub(crate) mod forwarded_headers;
pub(crate) mod handshake;
pub(crate) mod head;
pub(crate) mod health;
pub(crate) mod ignore_reset;
pub(crate) mod negotiate;
pub(crate) mod pool;
pub(crate) mod resolve;
#[cfg(test)]
pub(crate) mod scripted;
