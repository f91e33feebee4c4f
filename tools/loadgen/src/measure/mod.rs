//! What is measured: the proxy's processes, time, and what the load itself took.

pub mod histogram;
pub mod process;
pub mod window;
