//! tidegate: a TLS-terminating reverse proxy that understands WebSockets.
//!
//! The modules below stand in the order in which a connection meets them. The whole story is
//! told in [`run::journey`]; each room (folder) does one stage and knows no other stage.
//!
//! ```text
//! client ─ TCP ─ accept ─ TLS ─ admit (HTTP head, handshake, route, origin, caps)
//!                                  │
//!                               backend (pick, dial, upgrade, or forward plain HTTP)
//!                                  │
//!                               tunnel  ── ws::Session decides, the tunnel only moves bytes
//!                                  │
//!                               observe (one record: who, what, why it ended)
//! ```
//!
//! Layers, lowest last; a module imports only from lower rows (`tests/rooms.rs` holds this):
//!
//! | row | rooms |
//! | --- | --- |
//! | 4 | `main`, `cli` |
//! | 3 | `run`, `demo`, `ctl` |
//! | 2 | `accept`, `admit`, `backend`, `tunnel` |
//! | 1 | `config`, `observe` |
//! | 0 | `visitor`, `handshake`, `outcome`, `stream`, `ws`, `control` |
//!
//! This is the program's library half, for its tests, benches and fuzz targets. It makes no
//! promise of a stable API.

pub mod admin;
pub mod admission;
pub mod app;
pub mod client;
pub mod config;
pub mod ctl;
#[cfg(feature = "demo")]
pub mod demo;
pub mod downstream;
pub mod http;
pub mod listener;
pub mod net;
pub mod protocol;
pub mod proxy;
pub mod reject;
pub mod server;
pub mod sessions;
pub mod sys;
pub mod telemetry;
pub mod tls;
pub mod tunnel;
pub mod upstream;
