//! The client side of the tunnels.

pub mod connect;
pub mod connection;
pub mod tasks;
pub mod tls;
pub mod tunnel;
