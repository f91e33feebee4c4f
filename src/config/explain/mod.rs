//! The effective configuration key by key: values and where they come from, differences between two
//! configurations, and when a change takes effect.

pub(crate) mod difference;
pub mod effect;
pub mod listing;
pub mod reference;
