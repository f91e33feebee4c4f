//! Why a run ended without a figure, in words for the report.

use std::fmt;
use std::io;

#[derive(Debug)]
pub struct Fail(pub String);

impl Fail {
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }

    /// The same with where it happened.
    pub fn at(self, place: impl fmt::Display) -> Self {
        Self(format!("{place}: {}", self.0))
    }
}

impl From<io::Error> for Fail {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<rustls::Error> for Fail {
    fn from(error: rustls::Error) -> Self {
        Self(format!("TLS: {error}"))
    }
}
