//! What every WebSocket conversation through the core must keep, whatever the peers, the network
//! and the clock do; and the core beside another implementation of RFC 6455.

mod conversations;
mod headers;
mod reference;
mod script;
mod simulation;
mod tungstenite;
