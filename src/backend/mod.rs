//! The other side: choose a backend, dial it, and either make it a tunnel's far end or hand it
//! one plain request.
//!
//! One connection per WebSocket and per plain request: nothing is pooled, so no answer can meet
//! another's question. Every head that leaves here is built from validated parts.

mod dial;
mod exchange;
mod forward;
mod head;
mod health;
mod introduce;
mod last_words;
mod names;
mod negotiate;
mod pool;
#[cfg(test)]
mod script;
mod standing;
mod upgrade;

pub use dial::{Dialled, dial};
pub use forward::{Broken, Relayed, forward};
pub use health::Health;
pub use introduce::{Introduction, Manner};
pub use pool::{Backend, Known, Pool};
pub use standing::{Away, Standing};
pub use upgrade::{NotUpgraded, Upgraded, upgrade};
