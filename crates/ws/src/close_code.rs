//! Close codes (RFC 6455 7.4).

use std::fmt;

/// A status code that may appear in a Close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: an endpoint is going away.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer violated the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1007: the payload is invalid, for example not UTF-8.
    pub const INVALID_DATA: Self = Self(1007);
    /// 1008: the peer violated a policy.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: a message exceeds the size limit.
    pub const TOO_BIG: Self = Self(1009);
    /// 1012: the service restarts, so that clients reconnect (IANA registry).
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: the service cannot serve this client now, for example because it is overloaded; clients
    /// try again later (IANA registry).
    pub const TRY_AGAIN_LATER: Self = Self(1013);

    /// The code if an endpoint may send it: 1000 to 1014 except the reserved ones, and 3000 to 4999
    /// (RFC 6455 7.4.2 and the IANA registry).
    pub fn new(code: u16) -> Option<Self> {
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999).then_some(Self(code))
    }

    /// The number sent in a Close frame.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// 1005: the code that records and metrics show for a Close frame without a code. It is never sent
/// (RFC 6455 7.4.1).
pub(crate) const NO_STATUS: u16 = 1005;

#[cfg(test)]
mod tests {
    use super::*;

    // Requirements: F15, F16.
    #[test]
    fn accepts_only_codes_that_may_be_sent() {
        for code in 0..=u16::MAX {
            let valid = (1000..=1014).contains(&code) && !(1004..=1006).contains(&code)
                || (3000..5000).contains(&code);
            assert_eq!(CloseCode::new(code).map(CloseCode::get), valid.then_some(code));
        }
    }
}
