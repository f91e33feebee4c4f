//! The request to close a session.

use std::sync::Arc;

use crate::close_code::CloseCode;
use crate::termination::TerminationReason;

/// A request to close a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionClose {
    /// The reason to record.
    pub reason: TerminationReason,
    /// Code and text of the Close sent to the client; `None`: those of the policy.
    pub message: Option<CloseMessage>,
}

/// Code and text of a Close frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseMessage {
    /// The status code.
    pub code: CloseCode,
    /// The reason text; at most [`CLOSE_REASON_MAX`](crate::CLOSE_REASON_MAX) bytes.
    pub text: Arc<str>,
}

impl SessionClose {
    /// A request with the code and text of the policy.
    pub const fn new(reason: TerminationReason) -> Self {
        Self { reason, message: None }
    }
}
