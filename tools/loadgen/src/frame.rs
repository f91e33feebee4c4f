//! RFC 6455 framing, independent of tidegate's, so that a bug there cannot hide here.

use crate::error::Error;

pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// The longest header in bytes: 2, 8 of length, 4 of mask.
pub const HEADER_MAX: usize = 14;

#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub fin: bool,
    pub opcode: u8,
    pub length: u64,
    pub mask: Option<[u8; 4]>,
}

impl Header {
    pub fn whole(opcode: u8, length: usize) -> Self {
        Self { fin: true, opcode, length: length as u64, mask: None }
    }

    pub fn masked(self, mask: [u8; 4]) -> Self {
        Self { mask: Some(mask), ..self }
    }

    /// The encoded header and its length in bytes.
    pub fn encode(&self) -> ([u8; HEADER_MAX], usize) {
        let mut bytes = [0; HEADER_MAX];
        bytes[0] = u8::from(self.fin) << 7 | self.opcode;
        let mut end = match self.length {
            0..126 => {
                bytes[1] = self.length as u8;
                2
            }
            126..=0xffff => {
                bytes[1] = 126;
                bytes[2..4].copy_from_slice(&(self.length as u16).to_be_bytes());
                4
            }
            _ => {
                bytes[1] = 127;
                bytes[2..10].copy_from_slice(&self.length.to_be_bytes());
                10
            }
        };
        if let Some(mask) = self.mask {
            bytes[1] |= 0x80;
            bytes[end..end + 4].copy_from_slice(&mask);
            end += 4;
        }
        (bytes, end)
    }

    fn control(&self) -> bool {
        self.opcode >= CLOSE
    }

    /// Decodes a header and its length in bytes; `None` if it is incomplete (RFC 6455 5.2).
    fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, Error> {
        let [first, second, ..] = *bytes else { return Ok(None) };
        let (short, masked) = (second & 0x7f, second & 0x80 != 0);
        let at = match short {
            126 => 4,
            127 => 10,
            0..126 | 128.. => 2,
        };
        let end = at + if masked { 4 } else { 0 };
        if bytes.len() < end {
            return Ok(None);
        }
        let length = match short {
            0..126 | 128.. => u64::from(short),
            126 | 127 => bytes[2..at].iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)),
        };
        let mask = masked.then(|| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let header = Self { fin: first & 0x80 != 0, opcode: first & 0x0f, length, mask };
        let known = matches!(header.opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG);
        if first & 0x70 != 0 || !known {
            return Err(Error::new(format!("received a frame with first byte {first:#04x}")));
        }
        if header.control() && (!header.fin || header.length > 125) {
            return Err(Error::new("received a fragmented or too long control frame"));
        }
        Ok(Some((header, end)))
    }
}

/// One step of a [`Reader`].
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// A complete header was consumed.
    Header(Header),
    /// Payload bytes were consumed; `end` marks the last ones of the frame.
    Payload { end: bool },
}

/// An incremental frame parser; does not buffer payloads.
#[derive(Default)]
pub struct Reader {
    head: [u8; HEADER_MAX],
    have: usize,
    left: Option<u64>,
}

impl Reader {
    /// Consumes the next header or payload piece of `bytes`. Returns the number of consumed bytes
    /// and what they are, or `None` if more bytes are needed.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Option<(usize, Step)>, Error> {
        let Some(left) = self.left else { return self.head(bytes) };
        if bytes.is_empty() && left > 0 {
            return Ok(None);
        }
        let used = left.min(bytes.len() as u64);
        let end = used == left;
        self.left = (!end).then_some(left - used);
        Ok(Some((used as usize, Step::Payload { end })))
    }

    fn head(&mut self, bytes: &[u8]) -> Result<Option<(usize, Step)>, Error> {
        if self.have == 0
            && let Some((header, used)) = Header::decode(bytes)?
        {
            self.left = Some(header.length);
            return Ok(Some((used, Step::Header(header))));
        }
        // An incomplete header is kept until the rest arrives.
        let before = self.have;
        for &byte in bytes {
            self.head[self.have] = byte;
            self.have += 1;
            if let Some((header, _)) = Header::decode(&self.head[..self.have])? {
                let used = self.have - before;
                self.have = 0;
                self.left = Some(header.length);
                return Ok(Some((used, Step::Header(header))));
            }
        }
        Ok(None)
    }
}

/// Masks or unmasks in place, eight bytes at a time; `at` is the offset of `bytes` in the payload.
pub fn mask(bytes: &mut [u8], key: [u8; 4], at: u64) {
    let mut turned = [0; 8];
    for (index, byte) in turned.iter_mut().enumerate() {
        *byte = key[(at as usize + index) % 4];
    }
    let word = u64::from_ne_bytes(turned);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for chunk in words {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(turned) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The frames a reader finds when it receives `bytes` in pieces of `step` bytes.
    fn found(bytes: &[u8], step: usize) -> Vec<(u8, u64, Vec<u8>)> {
        let (mut reader, mut frames) = (Reader::default(), Vec::new());
        for mut piece in bytes.chunks(step) {
            while let Some((used, step)) = reader.step(piece).unwrap() {
                match step {
                    Step::Header(head) => frames.push((head.opcode, head.length, Vec::new())),
                    Step::Payload { .. } => {
                        frames.last_mut().unwrap().2.extend_from_slice(&piece[..used]);
                    }
                }
                piece = &piece[used..];
            }
        }
        frames
    }

    #[test]
    fn finds_frames_in_pieces_of_any_size() {
        let mut bytes = Vec::new();
        let mut sent = Vec::new();
        for length in [0, 1, 125, 126, 127, 65_535, 65_536] {
            let (head, end) = Header::whole(BINARY, length).masked([1, 2, 3, 4]).encode();
            bytes.extend_from_slice(&head[..end]);
            bytes.resize(bytes.len() + length, 7);
            sent.push((BINARY, length as u64, vec![7; length]));
        }
        for step in [1, 2, 3, 5, 13, 14, 15, 1000, bytes.len()] {
            assert_eq!(found(&bytes, step), sent, "in steps of {step}");
        }
    }

    #[test]
    fn mask_continues_at_any_offset() {
        let key = [0x11, 0x22, 0x44, 0x88];
        for cut in 0..40 {
            let mut bytes: Vec<u8> = (0..40).collect();
            let (left, right) = bytes.split_at_mut(cut);
            mask(left, key, 0);
            mask(right, key, cut as u64);
            let by_byte: Vec<u8> = (0..40).map(|at| at as u8 ^ key[at % 4]).collect();
            assert_eq!(bytes, by_byte, "cut at {cut}");
        }
    }
}
