//! What we tell others: the one record of each connection, and how lines are written. Decides
//! nothing, and is never waited for.

mod account;
mod logging;
mod notices;
mod redact;

pub use account::{Deciding, Ended, Refused, dropped, ended, refused};
pub use logging::{LogFlush, init};
pub use notices::{backend_back, backend_failed};
pub use redact::{authority, origin, target};
