//! What we were told: `proxy.toml`, read once, becomes [`Settings`](self::settings::Settings), or
//! the list of everything that is problem with it.

pub mod explain;
pub(crate) mod load;
pub(crate) mod resolve;
pub mod schema;
pub mod settings;
pub(crate) mod source_map;
pub mod toml;
pub mod values;

#[cfg(test)]
mod tests;
