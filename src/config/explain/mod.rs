//! The effective configuration, key by key: values, origins, differences, and when a change applies.

pub(crate) mod difference;
pub mod effect;
pub mod listing;
