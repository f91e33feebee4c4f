//! A request head that could not be parsed.

use hyper::StatusCode;

/// What is known about a head that was rejected before it was parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InvalidHead {
    /// What is wrong. It contains no values of header fields.
    pub detail: String,
    /// The status of the response; `None` if there was none.
    pub status: Option<StatusCode>,
    /// What the head is addressed to, as far as that can be read.
    pub addressed: Addressed,
}

/// The target and the host of a request, as sent: not redacted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addressed {
    /// Path and query, in visible ASCII.
    pub target: Option<Box<str>>,
    /// The authority of the target or the value of `Host`, in visible ASCII.
    pub host: Option<Box<str>>,
}
