//! Builds and parses frames by hand (RFC 6455 5.2).

pub(super) const CONTINUATION: u8 = 0x00;
pub(super) const TEXT: u8 = 0x81;
pub(super) const BINARY: u8 = 0x82;
pub(super) const TEXT_BEGIN: u8 = 0x01;
pub(super) const CONTINUATION_END: u8 = 0x80;
pub(super) const CLOSE: u8 = 0x88;
pub(super) const PING: u8 = 0x89;
pub(super) const PONG: u8 = 0x8a;

/// A frame from a backend.
pub(super) fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    [&header(first, 0, payload.len())[..], payload].concat()
}

/// A frame from a client.
pub(super) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let key = [0x11, 0x22, 0x33, payload.len() as u8];
    let payload: Vec<u8> = payload.iter().zip(key.iter().cycle()).map(|(a, b)| a ^ b).collect();
    [&header(first, 0x80, payload.len())[..], &key, &payload].concat()
}

/// The payload of a Close frame with this code.
pub(super) fn code(code: u16) -> [u8; 2] {
    code.to_be_bytes()
}

/// A parsed frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) first: u8,
    pub(super) masked: bool,
    /// The payload without its mask.
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// The code of a Close frame.
    pub(super) fn close_code(&self) -> Option<u16> {
        assert_eq!(self.first, CLOSE, "{self:?}");
        self.payload.first_chunk().copied().map(u16::from_be_bytes)
    }
}

/// Length of the rest of a header, after its first two bytes.
pub(super) fn remaining_header_len(start: [u8; 2]) -> usize {
    let length = match start[1] & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    length + if start[1] & 0x80 == 0 { 0 } else { 4 }
}

/// Length of the payload, from a complete header.
pub(super) fn payload_len(header: &[u8]) -> usize {
    match header[1] & 0x7f {
        126 => usize::from(u16::from_be_bytes([header[2], header[3]])),
        127 => u64::from_be_bytes(header[2..10].try_into().unwrap()) as usize,
        short => usize::from(short),
    }
}

/// Parses a frame from its header and payload.
pub(super) fn parse(header: &[u8], payload: &[u8]) -> Frame {
    let masked = header[1] & 0x80 != 0;
    let key = if masked { &header[header.len() - 4..] } else { &[0; 4] };
    let payload = payload.iter().zip(key.iter().cycle()).map(|(a, b)| a ^ b).collect();
    Frame { first: header[0], masked, payload }
}

/// Parses all frames; the last one must be complete.
pub(super) fn parse_all(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some(start) = bytes.first_chunk() {
        let header = 2 + remaining_header_len(*start);
        let len = payload_len(&bytes[..header]);
        frames.push(parse(&bytes[..header], &bytes[header..header + len]));
        bytes = &bytes[header + len..];
    }
    assert!(bytes.is_empty(), "{bytes:?} is an incomplete header");
    frames
}

fn header(first: u8, mask: u8, len: usize) -> Vec<u8> {
    let mut header = vec![first];
    match len {
        0..=125 => header.push(mask | len as u8),
        126..=0xffff => {
            header.push(mask | 126);
            header.extend((len as u16).to_be_bytes());
        }
        _ => {
            header.push(mask | 127);
            header.extend((len as u64).to_be_bytes());
        }
    }
    header
}
