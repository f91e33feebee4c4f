//! Close codes (RFC 6455 7.4) and the payload of a Close frame (5.5.1).

use std::fmt;

use super::ProtocolError;
use super::header::{CONTROL_PAYLOAD_MAX, unmask};

/// Longest reason in a Close frame, in bytes: a control frame holds 125, and its code takes two
/// (RFC 6455 5.5).
pub const CLOSE_REASON_MAX: usize = CONTROL_PAYLOAD_MAX - 2;

/// A status code that may stand in a Close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
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

/// The code in a Close frame's payload, `None` if it is empty; `key` is the mask key of a masked
/// one.
///
/// # Errors
/// The payload is one byte long, its code may not be sent, or its reason is not UTF-8
/// (RFC 6455 5.5.1, 7.4).
pub(super) fn read_payload(
    payload: &[u8],
    key: Option<[u8; 4]>,
) -> Result<Option<CloseCode>, ProtocolError> {
    let mut copy = [0; CONTROL_PAYLOAD_MAX];
    let Some(clear) = copy.get_mut(..payload.len()) else {
        return Err(ProtocolError::ControlTooLong);
    };
    clear.copy_from_slice(payload);
    unmask(clear, key);
    let Some((&code, reason)) = clear.split_first_chunk::<2>() else {
        return if clear.is_empty() { Ok(None) } else { Err(ProtocolError::CloseLength) };
    };
    let code = CloseCode::new(u16::from_be_bytes(code)).ok_or(ProtocolError::CloseCode)?;
    match std::str::from_utf8(reason) {
        Ok(_) => Ok(Some(code)),
        Err(_) => Err(ProtocolError::CloseReason),
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// 1005: what a record says of a Close frame without a code; never on the wire (7.4.1).
pub(super) const NO_CODE: u16 = 1005;

#[cfg(test)]
mod tests {
    use super::*;

    // Requirements: F15, F16.
    #[test]
    fn valid_close_codes() {
        for code in 0..=u16::MAX {
            let lawful = (1000..=1014).contains(&code) && !(1004..=1006).contains(&code)
                || (3000..5000).contains(&code);
            assert_eq!(CloseCode::new(code).map(CloseCode::get), lawful.then_some(code));
        }
    }

    // Requirements: F14.
    #[test]
    fn close_payload_rules() {
        let code = |code| Ok(CloseCode::new(code));
        for (payload, expected) in [
            (&b""[..], Ok(None)),
            (b"\x03", Err(ProtocolError::CloseLength)),
            (b"\x03\xe8", code(1000)),
            (b"\x0f\xa0bye", code(4000)),
            (b"\x03\xe8\xf0\x9f\x8c\x8a", code(1000)),
            (b"\x03\xe8\xf0\x9f\x8c", Err(ProtocolError::CloseReason)),
            (b"\x03\xee", Err(ProtocolError::CloseCode)),
            (&[b'x'; 126], Err(ProtocolError::ControlTooLong)),
        ] {
            assert_eq!(read_payload(payload, None), expected);
            let mut masked = payload.to_vec();
            unmask(&mut masked, Some([1, 2, 3, 4]));
            assert_eq!(read_payload(&masked, Some([1, 2, 3, 4])), expected);
        }
    }
}
