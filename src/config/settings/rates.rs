//! How often clients may do something.

use std::num::NonZeroU32;

/// `[rates]`: rate limits of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateSettings {
    /// New connections.
    pub connections: ClientRate,
    /// WebSocket handshakes.
    pub handshakes: ClientRate,
    /// Plain requests.
    pub requests: ClientRate,
}

/// How often one client key may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientRate {
    /// Number per second on average.
    pub per_second: NonZeroU32,
    /// Number that may come at once.
    pub burst: NonZeroU32,
}
