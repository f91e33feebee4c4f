//! The test harness: the proxy as a child process, backends, clients, certificates.

mod backend;
mod client;
pub mod control;
mod counter_check;
pub mod head;
pub mod http2;
mod invalid_frames;
mod logfmt;
pub mod name_server;
mod other_user;
pub mod own_network;
pub mod prefixed;
mod process;
mod scrape;
mod service_manager;
mod temp_dir;
mod test_bed;
pub mod tls_backend;
mod trust_any;
pub mod wire;

pub use backend::{Backend, BackendEvent, switching_protocols};
pub use client::{
    Client, HANDSHAKE, RawResponse, connect, exchange, read_body, read_head, read_response,
    read_to_end,
};
pub use counter_check::CounterCheck;
pub use invalid_frames::{InvalidFrames, check_invalid_frames};
pub use logfmt::logfmt;
pub use other_user::other_user;
pub use process::{BASE, Proxy, Record, SharedSockets, TIDEGATE, route};
pub use scrape::Scrape;
pub use service_manager::ServiceManager;
pub use temp_dir::{TempDir, write_certificate, write_key};
pub use test_bed::{
    MockBackend, PlainStream, Side, TestBed, TlsClientStream, answer_close, assert_relays,
    close_after_violation, close_normally, get, reset, upgrade, wait_until_client_data_processed,
};
pub use trust_any::{trust_any_certificate, trust_any_certificate_with};

use std::future::Future;
use std::time::Duration;

/// The longest that a test waits for anything. Generous, as a busy machine is slow.
pub const TIMEOUT: Duration = Duration::from_secs(180);

/// Waits for an event; panics after [`TIMEOUT`].
pub async fn within_timeout<T>(what: &str, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(TIMEOUT, event).await {
        Ok(value) => value,
        Err(_) => panic!("waited {TIMEOUT:?} for {what}"),
    }
}
