//! The value types of keys: addresses, networks, origins, durations, sizes, patterns, names.

pub(crate) mod acme;
pub(crate) mod address;
pub(crate) mod address_mistake;
pub mod backend_address;
pub(crate) mod choices;
pub(crate) mod close_reason;
pub(crate) mod cookie;
pub(crate) mod field;
pub(crate) mod hash_source;
pub(crate) mod head_limits;
pub(crate) mod hsts;
pub(crate) mod network;
pub(crate) mod origin;
pub(crate) mod origin_rule;
pub(crate) mod patterns;
pub(crate) mod pool;
pub(crate) mod probe;
pub(crate) mod scalars;
pub(crate) mod share;
pub(crate) mod targets;
pub(crate) mod units;
