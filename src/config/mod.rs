//! The configuration: reads `proxy.toml` into [`Settings`](self::settings::Settings), or reports
//! all its errors.
//!
//! `toml` reads the document, `values` the values of keys, `schema` the tables, and `resolve` converts
//! the tables into settings. `explain` lists effective values and differences.

mod acme_warnings;
pub mod address_rules;
pub mod explain;
mod limit_warnings;
pub(crate) mod load;
pub(crate) mod resolve;
pub mod schema;
pub mod settings;
pub(crate) mod source_map;
pub mod toml;
pub mod trusted_proxies;
pub mod values;

#[cfg(test)]
mod tests;
