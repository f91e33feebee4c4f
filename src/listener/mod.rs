//! Listening sockets: binding, accepting, sockets inherited from systemd or from the predecessor, and
//! the PROXY protocol header.

pub(crate) mod handover_channel;
pub mod inherited;
pub mod key;
pub mod proxy_protocol;
pub mod socket;
