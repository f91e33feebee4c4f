//! tidegate: a TLS-terminating reverse proxy that understands WebSockets.
//!
//! ```text
//! client ── listener ── tls ── downstream ── admission ── upstream ── backend
//!           (accept)           (HTTP head,   (origin,     (select,
//!                               client)       rate,        connect,
//!                                             limits)      handshake)
//!                                     └──────── tunnel ────────┘
//!                                       (relays frames; the `ws`
//!                                        crate makes the decisions)
//! ```
//!
//! The path of one connection through these folders is in [`proxy`]: `serve` (one connection),
//! `request` (one request), `session` (one tunnel). [`telemetry`] writes one record for each
//! dropped connection, rejected request and tunnel.
//!
//! Layers, highest first. A module imports only from lower layers and from its own folder;
//! `tests/layers.rs` checks this.
//!
//! | layer | folders |
//! | --- | --- |
//! | command line | `main`, `cli` |
//! | commands | [`ctl`], `demo` |
//! | composition | [`app`] |
//! | operators | [`admin`] |
//! | process lifecycle | [`server`] |
//! | data path | [`proxy`] |
//! | open sessions, orders of certificates | [`sessions`], [`acme`] |
//! | parts of the data path | [`admission`], [`downstream`], [`listener`], [`tls`], [`tunnel`], [`upstream`] |
//! | records and metrics | [`telemetry`] |
//! | configuration | [`config`] |
//! | HTTP | [`http`] |
//! | foundation | [`client`], [`net`], [`control_protocol`], [`reject`], [`sys`] and the `ws` crate |
//!
//! The library exists for the program's tests, benchmarks and fuzz targets. Its API is not stable.

pub mod acme;
pub mod admin;
pub mod admission;
pub mod app;
pub mod client;
pub mod config;
pub mod control_protocol;
pub mod ctl;
#[cfg(feature = "demo")]
pub mod demo;
pub mod downstream;
pub mod http;
pub mod listener;
pub mod net;
pub mod proxy;
pub mod reject;
pub mod server;
pub mod sessions;
pub mod sys;
pub mod telemetry;
pub mod tls;
pub mod tunnel;
pub mod upstream;
