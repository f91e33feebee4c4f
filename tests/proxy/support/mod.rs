//! The house these tests live in: the proxy as a child process, backends, clients, certificates.

mod backend;
mod client;
pub mod head;
mod process;
mod stage;
pub mod wire;

pub use backend::{Backend, Heard, switching};
pub use client::{Answer, Client, HANDSHAKE, answer, ask, body, read_head, read_to_end};
pub use process::{Folder, Proxy, Record, TIDEGATE, route, write_certificate};
pub use stage::{Door, Plain, Stage, farewell, get, lives, nudge, reset, upgrade};

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
