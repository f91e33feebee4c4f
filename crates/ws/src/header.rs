//! Frame headers (RFC 6455 5.2), parsed one at a time: rules that involve preceding frames are
//! checked by the meter.

use crate::protocol_error::ProtocolError;
use crate::side::Side;

/// The opcode of a frame (RFC 6455 11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpCode {
    /// 0: a further fragment of a message.
    Continuation,
    /// 1: a text message or its first fragment.
    Text,
    /// 2: a binary message or its first fragment.
    Binary,
    /// 8: the last frame of its direction.
    Close,
    /// 9: requests a Pong.
    Ping,
    /// 10: answers a Ping, or is sent unsolicited.
    Pong,
}

impl OpCode {
    fn from_nibble(nibble: u8) -> Option<Self> {
        match nibble {
            0 => Some(Self::Continuation),
            1 => Some(Self::Text),
            2 => Some(Self::Binary),
            8 => Some(Self::Close),
            9 => Some(Self::Ping),
            10 => Some(Self::Pong),
            // RFC 6455 5.2: the rest are reserved; an unknown opcode fails the connection.
            _ => None,
        }
    }

    /// Whether this is a control frame, which may occur between the fragments of a message
    /// (RFC 6455 5.4).
    pub fn is_control(self) -> bool {
        match self {
            Self::Continuation | Self::Text | Self::Binary => false,
            Self::Close | Self::Ping | Self::Pong => true,
        }
    }
}

/// A frame header without the mask key, which is counted as part of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The kind of frame.
    pub opcode: OpCode,
    /// Whether this frame is the last of its message.
    pub fin: bool,
    /// Whether this frame starts a compressed message (RFC 7692 6).
    pub compressed: bool,
    /// Length of the header in bytes: 2, 4 or 10.
    pub len: usize,
    /// Length of the mask key in bytes: 4 from a client, 0 from a backend.
    pub key_len: usize,
    /// Length of the payload in bytes.
    pub payload_len: u64,
}

impl Header {
    /// Parses and validates the header at the start of `input`. Returns `None` if `input` does not
    /// contain all of it. `deflate` tells whether RSV1 was negotiated (RFC 7692).
    ///
    /// The result does not depend on how the input is split: the first two bytes are validated
    /// together, then the length once it is complete.
    ///
    /// # Errors
    /// The header violates the protocol, regardless of preceding frames.
    #[inline]
    pub fn parse(input: &[u8], from: Side, deflate: bool) -> Result<Option<Self>, ProtocolError> {
        let Some((&[first, second], rest)) = input.split_first_chunk::<2>() else {
            return Ok(None);
        };
        let opcode = OpCode::from_nibble(first & 0x0f).ok_or(ProtocolError::Opcode)?;
        // RFC 7692 6: RSV1 only on the first frame of a message.
        let starts = matches!(opcode, OpCode::Text | OpCode::Binary);
        let allowed = if deflate && starts { RSV1 } else { 0 };
        if first & RSV & !allowed != 0 {
            return Err(ProtocolError::Rsv);
        }
        let key_len = match (from, second & MASK_BIT != 0) {
            (Side::Client, true) => 4,
            (Side::Backend, false) => 0,
            // RFC 6455 5.1: a client masks every frame, a server none.
            (Side::Client, false) => return Err(ProtocolError::Unmasked),
            (Side::Backend, true) => return Err(ProtocolError::Masked),
        };
        let fin = first & FIN != 0;
        let short = second & !MASK_BIT;
        if opcode.is_control() {
            // RFC 6455 5.5
            if !fin {
                return Err(ProtocolError::ControlFragmented);
            }
            if short > 125 {
                return Err(ProtocolError::ControlTooLong);
            }
        }
        let Some((payload_len, extra)) = length(short, rest)? else {
            return Ok(None);
        };
        let compressed = first & RSV1 != 0;
        Ok(Some(Self { opcode, fin, compressed, len: 2 + extra, key_len, payload_len }))
    }

    /// Parses the header without validating it, to find the end of a frame that
    /// [`Header::parse`] rejected. The second value is `None` if the frame cannot be interpreted, only
    /// forwarded; [`Header::opcode`] is then a placeholder that only tells control frames from data
    /// frames. Returns `None` if the header is
    /// incomplete.
    ///
    /// # Errors
    /// The length exceeds 63 bits, so the end of the frame is unknown.
    pub(crate) fn parse_unchecked(
        input: &[u8],
    ) -> Result<Option<(Self, Option<OpCode>)>, ProtocolError> {
        let Some((&[first, second], rest)) = input.split_first_chunk::<2>() else {
            return Ok(None);
        };
        let short = second & !MASK_BIT;
        let Some((payload_len, extra)) = unchecked_length(short, rest) else {
            return Ok(None);
        };
        if payload_len > i64::MAX as u64 {
            return Err(ProtocolError::Length);
        }
        let fin = first & FIN != 0;
        let key_len = if second & MASK_BIT == 0 { 0 } else { 4 };
        let valid = |opcode: &OpCode| !opcode.is_control() || (fin && short <= 125);
        let opcode = OpCode::from_nibble(first & 0x0f).filter(valid);
        let assumed = opcode.unwrap_or(OpCode::Continuation);
        let len = 2 + extra;
        // The receiver may interpret RSV1 even if it is invalid here.
        let starts = matches!(opcode, Some(OpCode::Text | OpCode::Binary));
        let compressed = starts && first & RSV1 != 0;
        let header = Self { opcode: assumed, fin, compressed, len, key_len, payload_len };
        Ok(Some((header, opcode)))
    }

    /// Whether a frame that starts with `input` has the opcode of a Close.
    pub(crate) fn is_close(input: &[u8]) -> bool {
        input.first().is_some_and(|first| first & 0x0f == 0x08)
    }

    /// Whether a frame that starts with `input` has a control opcode, defined or reserved
    /// (RFC 6455 5.5).
    pub(crate) fn is_control(input: &[u8]) -> bool {
        input.first().is_some_and(|first| first & 0x08 != 0)
    }
}

/// The payload length, and the length of its encoding after the first two bytes.
#[inline]
fn length(short: u8, rest: &[u8]) -> Result<Option<(u64, usize)>, ProtocolError> {
    let Some((long, extra)) = unchecked_length(short, rest) else {
        return Ok(None);
    };
    let least = match short {
        126 => 126,
        127 => 0x1_0000,
        _ => 0,
    };
    // RFC 6455 5.2: the shortest form, and the top bit of the longest is zero.
    if long < least || long > i64::MAX as u64 {
        return Err(ProtocolError::Length);
    }
    Ok(Some((long, extra)))
}

/// The payload length in any encoding, shortest or not.
#[inline]
fn unchecked_length(short: u8, rest: &[u8]) -> Option<(u64, usize)> {
    match short {
        126 => rest.first_chunk::<2>().map(|bytes| (u64::from(u16::from_be_bytes(*bytes)), 2)),
        127 => rest.first_chunk::<8>().map(|bytes| (u64::from_be_bytes(*bytes), 8)),
        short => Some((u64::from(short), 0)),
    }
}

/// Applies the mask key in place (RFC 6455 5.3). The same operation masks and unmasks.
pub(crate) fn unmask(payload: &mut [u8], key: Option<[u8; 4]>) {
    if let Some(key) = key {
        // In words, which the compiler turns into vectors.
        for word in payload.chunks_mut(4) {
            for (byte, key) in word.iter_mut().zip(key) {
                *byte ^= key;
            }
        }
    }
}

/// Maximum payload of a control frame in bytes (RFC 6455 5.5).
pub(crate) const CONTROL_PAYLOAD_MAX: usize = 125;

pub(crate) const FIN: u8 = 0x80;
const RSV: u8 = 0x70;
const RSV1: u8 = 0x40;
pub(crate) const MASK_BIT: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::header;

    // Requirements: F7.
    #[test]
    fn payload_length_boundaries() {
        for (payload_len, len) in
            [(0, 2), (125, 2), (126, 4), (0xffff, 4), (0x1_0000, 10), (i64::MAX as u64, 10)]
        {
            for (from, key_len) in [(Side::Client, 4), (Side::Backend, 0)] {
                let bytes = header(from, 0x82, payload_len);
                assert_eq!(bytes.len(), len);
                let (opcode, fin, compressed) = (OpCode::Binary, true, false);
                let expected = Header { opcode, fin, compressed, len, key_len, payload_len };
                assert_eq!(Header::parse(&bytes, from, false), Ok(Some(expected)));
                for short in 0..len {
                    assert_eq!(Header::parse(&bytes[..short], from, false), Ok(None));
                }
            }
        }
    }

    /// Checks all 65,536 pairs of first bytes against an independent statement of RFC 6455 5.2.
    // Requirements: F1, F2, F5, F6, F8.
    #[test]
    fn judges_every_pair_of_first_bytes() {
        for start in 0..=u16::MAX {
            let [first, second] = start.to_be_bytes();
            for (from, deflate) in
                [(Side::Client, false), (Side::Client, true), (Side::Backend, true)]
            {
                let (opcode, rsv) = (first & 15, first >> 4 & 7);
                let known = [0, 1, 2, 8, 9, 10].contains(&opcode);
                let rsv = rsv == 0 || (rsv == 4 && deflate && (opcode == 1 || opcode == 2));
                let masked = (second > 127) == (from == Side::Client);
                let control = opcode < 8 || (first > 127 && second & 127 < 126);
                let result = Header::parse(&[first, second], from, deflate);
                assert_eq!(result.is_ok(), known && rsv && masked && control, "{start:04x}");
            }
        }
    }
}
