//! Generated messages and the verification of their echoes.
//!
//! All processes of this program generate the same payloads for a size, so each can verify what
//! another one sent. Two consecutive messages differ at nearly every position.

use crate::error::Error;
use crate::frame::{BINARY, HEADER_MAX, Header, mask};

/// Offset in the noise from one message to the next; odd, so that a shift by whole words is
/// detected too.
const STRIDE: usize = 13;
/// A pool keeps at least eight messages in memory.
const SIZE_MAX: usize = 16 << 20;

pub struct MessagePool {
    size: usize,
    count: usize,
    noise: Vec<u8>,
    frames: Vec<u8>,
    frame: usize,
    /// Number of frames in `frames`. Small frames are stored twice, so that no batch wraps around.
    stored: usize,
}

impl MessagePool {
    /// Masked frames, as a client sends them.
    pub fn masked(size: usize) -> Result<Self, Error> {
        Self::new(size, true)
    }

    /// Unmasked frames, as a server sends them.
    pub fn unmasked(size: usize) -> Result<Self, Error> {
        Self::new(size, false)
    }

    fn new(size: usize, masked: bool) -> Result<Self, Error> {
        if size > SIZE_MAX {
            return Err(Error::new(format!("a message of {size} bytes; at most {SIZE_MAX}")));
        }
        let count = ((256 << 10) / size.max(1)).clamp(8, 128);
        let stored = if size <= 16 << 10 { 2 * count } else { count };
        let noise = noise(size + count * STRIDE);
        let mut keys = vec![0; stored * 4];
        getrandom::fill(&mut keys)
            .map_err(|error| Error::new(format!("cannot get random bytes: {error}")))?;
        let mut frames = Vec::with_capacity(stored * (size + HEADER_MAX));
        for (index, key) in keys.as_chunks::<4>().0.iter().enumerate() {
            let header = Header::whole(BINARY, size);
            let header = if masked { header.masked(*key) } else { header };
            let (bytes, end) = header.encode();
            frames.extend_from_slice(&bytes[..end]);
            let start = frames.len();
            frames.extend_from_slice(&noise[index % count * STRIDE..][..size]);
            if masked {
                mask(&mut frames[start..], *key, 0);
            }
        }
        let frame = frames.len() / stored;
        Ok(Self { size, count, noise, frames, frame, stored })
    }

    pub fn size(&self) -> usize {
        self.size
    }

    /// Number of distinct messages; after them the sequence repeats.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Size of one frame including its header, in bytes.
    pub fn frame_bytes(&self) -> usize {
        self.frame
    }

    pub fn payload(&self, index: u64) -> &[u8] {
        &self.noise[self.slot(index) * STRIDE..][..self.size]
    }

    /// Up to `most` contiguous frames starting with message `index`, and their number.
    pub fn frames(&self, index: u64, most: usize) -> (&[u8], usize) {
        let slot = self.slot(index);
        let count = most.min(self.stored - slot);
        (&self.frames[slot * self.frame..][..count * self.frame], count)
    }

    fn slot(&self, index: u64) -> usize {
        (index % self.count as u64) as usize
    }
}

/// xorshift64* with a fixed seed.
fn noise(length: usize) -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Compares received messages, in pieces of any size, with those that were sent.
pub struct Verifier {
    next: u64,
    step: u64,
    at: usize,
}

impl Verifier {
    /// Expects every message, starting with number `next`.
    pub fn from(next: u64) -> Self {
        Self::every(next, 1)
    }

    /// Expects every `step`th message, starting with number `next`.
    pub fn every(next: u64, step: u64) -> Self {
        Self { next, step, at: 0 }
    }

    pub fn verify(&mut self, pool: &MessagePool, part: &[u8]) -> Result<(), Error> {
        let expected = pool.payload(self.next).get(self.at..self.at + part.len());
        match expected {
            Some(expected) if expected == part => {
                self.at += part.len();
                Ok(())
            }
            Some(expected) => {
                let differs = expected.iter().zip(part).take_while(|(left, right)| left == right);
                let byte = self.at + differs.count();
                Err(Error::new(format!("wrong byte: message {}, byte {byte}", self.next)))
            }
            None => Err(Error::new(format!("message {} is too long", self.next))),
        }
    }

    pub fn end_message(&mut self, pool: &MessagePool) -> Result<(), Error> {
        if self.at != pool.size() {
            let [next, at] = [self.next, self.at as u64];
            return Err(Error::new(format!("message {next} is too short: {at} bytes")));
        }
        self.next += self.step;
        self.at = 0;
        Ok(())
    }
}

/// A checksum over messages that depends on the order of their words; each message is padded with
/// zeros to whole words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum {
    low: u64,
    high: u64,
    words: u64,
    rest: [u8; 8],
    have: usize,
}

impl Checksum {
    pub fn update(&mut self, mut part: &[u8]) {
        if self.have > 0 {
            let taken = part.len().min(8 - self.have);
            self.rest[self.have..self.have + taken].copy_from_slice(&part[..taken]);
            self.have += taken;
            part = &part[taken..];
            if self.have < 8 {
                return;
            }
            self.word(u64::from_le_bytes(self.rest));
            self.have = 0;
        }
        let (words, rest) = part.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        self.rest[..rest.len()].copy_from_slice(rest);
        self.have = rest.len();
    }

    pub fn end_message(&mut self) {
        if self.have > 0 {
            self.rest[self.have..].fill(0);
            self.word(u64::from_le_bytes(self.rest));
            self.have = 0;
        }
    }

    pub fn value(&self) -> u64 {
        self.high.rotate_left(1) ^ self.low
    }

    /// Continues with the checksum `of` as if its message had been added next.
    pub fn append(&mut self, of: &Self) {
        let above = of.words.wrapping_mul(self.low);
        self.high = self.high.wrapping_add(above).wrapping_add(of.high);
        self.low = self.low.wrapping_add(of.low);
        self.words += of.words;
    }

    fn word(&mut self, word: u64) {
        self.low = self.low.wrapping_add(word);
        self.high = self.high.wrapping_add(self.low);
        self.words += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_depends_on_bytes_only() {
        let messages = [noise(1000), noise(13), noise(64)];
        let (mut whole, mut pieces) = (Checksum::default(), Checksum::default());
        for message in &messages {
            let mut one = Checksum::default();
            one.update(message);
            one.end_message();
            whole.append(&one);
            message.chunks(3).for_each(|piece| pieces.update(piece));
            pieces.end_message();
        }
        assert_eq!(whole.value(), pieces.value());
        for at in 0..1000 {
            let mut bad = messages.clone();
            bad[0][at] ^= 1;
            let mut sum = Checksum::default();
            for message in &bad {
                sum.update(message);
                sum.end_message();
            }
            assert_ne!(sum.value(), whole.value(), "byte {at}");
        }
    }

    #[test]
    fn detects_wrong_bytes_and_reordered_messages() {
        let pool = MessagePool::unmasked(125).unwrap();
        for at in 0..125 {
            let mut bad = pool.payload(0).to_vec();
            bad[at] ^= 0x80;
            assert!(Verifier::from(0).verify(&pool, &bad).is_err(), "byte {at}");
        }
        for other in 1..pool.count() as u64 {
            assert!(
                Verifier::from(0).verify(&pool, pool.payload(other)).is_err(),
                "message {other}"
            );
        }
        let mut verifier = Verifier::from(0);
        verifier.verify(&pool, &pool.payload(0)[..124]).unwrap();
        assert!(verifier.end_message(&pool).is_err(), "a byte is missing");
    }
}
