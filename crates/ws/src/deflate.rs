//! Counts the output of DEFLATE streams (RFC 1951) without producing it: the size is the sum of the
//! literals and match lengths, so neither the window nor the output is kept.

mod bit_buffer;
mod codes;
mod huffman;

use bit_buffer::BitBuffer;
use codes::{BlockCodes, DynamicCodes};
pub(crate) use huffman::InvalidData;

/// Counts the output of a sequence of DEFLATE streams. Input may arrive in pieces of any size.
///
/// Data is valid where zlib accepts it. It takes about 100 bytes, and 7 KiB from the first block with
/// codes of its own.
#[derive(Debug)]
pub(crate) struct DeflateCounter {
    state: State,
    buffer: BitBuffer,
    /// The block in progress is the last of its stream.
    is_last: bool,
    /// Bytes of output to which a match may refer; larger than the window in a long stream.
    history: u64,
    /// Bytes of output.
    size: u64,
    /// Blocks with codes of their own.
    dynamic_blocks: u64,
    dynamic: Option<Box<DynamicCodes>>,
}

/// What the next bits are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The header of a block.
    BlockHeader,
    /// The length of a stored block.
    StoredLen,
    /// This many bytes of a stored block.
    Stored(u16),
    /// The numbers of codes of a dynamic block.
    Counts,
    /// The lengths of the codes of lengths.
    CodeLengths,
    /// The lengths of codes.
    Lengths,
    /// Symbols in the codes that all streams share.
    FixedSymbols,
    /// Symbols in the codes of the block.
    DynamicSymbols,
}

/// Whether decoding can continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Continue,
    NeedsInput,
}

impl DeflateCounter {
    /// A counter at the start of a block. `history`: bytes of earlier output of the same stream, to
    /// which a match may refer.
    pub(crate) fn new(history: u16) -> Self {
        Self {
            state: State::BlockHeader,
            buffer: BitBuffer::default(),
            is_last: false,
            history: u64::from(history),
            size: 0,
            dynamic_blocks: 0,
            dynamic: None,
        }
    }

    /// The bytes of output so far. After an error: the output up to the invalid data.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The blocks with codes of their own so far. Each costs time for its tables.
    pub(crate) fn dynamic_blocks(&self) -> u64 {
        self.dynamic_blocks
    }

    /// Bytes of output to which the next block may refer, at most [`WINDOW`].
    pub(crate) fn history(&self) -> u16 {
        self.history.min(u64::from(WINDOW)) as u16
    }

    /// Whether the input ended with a block, and that with a byte.
    pub(crate) fn is_at_block_boundary(&self) -> bool {
        self.state == State::BlockHeader && self.buffer.count() == 0
    }

    /// Decodes the next bytes of input.
    ///
    /// # Errors
    /// The input is invalid. It must not be continued then.
    pub(crate) fn add(&mut self, mut input: &[u8]) -> Result<(), InvalidData> {
        while self.step(&mut input)? == Progress::Continue {}
        Ok(())
    }

    fn step(&mut self, input: &mut &[u8]) -> Result<Progress, InvalidData> {
        self.buffer.refill(input);
        let next = match self.state {
            State::BlockHeader => self.block_header()?,
            State::StoredLen => self.stored_len()?,
            State::Stored(len) => Some(self.stored(len, input)),
            State::Counts => {
                let dynamic = self.dynamic.get_or_insert_with(DynamicCodes::new);
                dynamic.read_counts(&mut self.buffer)?.then_some(State::CodeLengths)
            }
            State::CodeLengths => {
                let dynamic = self.dynamic.get_or_insert_with(DynamicCodes::new);
                dynamic.read_code_lengths(&mut self.buffer, input)?.then_some(State::Lengths)
            }
            State::Lengths => {
                let dynamic = self.dynamic.get_or_insert_with(DynamicCodes::new);
                let complete = dynamic.read_lengths(&mut self.buffer, input)?;
                self.dynamic_blocks += u64::from(complete);
                complete.then_some(State::DynamicSymbols)
            }
            State::FixedSymbols | State::DynamicSymbols => self.symbols(input)?,
        };
        match next {
            Some(State::Stored(len)) if len > 0 && input.is_empty() && self.buffer.count() == 0 => {
                self.state = State::Stored(len);
                Ok(Progress::NeedsInput)
            }
            Some(state) => {
                self.state = state;
                Ok(Progress::Continue)
            }
            None => Ok(Progress::NeedsInput),
        }
    }

    /// RFC 1951 3.2.3
    fn block_header(&mut self) -> Result<Option<State>, InvalidData> {
        let Some(header) = self.buffer.take(3) else { return Ok(None) };
        self.is_last = header & 1 != 0;
        match header >> 1 {
            0 => {
                self.buffer.align();
                Ok(Some(State::StoredLen))
            }
            1 => Ok(Some(State::FixedSymbols)),
            2 => Ok(Some(State::Counts)),
            _ => Err(InvalidData),
        }
    }

    /// RFC 1951 3.2.4
    fn stored_len(&mut self) -> Result<Option<State>, InvalidData> {
        let Some(lens) = self.buffer.take(32) else { return Ok(None) };
        let (len, complement) = (lens as u16, (lens >> 16) as u16);
        if len != !complement {
            return Err(InvalidData);
        }
        Ok(Some(State::Stored(len)))
    }

    fn stored(&mut self, len: u16, input: &mut &[u8]) -> State {
        let taken = self.buffer.skip_bytes(len, input);
        self.add_output(u64::from(taken));
        if taken < len { State::Stored(len - taken) } else { self.end_block() }
    }

    /// Decodes literals and matches (RFC 1951 3.2.5) up to the end of the block. Returns `None` if
    /// the input ends before; the bits of an incomplete match stay in the buffer.
    fn symbols(&mut self, input: &mut &[u8]) -> Result<Option<State>, InvalidData> {
        let codes = match &self.dynamic {
            Some(dynamic) if self.state == State::DynamicSymbols => dynamic.codes(),
            Some(_) | None => BlockCodes::fixed(),
        };
        let mut output = 0;
        let result = decode_symbols(codes, &mut self.buffer, input, self.history, &mut output);
        self.add_output(output);
        Ok(result?.then(|| self.end_block()))
    }

    fn end_block(&mut self) -> State {
        if self.is_last {
            // RFC 7692 7.2.3.4: another stream follows, at the next byte and with an empty window.
            self.buffer.align();
            self.history = 0;
        }
        State::BlockHeader
    }

    fn add_output(&mut self, bytes: u64) {
        self.size += bytes;
        self.history += bytes;
    }
}

/// Decodes symbols, and adds the bytes that they stand for to `output`. Returns whether the block has
/// ended; otherwise the input has.
fn decode_symbols(
    codes: &BlockCodes,
    buffer: &mut BitBuffer,
    input: &mut &[u8],
    history: u64,
    output: &mut u64,
) -> Result<bool, InvalidData> {
    loop {
        if buffer.count() < MATCH_BITS_MAX {
            buffer.refill(input);
        }
        let mut next = *buffer;
        let Some(symbol) = codes.literals.decode(&mut next)? else { return Ok(false) };
        if symbol.is_literal() {
            *buffer = next;
            *output += 1;
            continue;
        }
        if symbol.is_end() {
            *buffer = next;
            return Ok(true);
        }
        if symbol.is_reserved() {
            return Err(InvalidData);
        }
        let Some(extra) = next.take(symbol.extra_bits()) else { return Ok(false) };
        let len = u64::from(symbol.base() + extra);
        let Some(symbol) = codes.distances.decode(&mut next)? else { return Ok(false) };
        if symbol.is_reserved() {
            return Err(InvalidData);
        }
        let Some(extra) = next.take(symbol.extra_bits()) else { return Ok(false) };
        if u64::from(symbol.base() + extra) > history + *output {
            return Err(InvalidData);
        }
        *buffer = next;
        *output += len;
    }
}

/// The size of the window (RFC 1951 2).
pub(crate) const WINDOW: u16 = 1 << 15;

/// Bits of the longest match: a length with 5 extra bits and a distance with 13.
const MATCH_BITS_MAX: u32 = 15 + 5 + 15 + 13;

#[cfg(test)]
mod tests;
