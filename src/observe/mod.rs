//! What we tell others: the records of each connection, what the operator is told, and how lines
//! are written. Decides nothing, and no connection ever waits for it.

mod access;
mod account;
mod line;
mod lines;
mod logging;
pub mod metrics;
mod notices;
mod particulars;
mod redact;
mod stamp;

#[cfg(test)]
mod sample;

pub use access::{AccessFault, AccessLog, Outgoing};
pub use account::{Begun, Deciding, Ended, Refused, begun, dropped, ended, refused};
pub use lines::{LogTarget, lines_lost};
pub use logging::{LogFlush, init, log_level, set_log_level};
pub use notices::{Party, backend_back, backend_failed, delaying, would_close};
pub use particulars::{Packed, Particulars};
pub use redact::{authority, cut, origin, subprotocol, target, traceparent};
pub use stamp::moment;
