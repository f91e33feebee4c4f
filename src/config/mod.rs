//! What we were told.
pub mod origin;
pub mod settings;
pub mod values;
