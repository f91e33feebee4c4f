//! The error of a run; its text goes into the report.

use std::fmt;
use std::io;

#[derive(Debug)]
pub struct Error(pub String);

impl Error {
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }

    /// Prefixes the text with where it happened.
    pub fn context(self, place: impl fmt::Display) -> Self {
        Self(format!("{place}: {}", self.0))
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<rustls::Error> for Error {
    fn from(error: rustls::Error) -> Self {
        Self(format!("TLS: {error}"))
    }
}
