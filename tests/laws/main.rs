//! What every WebSocket conversation through the core must keep, whatever the peers, the network
//! and the clock do; and the core beside another implementation of RFC 6455.

#![allow(clippy::expect_used, reason = "a test that cannot go on has failed")]

mod conversations;
mod forwarded;
mod headers;
mod inflate;
mod proxy_header;
mod reference;
mod script;
mod simulation;
mod tls;
mod tungstenite;
