//! Measurements of the proxy's processes, of time, and of the load generator itself.

pub mod histogram;
pub mod measurement;
pub mod process;
