//! The open sessions: their registry, static data, statistics and drains.

pub(crate) mod connection;
pub mod drain_plan;
pub(crate) mod drains;
pub(crate) mod info;
pub(crate) mod rebalances;
pub mod registry;
pub(crate) mod repeated_ends;
pub(crate) mod stats;
