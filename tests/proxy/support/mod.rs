//! The house these tests live in: the proxy as a child process, backends, clients, certificates.

mod backend;
mod book;
mod client;
pub mod control;
mod folder;
pub mod head;
mod logfmt;
mod manager;
mod process;
mod scrape;
mod stage;
mod stranger;
mod trusting;
pub mod wire;

pub use backend::{Backend, Heard, switching};
pub use book::Book;
pub use client::{Answer, Client, HANDSHAKE, answer, ask, body, connect, read_head, read_to_end};
pub use folder::{Folder, write_certificate, write_key};
pub use logfmt::logfmt;
pub use manager::Manager;
pub use process::{BASE, Proxy, Record, TIDEGATE, Twin, route};
pub use scrape::Scrape;
pub use stage::{
    Door, Plain, Secure, Side, Stage, farewell, get, leaves, lives, nudge, reset, upgrade,
};
pub use stranger::of_another_user;
pub use trusting::trusting;

use std::future::Future;
use std::time::Duration;

/// No wait of a test is longer; a test that hits this has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for an event, not for time.
pub async fn soon<T>(what: &str, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, event).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} for {what}"),
    }
}
