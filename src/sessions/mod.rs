//! The open sessions: their registry, static data, statistics and drains.

pub(crate) mod connection;
pub(crate) mod drain_plan;
pub(crate) mod drains;
pub(crate) mod info;
pub(crate) mod registry;
pub(crate) mod stats;
