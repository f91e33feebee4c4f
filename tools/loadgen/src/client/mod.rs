//! The load's side of a tunnel.

pub mod crew;
pub mod dial;
pub mod link;
pub mod tls;
pub mod tunnel;
