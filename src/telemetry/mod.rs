//! Access log records, log messages and metrics. Nothing here makes decisions about connections, and
//! no connection ever waits for a line to be written.

pub(crate) mod access_log;
pub(crate) mod events;
#[cfg(test)]
pub(crate) mod fixtures;
pub(crate) mod line;
pub(crate) mod line_writer;
pub mod log;
pub(crate) mod log_event;
pub mod metrics;
pub(crate) mod once_a_minute;
pub(crate) mod record;
pub(crate) mod record_rate;
pub(crate) mod redact;
pub(crate) mod request_fields;
pub(crate) mod stderr;
pub(crate) mod timestamp;
pub(crate) mod window_counts;
