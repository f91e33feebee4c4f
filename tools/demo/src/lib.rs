//! Everything `tidegate demo` needs except the proxy itself: the configuration, a certificate, a
//! backend with an echo and a chat, and the page that uses them.
//!
//! This crate does not depend on the proxy. The `demo` module of the program parses
//! [`Setup::configuration`], starts the proxy with it, and restarts the proxy after the page has
//! requested a drain.

mod backend;
mod certificate;
mod chat_room;
mod page;
mod setup;

pub use backend::Backend;
pub use certificate::Certificate;
pub use page::Page;
pub use setup::{Error, Setup, welcome};
