//! RFC 6455 as pure functions.
mod close;
mod limits;

pub use close::CloseCode;
pub use limits::{Heartbeat, Terms};
