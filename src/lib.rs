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

/// Who is at the door.
pub mod visitor;

/// What they ask for.
pub mod handshake;

/// Why a connection or request was refused.
pub mod outcome;

/// Bytes arrive: sockets and TLS.
pub mod accept;

/// HTTP arrives: may it become a session?
pub mod admit;

/// The other side: choose, dial, upgrade, forward.
pub mod backend;

/// Two byte streams, one session.
pub mod tunnel;

/// The byte streams under HTTP and under the tunnel.
pub mod stream;

/// RFC 6455 as pure functions.
pub mod ws;

/// What `tidegate ctl` asks, and what it is answered.
pub mod control;

/// What we were told.
pub mod config;

/// What we tell others.
pub mod observe;

/// The house: wires everything, owns tasks, time and signals.
pub mod run;

/// `tidegate demo`.
#[cfg(feature = "demo")]
pub mod demo;

/// `tidegate ctl`.
pub mod ctl;
