//! The stages that a connection passes.

/// How far a connection had progressed when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionStage {
    /// Accepted; no TLS or HTTP data processed yet.
    Accept,
    /// During the TLS handshake.
    Tls,
    /// Waiting for a request head or reading it.
    Head,
    /// Checking the head: handshake, route, origin, limits.
    Admit,
    /// Connecting to a backend, waiting for its response or exchanging a request with it.
    Backend,
    /// Passing on a response whose head has been sent to the client.
    Response,
    /// After the 101 response.
    Tunnel,
}

impl ConnectionStage {
    /// The value in records and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Tls => "tls",
            Self::Head => "head",
            Self::Admit => "admit",
            Self::Backend => "backend",
            Self::Response => "response",
            Self::Tunnel => "tunnel",
        }
    }
}
