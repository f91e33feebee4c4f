//! HTTP arrives: may it become a session? Owns the HTTP/1.1 server, the route table, and the
//! judgements that need no backend: Origin, caps, rates. Knows nothing of what it guards.

mod client;
mod framing;
mod http;
mod occupancy;
mod origin;
mod rate;
mod reply;
mod route;

pub use client::identify;
pub use http::{HeadLimits, Served, serve};
pub use occupancy::{Occupancy, Permit, RouteCount};
pub use origin::OriginRules;
pub use rate::HandshakeRate;
pub use reply::{Body, BoxError, boxed, refuse, text};
pub use route::RouteTable;
