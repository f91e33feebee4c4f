//! The status of the process: `/status.json`, the status page, and the process metrics of
//! `/metrics`.

pub(crate) mod cache;
pub(crate) mod document;
pub(crate) mod page;
mod pools;
mod top_lists;
