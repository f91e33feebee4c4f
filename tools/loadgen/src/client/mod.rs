//! The client side of the connections.

pub mod connect;
pub mod connection;
pub mod http;
pub mod record_writer;
pub mod tasks;
pub mod tls;
pub mod tunnel;
