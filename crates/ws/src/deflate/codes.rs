//! The codes of a block: those of RFC 1951 3.2.6, or those that a block defines itself (3.2.7).

use std::sync::LazyLock;

use super::bit_buffer::BitBuffer;
use super::huffman::{HuffmanTable, InvalidData, Symbol};

/// The codes of literals and match lengths, and of match distances.
#[derive(Debug)]
pub(super) struct BlockCodes {
    pub(super) literals: HuffmanTable<1024, 288>,
    pub(super) distances: HuffmanTable<256, 32>,
}

impl BlockCodes {
    const EMPTY: Self = Self { literals: HuffmanTable::new(), distances: HuffmanTable::new() };

    /// The codes of RFC 1951 3.2.6.
    pub(super) fn fixed() -> &'static Self {
        &FIXED
    }
}

/// The codes of one block after another, while and after they are read. About 7 KiB.
#[derive(Debug)]
pub(super) struct DynamicCodes {
    /// Until all lengths are read, `distances` holds the code of the lengths.
    codes: BlockCodes,
    lengths: [u8; LITERALS_MAX + DISTANCES_MAX],
    /// Lengths of literal codes, at most [`LITERALS_MAX`].
    literals: usize,
    /// All lengths.
    total: usize,
    /// Lengths of the code of the lengths.
    code_lengths: usize,
    /// Lengths read so far, first of the code of the lengths.
    read: usize,
}

impl DynamicCodes {
    /// Codes that have yet to be read.
    pub(super) fn new() -> Box<Self> {
        Box::new(Self {
            codes: BlockCodes::EMPTY,
            lengths: [0; LITERALS_MAX + DISTANCES_MAX],
            literals: 0,
            total: 0,
            code_lengths: 0,
            read: 0,
        })
    }

    /// The codes, when they have been read.
    pub(super) fn codes(&self) -> &BlockCodes {
        &self.codes
    }

    /// Reads how many lengths the block has. Returns false if the bits end before.
    ///
    /// # Errors
    /// There are more lengths than symbols.
    pub(super) fn read_counts(&mut self, buffer: &mut BitBuffer) -> Result<bool, InvalidData> {
        let Some(counts) = buffer.take(14) else { return Ok(false) };
        let counts = counts as usize;
        self.literals = 257 + (counts & 31);
        let distances = 1 + (counts >> 5 & 31);
        self.total = self.literals + distances;
        self.code_lengths = 4 + (counts >> 10);
        self.read = 0;
        self.lengths = [0; LITERALS_MAX + DISTANCES_MAX];
        let valid = self.literals <= LITERALS_MAX && distances <= DISTANCES_MAX;
        if valid { Ok(true) } else { Err(InvalidData) }
    }

    /// Reads the code of the lengths. Returns false if the bits end before.
    ///
    /// # Errors
    /// The code is incomplete or has too many codes.
    pub(super) fn read_code_lengths(
        &mut self,
        buffer: &mut BitBuffer,
        input: &mut &[u8],
    ) -> Result<bool, InvalidData> {
        while self.read < self.code_lengths {
            buffer.refill(input);
            let Some(len) = buffer.take(3) else { return Ok(false) };
            let symbol = CODE_LENGTH_ORDER.get(self.read).copied().unwrap_or_default();
            if let Some(place) = self.lengths.get_mut(usize::from(symbol)) {
                *place = len as u8;
            }
            self.read += 1;
        }
        let lengths = self.lengths.get(..CODE_LENGTHS.len()).unwrap_or_default();
        self.codes.distances.build(lengths, &CODE_LENGTHS, false)?;
        self.read = 0;
        Ok(true)
    }

    /// Reads the lengths and builds the codes. Returns false if the bits end before.
    ///
    /// # Errors
    /// The lengths are malformed, or form no valid code.
    pub(super) fn read_lengths(
        &mut self,
        buffer: &mut BitBuffer,
        input: &mut &[u8],
    ) -> Result<bool, InvalidData> {
        while self.read < self.total {
            buffer.refill(input);
            let mut next = *buffer;
            let Some(symbol) = self.codes.distances.decode(&mut next)? else { return Ok(false) };
            let Some(extra) = next.take(symbol.extra_bits()) else { return Ok(false) };
            *buffer = next;
            self.add_lengths(symbol.base() as u8, extra as usize)?;
        }
        let literals = self.lengths.get(..self.literals).unwrap_or_default();
        let distances = self.lengths.get(self.literals..self.total).unwrap_or_default();
        // The end of the block must have a code.
        if literals.get(END_OF_BLOCK).is_none_or(|len| *len == 0) {
            return Err(InvalidData);
        }
        self.codes.literals.build(literals, &LITERALS, true)?;
        self.codes.distances.build(distances, &DISTANCES, true)?;
        Ok(true)
    }

    /// Adds the lengths for one symbol: 0 to 15 is a length, 16 to 18 a repetition.
    fn add_lengths(&mut self, symbol: u8, extra: usize) -> Result<(), InvalidData> {
        let (len, count) = match symbol {
            0..16 => (symbol, 1),
            16 => {
                let previous = self.read.checked_sub(1).and_then(|at| self.lengths.get(at));
                (*previous.ok_or(InvalidData)?, 3 + extra)
            }
            17 => (0, 3 + extra),
            18.. => (0, 11 + extra),
        };
        let end = self.read + count;
        if end > self.total {
            return Err(InvalidData);
        }
        if let Some(places) = self.lengths.get_mut(self.read..end) {
            places.fill(len);
        }
        self.read = end;
        Ok(())
    }
}

static FIXED: LazyLock<BlockCodes> = LazyLock::new(|| {
    let lengths = |symbol: usize| match symbol {
        0..144 => 8,
        144..256 => 9,
        256..280 => 7,
        280.. => 8,
    };
    let mut codes = BlockCodes::EMPTY;
    let literals: [u8; 288] = std::array::from_fn(lengths);
    let valid = codes.literals.build(&literals, &LITERALS, false).is_ok()
        && codes.distances.build(&[5; 32], &DISTANCES, false).is_ok();
    debug_assert!(valid, "both are complete");
    codes
});

/// Maximum lengths of a dynamic block: of literals and match lengths, and of distances.
const LITERALS_MAX: usize = 286;
const DISTANCES_MAX: usize = 30;
/// The number of the symbol that ends a block.
const END_OF_BLOCK: usize = 256;

/// The symbols of literals and match lengths (RFC 1951 3.2.5).
const LITERALS: [Symbol; 288] = {
    let mut symbols = [Symbol::LITERAL; 288];
    symbols[END_OF_BLOCK] = Symbol::END;
    let (mut index, mut base) = (0, 3);
    while index < 28 {
        let extra = if index < 8 { 0 } else { index / 4 - 1 };
        symbols[END_OF_BLOCK + 1 + index as usize] = Symbol::number(base, extra);
        base += 1 << extra;
        index += 1;
    }
    symbols[285] = Symbol::number(258, 0);
    symbols[286] = Symbol::RESERVED;
    symbols[287] = Symbol::RESERVED;
    symbols
};

/// The symbols of match distances (RFC 1951 3.2.5).
const DISTANCES: [Symbol; 32] = {
    let mut symbols = [Symbol::RESERVED; 32];
    let (mut index, mut base) = (0, 1);
    while index < 30 {
        let extra = if index < 4 { 0 } else { index / 2 - 1 };
        symbols[index as usize] = Symbol::number(base, extra);
        base += 1 << extra;
        index += 1;
    }
    symbols
};

/// The symbols of code lengths (RFC 1951 3.2.7).
const CODE_LENGTHS: [Symbol; 19] = {
    let mut symbols = [Symbol::number(0, 0); 19];
    let mut index = 0;
    while index < 16 {
        symbols[index as usize] = Symbol::number(index, 0);
        index += 1;
    }
    symbols[16] = Symbol::number(16, 2);
    symbols[17] = Symbol::number(17, 3);
    symbols[18] = Symbol::number(18, 7);
    symbols
};

/// The order in which the lengths of the code of the lengths are stored (RFC 1951 3.2.7).
const CODE_LENGTH_ORDER: [u8; 19] =
    [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
