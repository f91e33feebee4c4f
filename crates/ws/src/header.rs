//! Frame headers (RFC 6455 5.2): reading those of peers, strictly, and writing the few control
//! frames of our own. It knows one frame, never what came before it.

use super::ProtocolError;
use super::close::CloseCode;
use super::{Entropy, Side};

/// What a frame is (RFC 6455 11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpCode {
    /// 0: a further fragment of a message.
    Continuation,
    /// 1: text, whole or its first fragment.
    Text,
    /// 2: binary, likewise.
    Binary,
    /// 8: the last frame of its direction.
    Close,
    /// 9: asks for a Pong.
    Ping,
    /// 10: answers a Ping, or is just sent.
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
            // RFC 6455 5.2: the rest are reserved, and an unknown opcode fails the connection.
            _ => None,
        }
    }

    /// Whether frames of this kind stand between the fragments of a message (RFC 6455 5.4).
    pub fn is_control(self) -> bool {
        match self {
            Self::Continuation | Self::Text | Self::Binary => false,
            Self::Close | Self::Ping | Self::Pong => true,
        }
    }
}

/// A header without its mask key, which is counted to the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame is.
    pub opcode: OpCode,
    /// Whether the message ends with this frame.
    pub fin: bool,
    /// Whether it begins a compressed message (RFC 7692 6).
    pub compressed: bool,
    /// Bytes of the header: 2, 4 or 10.
    pub len: usize,
    /// Bytes of the mask key that follows: 4 from a client, 0 from a backend.
    pub key_len: usize,
    /// Bytes of the payload after that.
    pub payload_len: u64,
}

impl Header {
    /// Reads and judges the header at the start of `input`; `None`: not all of it is there.
    /// `deflate`: RSV1 was negotiated (RFC 7692).
    ///
    /// The verdict on a header is the same however its bytes are chopped: the first two bytes are
    /// judged together, then the length when it is complete.
    ///
    /// # Errors
    /// The rule that the frame breaks by itself.
    #[inline]
    pub fn parse(input: &[u8], from: Side, deflate: bool) -> Result<Option<Self>, ProtocolError> {
        let Some((&[first, second], rest)) = input.split_first_chunk::<2>() else {
            return Ok(None);
        };
        let opcode = OpCode::from_nibble(first & 0x0f).ok_or(ProtocolError::Opcode)?;
        // RFC 7692 6: RSV1 only on the first frame of a message.
        let starts = matches!(opcode, OpCode::Text | OpCode::Binary);
        let lawful = if deflate && starts { RSV1 } else { 0 };
        if first & RSV & !lawful != 0 {
            return Err(ProtocolError::Rsv);
        }
        let key_len = match (from, second & MASKED != 0) {
            (Side::Client, true) => 4,
            (Side::Backend, false) => 0,
            // RFC 6455 5.1: a client masks every frame, a server none.
            (Side::Client, false) => return Err(ProtocolError::Unmasked),
            (Side::Backend, true) => return Err(ProtocolError::Masked),
        };
        let fin = first & FIN != 0;
        let short = second & !MASKED;
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

    /// Where a frame that [`Header::parse`] condemned ends, if that can be told at all. The opcode
    /// is `None` if nothing can be made of the frame but to let it pass; then
    /// [`Header::is_control`] says which kind it would be.
    ///
    /// # Errors
    /// A length of more than 63 bits: no frame ends there.
    pub(super) fn outline(input: &[u8]) -> Result<Option<(Self, Option<OpCode>)>, ProtocolError> {
        let Some((&[first, second], rest)) = input.split_first_chunk::<2>() else {
            return Ok(None);
        };
        let short = second & !MASKED;
        let Some((payload_len, extra)) = long_length(short, rest) else {
            return Ok(None);
        };
        if payload_len > i64::MAX as u64 {
            return Err(ProtocolError::Length);
        }
        let fin = first & FIN != 0;
        let key_len = if second & MASKED == 0 { 0 } else { 4 };
        let lawful = |opcode: &OpCode| !opcode.is_control() || (fin && short <= 125);
        let opcode = OpCode::from_nibble(first & 0x0f).filter(lawful);
        let shape = opcode.unwrap_or(OpCode::Continuation);
        let len = 2 + extra;
        // Whoever takes it may well take it for what it says.
        let starts = matches!(opcode, Some(OpCode::Text | OpCode::Binary));
        let compressed = starts && first & RSV1 != 0;
        let header = Self { opcode: shape, fin, compressed, len, key_len, payload_len };
        Ok(Some((header, opcode)))
    }

    /// Whether a frame that begins so is a control frame, known or not (RFC 6455 5.5).
    pub(super) fn is_control(input: &[u8]) -> bool {
        input.first().is_some_and(|first| first & 0x08 != 0)
    }
}

/// The payload length and how many bytes beyond the first two it took.
#[inline]
fn length(short: u8, rest: &[u8]) -> Result<Option<(u64, usize)>, ProtocolError> {
    let Some((long, extra)) = long_length(short, rest) else {
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

/// The same, in whatever form it was written.
#[inline]
fn long_length(short: u8, rest: &[u8]) -> Option<(u64, usize)> {
    match short {
        126 => rest.first_chunk::<2>().map(|bytes| (u64::from(u16::from_be_bytes(*bytes)), 2)),
        127 => rest.first_chunk::<8>().map(|bytes| (u64::from_be_bytes(*bytes), 8)),
        short => Some((u64::from(short), 0)),
    }
}

/// A control frame of our own, on the stack.
#[derive(Clone, Copy)]
pub struct ControlFrame {
    bytes: [u8; ControlFrame::LEN_MAX],
    len: u8,
}

impl ControlFrame {
    /// Header, mask key and the longest payload a control frame may have.
    pub const LEN_MAX: usize = 2 + 4 + CONTROL_PAYLOAD_MAX;

    /// The frame as it goes on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// A Ping.
    pub(super) fn ping(to: Side, payload: [u8; 8], entropy: &mut impl Entropy) -> Self {
        Self::unmasked(OPCODE_PING, &[&payload]).masked_for(to, entropy)
    }

    /// A Close: empty without a code, else with the code and `reason`, of which at most 123 bytes
    /// are sent.
    pub(super) fn close(
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
        let room = frame.bytes.iter_mut().skip(2).take(CONTROL_PAYLOAD_MAX);
        let payload = parts.iter().copied().flatten();
        let mut len = 0;
        for (place, byte) in room.zip(payload) {
            *place = *byte;
            len += 1;
        }
        frame.bytes[0] = FIN | opcode;
        frame.bytes[1] = len;
        frame.len += len;
        frame
    }

    /// RFC 6455 5.3: a frame to a server is masked, with a fresh unpredictable key.
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
        self.bytes[1] |= MASKED;
        self.len += 4;
        self
    }
}

/// RFC 6455 5.3; the same operation masks and unmasks.
pub(super) fn unmask(payload: &mut [u8], key: Option<[u8; 4]>) {
    if let Some(key) = key {
        for (byte, key) in payload.iter_mut().zip(key.iter().cycle()) {
            *byte ^= key;
        }
    }
}

/// RFC 6455 5.5.
pub(super) const CONTROL_PAYLOAD_MAX: usize = 125;

const FIN: u8 = 0x80;
const RSV: u8 = 0x70;
const RSV1: u8 = 0x40;
const MASKED: u8 = 0x80;
const OPCODE_CLOSE: u8 = 0x8;
const OPCODE_PING: u8 = 0x9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{CountingEntropy, header};

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

    /// All 65,536 beginnings of a frame, against the table in RFC 6455 5.2 written out once more.
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
                let judged = Header::parse(&[first, second], from, deflate);
                assert_eq!(judged.is_ok(), known && rsv && masked && control, "{start:04x}");
            }
        }
    }

    #[test]
    fn a_reason_too_long_is_cut() {
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
