//! The open sessions: registry, identity and statistics of each, and how they are drained.

pub(crate) mod connection;
pub mod drain_plan;
pub(crate) mod drains;
pub(crate) mod info;
pub mod registry;
pub(crate) mod stats;
