//! A reference builder and a lenient parser of frames, which share no code with the implementation
//! under test.

use ws::Side;

/// Builds a frame of this side, masked if it is the client's.
pub fn frame(from: Side, first: u8, payload: &[u8]) -> Vec<u8> {
    frame_with_key(from, first, payload, [0x37, 0xfa, 0x21, 0x3d])
}

/// Builds a frame with this mask key, which only client frames use.
pub fn frame_with_key(from: Side, first: u8, payload: &[u8], key: [u8; 4]) -> Vec<u8> {
    let mask_bit = if from == Side::Client { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(mask_bit | len as u8),
        len @ 126..0x1_0000 => {
            bytes.push(mask_bit | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(mask_bit | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    match from {
        Side::Client => {
            bytes.extend(key);
            bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        }
        Side::Backend => bytes.extend(payload),
    }
    bytes
}

/// A frame as read by the reference parser.
#[derive(Debug, PartialEq, Eq)]
pub struct ParsedFrame {
    /// FIN, reserved bits and opcode.
    pub first: u8,
    /// Whether the frame is masked.
    pub masked: bool,
    /// The unmasked payload.
    pub payload: Vec<u8>,
}

/// The whole frames in `bytes`, and the number of bytes of a partial frame that follow. Accepts
/// every length, bit and opcode.
pub fn frames(mut bytes: &[u8]) -> (Vec<ParsedFrame>, usize) {
    let mut seen = Vec::new();
    while let Some((len, next)) = whole_frame(bytes) {
        bytes = &bytes[len..];
        seen.push(next);
    }
    (seen, bytes.len())
}

/// The length of the first frame in bytes, header included, once its header is whole.
#[allow(dead_code, reason = "not every test that shares this file needs it")]
pub fn frame_len(bytes: &[u8]) -> Option<u64> {
    let second = *bytes.get(1)?;
    let key = if second & 0x80 != 0 { 4 } else { 0 };
    Some(
        key + match second & 0x7f {
            126 => 4 + u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
            127 => 10u64.saturating_add(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
            short => 2 + u64::from(short),
        },
    )
}

fn whole_frame(bytes: &[u8]) -> Option<(usize, ParsedFrame)> {
    let masked = bytes.get(1)? & 0x80 != 0;
    let (mut at, len) = match bytes.get(1)? & 0x7f {
        126 => (4, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        short => (2, u64::from(short)),
    };
    let mut key = [0; 4];
    if masked {
        key.copy_from_slice(bytes.get(at..at + 4)?);
        at += 4;
    }
    let end = at.checked_add(usize::try_from(len).ok()?)?;
    let payload = bytes.get(at..end)?;
    let payload = payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
    Some((end, ParsedFrame { first: bytes[0], masked, payload }))
}
