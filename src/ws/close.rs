//! Close codes (RFC 6455 7.4) and the payload of a Close frame (5.5.1).

use std::fmt;

/// A status code that may stand in a Close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1001: an endpoint is going away.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1007: text that is not UTF-8.
    pub const INVALID_DATA: Self = Self(1007);
    /// 1008: the peer broke a policy.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: a message over the limit.
    pub const TOO_BIG: Self = Self(1009);
    /// 1011: the server met something it cannot go on with; here, a lost or faulty backend.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: the service restarts (IANA registry).
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: overload, try again later (IANA registry).
    pub const TRY_AGAIN_LATER: Self = Self(1013);

    /// A code that an endpoint may send: 1000 to 1014 without the reserved ones, and 3000 to 4999
    /// (RFC 6455 7.4.2 and the IANA registry).
    pub fn new(code: u16) -> Option<Self> {
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999).then_some(Self(code))
    }

    /// The number on the wire.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
