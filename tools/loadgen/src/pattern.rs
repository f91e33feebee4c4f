//! Messages made once and sent many times, and how their echoes are checked.
//!
//! All processes of this program make the same payloads for a size, so that one can check what the
//! other sends. Any two messages that follow each other differ at nearly every position.

use crate::fail::Fail;
use crate::frame::{BINARY, HEADER_MAX, Header, mask};

/// How far into the block of noise the next message begins; odd, so that a shift by whole words
/// is seen as well.
const STRIDE: usize = 13;

pub struct Pool {
    size: usize,
    count: usize,
    noise: Vec<u8>,
    frames: Vec<u8>,
    frame: usize,
    /// How many frames stand in `frames`: small ones twice, so that a batch need not be cut.
    stored: usize,
}

impl Pool {
    /// Frames as a client sends them.
    pub fn masked(size: usize) -> Result<Self, Fail> {
        Self::new(size, true)
    }

    /// Frames as a server sends them.
    pub fn bare(size: usize) -> Result<Self, Fail> {
        Self::new(size, false)
    }

    fn new(size: usize, masked: bool) -> Result<Self, Fail> {
        let count = ((256 << 10) / size.max(1)).clamp(8, 128);
        let stored = if size <= 16 << 10 { 2 * count } else { count };
        let noise = noise(size + count * STRIDE);
        let mut keys = vec![0; stored * 4];
        getrandom::fill(&mut keys).map_err(|error| Fail::new(format!("no randomness: {error}")))?;
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

    /// How many messages there are before they come again.
    pub fn count(&self) -> usize {
        self.count
    }

    /// What one frame takes on the wire.
    pub fn frame_bytes(&self) -> usize {
        self.frame
    }

    pub fn payload(&self, index: u64) -> &[u8] {
        &self.noise[self.slot(index) * STRIDE..][..self.size]
    }

    /// At most `most` frames from the message `index` on, side by side, and how many they are.
    pub fn frames(&self, index: u64, most: usize) -> (&[u8], usize) {
        let slot = self.slot(index);
        let count = most.min(self.stored - slot);
        (&self.frames[slot * self.frame..][..count * self.frame], count)
    }

    fn slot(&self, index: u64) -> usize {
        (index % self.count as u64) as usize
    }
}

/// xorshift64*, seeded the same everywhere.
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

/// Holds messages that arrive, in whatever pieces, to those that were sent.
pub struct Check {
    next: u64,
    step: u64,
    at: usize,
}

impl Check {
    /// The first message to come is that with this number.
    pub fn from(next: u64) -> Self {
        Self::every(next, 1)
    }

    /// Only every `step`th is to come.
    pub fn every(next: u64, step: u64) -> Self {
        Self { next, step, at: 0 }
    }

    pub fn part(&mut self, pool: &Pool, part: &[u8]) -> Result<(), Fail> {
        let expected = pool.payload(self.next).get(self.at..self.at + part.len());
        match expected {
            Some(expected) if expected == part => {
                self.at += part.len();
                Ok(())
            }
            Some(expected) => {
                let differs = expected.iter().zip(part).take_while(|(left, right)| left == right);
                let byte = self.at + differs.count();
                Err(Fail::new(format!("wrong byte: message {}, byte {byte}", self.next)))
            }
            None => Err(Fail::new(format!("message {} is too long", self.next))),
        }
    }

    pub fn whole(&mut self, pool: &Pool) -> Result<(), Fail> {
        if self.at != pool.size() {
            let [next, at] = [self.next, self.at as u64];
            return Err(Fail::new(format!("message {next} ends after {at} bytes")));
        }
        self.next += self.step;
        self.at = 0;
        Ok(())
    }
}

/// A sum over messages that depends on the order of their words; each message is filled up with
/// zeros to whole words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    low: u64,
    high: u64,
    words: u64,
    rest: [u8; 8],
    have: usize,
}

impl Sum {
    pub fn part(&mut self, mut part: &[u8]) {
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

    pub fn end(&mut self) {
        if self.have > 0 {
            self.rest[self.have..].fill(0);
            self.word(u64::from_le_bytes(self.rest));
            self.have = 0;
        }
    }

    pub fn value(&self) -> u64 {
        self.high.rotate_left(1) ^ self.low
    }

    /// As if a message with the sum `of` had come after all so far.
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
    fn a_sum_is_the_same_however_it_is_made_but_not_for_other_bytes() {
        let messages = [noise(1000), noise(13), noise(64)];
        let (mut whole, mut pieces) = (Sum::default(), Sum::default());
        for message in &messages {
            let mut one = Sum::default();
            one.part(message);
            one.end();
            whole.append(&one);
            message.chunks(3).for_each(|piece| pieces.part(piece));
            pieces.end();
        }
        assert_eq!(whole.value(), pieces.value());
        for at in 0..1000 {
            let mut bad = messages.clone();
            bad[0][at] ^= 1;
            let mut sum = Sum::default();
            for message in &bad {
                sum.part(message);
                sum.end();
            }
            assert_ne!(sum.value(), whole.value(), "byte {at}");
        }
    }

    #[test]
    fn every_wrong_byte_and_every_message_out_of_turn_is_seen() {
        let pool = Pool::bare(125).unwrap();
        for at in 0..125 {
            let mut bad = pool.payload(0).to_vec();
            bad[at] ^= 0x80;
            assert!(Check::from(0).part(&pool, &bad).is_err(), "byte {at}");
        }
        for other in 1..pool.count() as u64 {
            assert!(Check::from(0).part(&pool, pool.payload(other)).is_err(), "message {other}");
        }
        let mut check = Check::from(0);
        check.part(&pool, &pool.payload(0)[..124]).unwrap();
        assert!(check.whole(&pool).is_err(), "a byte is missing");
    }
}
