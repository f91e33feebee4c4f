//! The document: reading the file, TOML syntax, typed access with positions, and diagnostics.

pub mod diagnostic;
pub(crate) mod findings;
pub mod late_diagnostic;
pub(crate) mod nearest;
pub(crate) mod reader;
pub(crate) mod source;
pub(crate) mod synonyms;
