//! Frames by hand (RFC 6455 5.2).

pub(super) const CONTINUATION: u8 = 0x00;
pub(super) const TEXT: u8 = 0x81;
pub(super) const BINARY: u8 = 0x82;
pub(super) const TEXT_BEGIN: u8 = 0x01;
pub(super) const CONTINUATION_END: u8 = 0x80;
pub(super) const CLOSE: u8 = 0x88;
pub(super) const PING: u8 = 0x89;
pub(super) const PONG: u8 = 0x8a;

/// A frame as a backend sends it.
pub(super) fn bare(first: u8, payload: &[u8]) -> Vec<u8> {
    [&head(first, 0, payload.len())[..], payload].concat()
}

/// A frame as a client sends it.
pub(super) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let key = [0x11, 0x22, 0x33, payload.len() as u8];
    let payload: Vec<u8> = payload.iter().zip(key.iter().cycle()).map(|(a, b)| a ^ b).collect();
    [&head(first, 0x80, payload.len())[..], &key, &payload].concat()
}

/// The payload of a Close.
pub(super) fn code(code: u16) -> [u8; 2] {
    code.to_be_bytes()
}

/// A frame as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) first: u8,
    pub(super) masked: bool,
    /// Unmasked.
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// The code of a Close.
    pub(super) fn close_code(&self) -> Option<u16> {
        assert_eq!(self.first, CLOSE, "{self:?}");
        self.payload.first_chunk().copied().map(u16::from_be_bytes)
    }
}

/// How many bytes follow the first two of a frame before its payload.
pub(super) fn more_of_head(start: [u8; 2]) -> usize {
    let length = match start[1] & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    length + if start[1] & 0x80 == 0 { 0 } else { 4 }
}

/// The payload's length, from a whole head.
pub(super) fn payload_len(head: &[u8]) -> usize {
    match head[1] & 0x7f {
        126 => usize::from(u16::from_be_bytes([head[2], head[3]])),
        127 => u64::from_be_bytes(head[2..10].try_into().unwrap()) as usize,
        short => usize::from(short),
    }
}

/// A frame from its head and payload.
pub(super) fn read(head: &[u8], payload: &[u8]) -> Frame {
    let masked = head[1] & 0x80 != 0;
    let key = if masked { &head[head.len() - 4..] } else { &[0; 4] };
    let payload = payload.iter().zip(key.iter().cycle()).map(|(a, b)| a ^ b).collect();
    Frame { first: head[0], masked, payload }
}

/// All frames of a byte string; it must end with a whole one.
pub(super) fn read_all(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some(start) = bytes.first_chunk() {
        let head = 2 + more_of_head(*start);
        let len = payload_len(&bytes[..head]);
        frames.push(read(&bytes[..head], &bytes[head..head + len]));
        bytes = &bytes[head + len..];
    }
    assert!(bytes.is_empty(), "{bytes:?} is half a head");
    frames
}

fn head(first: u8, mask: u8, len: usize) -> Vec<u8> {
    let mut head = vec![first];
    match len {
        0..=125 => head.push(mask | len as u8),
        126..=0xffff => {
            head.push(mask | 126);
            head.extend((len as u16).to_be_bytes());
        }
        _ => {
            head.push(mask | 127);
            head.extend((len as u64).to_be_bytes());
        }
    }
    head
}
