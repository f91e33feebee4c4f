//! The operating system: clocks, randomness, file descriptors, memory limits, systemd and its watchdog.

pub(crate) mod clock;
pub(crate) mod descriptors;
pub(crate) mod entropy;
pub(crate) mod fair_queue;
pub(crate) mod file_identity;
pub(crate) mod local_ports;
pub(crate) mod memory;
pub(crate) mod systemd;
pub(crate) mod watchdog;
pub mod worker_share;
pub(crate) mod worker_step;
