//! Orders certificates from a certificate authority (ACME, RFC 8555), and says when they are renewed. The task
//! that does so is in `server`.
//!
//! The protocol is implemented here rather than by a crate: each request is signed with a nonce that the authority
//! may reject, so repeating it needs the signer; and the status and `Retry-After` of failed requests decide when
//! the next attempt is made.

pub(crate) mod account;
pub(crate) mod attempt;
pub(crate) mod cert_files;
pub(crate) mod client;
pub(crate) mod dns_hook;
pub(crate) mod dns_records;
pub(crate) mod failure;
pub(crate) mod jws;
pub(crate) mod local_problems;
pub(crate) mod order;
pub(crate) mod protocol;
pub(crate) mod record;
pub(crate) mod renewal_info;
pub(crate) mod schedule;
pub(crate) mod state;
pub(crate) mod storage;
pub(crate) mod transport;
pub(crate) mod tried;

#[cfg(test)]
mod tests;
