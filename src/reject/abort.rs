//! Why a response was aborted after its head had been sent.

/// Why the rest of a response is missing. The connection to the client ends with it, in a way that the
/// client cannot take for the end of a complete response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AbortCause {
    /// The connection to the backend ended before the response did.
    #[error("the backend closed or reset the connection during its response")]
    BackendDisconnected,
    /// The framing of the response body is invalid.
    #[error("the backend sent a malformed response body")]
    BackendInvalid,
    /// The backend transferred no data within the idle timeout.
    #[error("backend idle timeout during the response: no data transferred")]
    BackendIdleTimeout,
    /// The client sent no data of its request body within the idle timeout.
    #[error("timeout reading the request body, during the response")]
    BodyTimeout,
    /// The client sent its request body more slowly than the least rate.
    #[error("request body too slow, during the response")]
    BodyTooSlow,
    /// The request body of the client is malformed or incomplete.
    #[error("the request body ended early, during the response")]
    RequestInvalid,
}

impl AbortCause {
    /// All causes, in the order of their counters.
    pub const ALL: [Self; 6] = [
        Self::BackendDisconnected,
        Self::BackendInvalid,
        Self::BackendIdleTimeout,
        Self::BodyTimeout,
        Self::BodyTooSlow,
        Self::RequestInvalid,
    ];

    /// The value in records and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BackendDisconnected => "backend_disconnected",
            Self::BackendInvalid => "backend_handshake_invalid",
            Self::BackendIdleTimeout => "backend_idle_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::BodyTooSlow => "body_too_slow",
            Self::RequestInvalid => "request_invalid",
        }
    }

    /// The configuration key that caused it, if any.
    pub fn key(self) -> Option<&'static str> {
        match self {
            Self::BackendIdleTimeout | Self::BodyTimeout => Some("timeouts.idle"),
            Self::BodyTooSlow => Some("timeouts.min_body_rate"),
            Self::BackendDisconnected | Self::BackendInvalid | Self::RequestInvalid => None,
        }
    }
}
