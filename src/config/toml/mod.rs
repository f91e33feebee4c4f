//! The TOML document: reading the file, syntax, typed access to keys with their locations, and
//! errors.

pub mod diagnostic;
pub(crate) mod foreign;
pub(crate) mod key_path;
pub mod late_diagnostic;
pub(crate) mod nearest;
pub(crate) mod reader;
pub(crate) mod scalar;
pub(crate) mod sink;
pub(crate) mod source;
pub(crate) mod synonyms;
pub(crate) mod value;
pub(crate) mod variables;
