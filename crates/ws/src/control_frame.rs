//! Control frames sent by the proxy, and the payload of received Close frames (RFC 6455 5.5).

use crate::close_code::CloseCode;
use crate::entropy::Entropy;
use crate::header::{CONTROL_PAYLOAD_MAX, FIN, MASK_BIT, unmask};
use crate::protocol_error::ProtocolError;
use crate::side::Side;

/// The maximum length of the reason in a Close frame, in bytes: a control frame holds 125, and the
/// code takes two (RFC 6455 5.5).
pub const CLOSE_REASON_MAX: usize = CONTROL_PAYLOAD_MAX - 2;

/// A control frame created by the proxy, stored on the stack.
#[derive(Clone, Copy)]
pub struct ControlFrame {
    bytes: [u8; ControlFrame::LEN_MAX],
    len: u8,
}

impl ControlFrame {
    /// The maximum length of a control frame: header, mask key and 125 bytes of payload.
    pub const LEN_MAX: usize = 2 + 4 + CONTROL_PAYLOAD_MAX;

    /// The frame as it is sent.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// A Ping frame.
    pub fn ping(to: Side, payload: [u8; 8], entropy: &mut impl Entropy) -> Self {
        Self::unmasked(OPCODE_PING, &[&payload]).masked_for(to, entropy)
    }

    /// A Close frame. Without a code its payload is empty; otherwise it holds the code and the
    /// first [`CLOSE_REASON_MAX`] bytes of `reason`.
    pub fn close(
        to: Side,
        code: Option<CloseCode>,
        reason: &str,
        entropy: &mut impl Entropy,
    ) -> Self {
        let code = code.map(|code| code.get().to_be_bytes());
        let frame = match &code {
            None => Self::unmasked(OPCODE_CLOSE, &[]),
            Some(code) => Self::unmasked(OPCODE_CLOSE, &[code, reason.as_bytes()]),
        };
        frame.masked_for(to, entropy)
    }

    fn unmasked(opcode: u8, parts: &[&[u8]]) -> Self {
        let mut frame = Self { bytes: [0; Self::LEN_MAX], len: 2 };
        let target = frame.bytes.iter_mut().skip(2).take(CONTROL_PAYLOAD_MAX);
        let payload = parts.iter().copied().flatten();
        let mut len = 0;
        for (target, byte) in target.zip(payload) {
            *target = *byte;
            len += 1;
        }
        frame.bytes[0] = FIN | opcode;
        frame.bytes[1] = len;
        frame.len += len;
        frame
    }

    /// Masks a frame to a server with a new unpredictable key (RFC 6455 5.3).
    fn masked_for(mut self, to: Side, entropy: &mut impl Entropy) -> Self {
        if to == Side::Client {
            return self;
        }
        let mut key = [0; 4];
        entropy.fill(&mut key);
        let end = usize::from(self.len);
        self.bytes.copy_within(2..end, 6);
        if let Some(payload) = self.bytes.get_mut(6..end + 4) {
            unmask(payload, Some(key));
        }
        self.bytes[2..6].copy_from_slice(&key);
        self.bytes[1] |= MASK_BIT;
        self.len += 4;
        self
    }
}

/// Parses the payload of a Close frame. Returns its code, or `None` if it is empty. `key` is the
/// mask key of a masked frame.
///
/// # Errors
/// The payload is one byte long, its code must not be sent, or its reason is not UTF-8
/// (RFC 6455 5.5.1, 7.4).
pub(crate) fn parse_close_payload(
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

const OPCODE_CLOSE: u8 = 0x8;
const OPCODE_PING: u8 = 0x9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::CountingEntropy;

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
            assert_eq!(parse_close_payload(payload, None), expected);
            let mut masked = payload.to_vec();
            unmask(&mut masked, Some([1, 2, 3, 4]));
            assert_eq!(parse_close_payload(&masked, Some([1, 2, 3, 4])), expected);
        }
    }

    #[test]
    fn long_close_reason_is_truncated() {
        let reason = "x".repeat(200);
        let code = Some(CloseCode::GOING_AWAY);
        for to in Side::BOTH {
            let close = ControlFrame::close(to, code, &reason, &mut CountingEntropy::default());
            let key_len = if to == Side::Client { 0 } else { 4 };
            assert_eq!(close.as_bytes().len(), 2 + key_len + 125);
            assert_eq!(close.as_bytes()[1] & 0x7f, 125);
        }
        let empty =
            ControlFrame::close(Side::Client, None, &reason, &mut CountingEntropy::default());
        assert_eq!(empty.as_bytes(), [0x88, 0]);
    }
}
