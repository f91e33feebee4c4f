//! Tests of the counter: hand-made streams, and a comparison with zlib and miniz.

use flate2::{Decompress, FlushDecompress, Status};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use super::{DeflateCounter, InvalidData};

mod blocks;
mod differential;
mod vectors;

/// RFC 7692 7.2.1: what the sender of a message omits.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Counts a whole input, in pieces of these sizes in turn.
fn count(input: &[u8], pieces: &[usize]) -> (DeflateCounter, Result<u64, InvalidData>) {
    let mut counter = DeflateCounter::new(0);
    let mut rest = input;
    for size in pieces.iter().cycle() {
        let (piece, later) = rest.split_at((*size).min(rest.len()));
        if let Err(error) = counter.add(piece) {
            return (counter, Err(error));
        }
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    let size = counter.size();
    (counter, Ok(size))
}

/// The size according to zlib. A stream that ends is followed by another.
fn zlib(mut input: &[u8]) -> Result<u64, InvalidData> {
    let mut inflater = Decompress::new(false);
    let mut output = vec![0; 64 * 1024];
    let mut size = 0;
    loop {
        let before = (inflater.total_in(), inflater.total_out());
        let status = inflater.decompress(input, &mut output, FlushDecompress::None);
        let status = status.map_err(|_| InvalidData)?;
        let consumed = (inflater.total_in() - before.0) as usize;
        let produced = inflater.total_out() - before.1;
        input = &input[consumed..];
        size += produced;
        match status {
            Status::StreamEnd if input.is_empty() => return Ok(size),
            Status::StreamEnd => inflater.reset(false),
            Status::Ok | Status::BufError if consumed == 0 && produced == 0 => return Ok(size),
            Status::Ok | Status::BufError => {}
        }
    }
}

/// The size according to miniz, which is less than `max`.
fn miniz(mut input: &[u8], max: usize) -> Result<u64, InvalidData> {
    // One buffer for all output: only then are distances checked.
    let mut output = vec![0; max];
    let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF | TINFL_FLAG_HAS_MORE_INPUT;
    let mut size = 0;
    loop {
        let mut state = Box::<DecompressorOxide>::default();
        let (status, consumed, produced) = decompress(&mut state, input, &mut output, 0, flags);
        input = &input[consumed..];
        size += produced as u64;
        if status != TINFLStatus::Done || input.is_empty() {
            let valid = matches!(status, TINFLStatus::Done | TINFLStatus::NeedsMoreInput);
            return if valid { Ok(size) } else { Err(InvalidData) };
        }
    }
}

/// Writes the bits of a stream.
#[derive(Default)]
struct BitWriter {
    bytes: Vec<u8>,
    /// Bits used of the last byte; 0 if it is full.
    used: u32,
}

impl BitWriter {
    /// Adds a number, the least significant bit first.
    fn bits(&mut self, value: u32, count: u32) -> &mut Self {
        for at in 0..count {
            if self.used == 0 {
                self.bytes.push(0);
            }
            *self.bytes.last_mut().unwrap() |= ((u64::from(value) >> at & 1) as u8) << self.used;
            self.used = (self.used + 1) % 8;
        }
        self
    }

    /// Adds a prefix code, the most significant bit first.
    fn code(&mut self, code: u32, len: u32) -> &mut Self {
        for at in (0..len).rev() {
            self.bits(code >> at & 1, 1);
        }
        self
    }

    /// Adds empty blocks, so that the end of the stream is not within a symbol.
    fn pad_with_empty_blocks(&mut self) -> &mut Self {
        for _ in 0..8 {
            self.bits(0b010, 3).bits(0, 7);
        }
        self
    }

    /// Adds whole bytes after the last bit.
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.used = 0;
        self.bytes.extend(bytes);
        self
    }

    /// Adds the header of a dynamic block with these code lengths. Each length (0 to 15) is written as its own
    /// value in four bits.
    fn dynamic(&mut self, literals: &[u8], distances: &[u8]) -> &mut Self {
        self.bits(0b100, 3);
        self.bits(literals.len() as u32 - 257, 5).bits(distances.len() as u32 - 1, 5);
        self.bits(19 - 4, 4).bits(0, 9);
        for _ in 0..16 {
            self.bits(4, 3);
        }
        for len in literals.iter().chain(distances) {
            self.code(u32::from(*len), 4);
        }
        self
    }
}
