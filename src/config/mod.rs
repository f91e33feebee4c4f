//! What we were told: `proxy.toml`, read once, becomes [`Settings`](self::settings::Settings), or
//! the list of everything that is wrong with it.

pub mod explain;
pub(crate) mod load;
pub(crate) mod resolve;
pub mod schema;
pub mod settings;
pub mod toml;
pub mod values;
pub(crate) mod written;

#[cfg(test)]
mod tests;
