//! What we tell others: the records of each connection, what the operator is told, and how lines
//! are written. Decides nothing, and no connection ever waits for it.

pub(crate) mod access_log;
pub(crate) mod events;
#[cfg(test)]
pub(crate) mod fixtures;
pub(crate) mod line;
pub(crate) mod line_writer;
pub mod log;
pub mod metrics;
pub(crate) mod record;
pub(crate) mod redact;
pub(crate) mod request_fields;
pub(crate) mod timestamp;
