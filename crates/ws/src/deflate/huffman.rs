//! The prefix codes of DEFLATE (RFC 1951 3.2.2), for which only the lengths of the codes are stored.

use super::bit_buffer::BitBuffer;

/// The data is not valid DEFLATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidData;

/// The meaning of a code, and its length in bits once it is in a table.
///
/// Bits 0 to 3 hold the length of the code, 4 to 7 the number of extra bits, 8 to 10 the kind, and 16
/// to 31 the value to which the extra bits are added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Symbol(u32);

impl Symbol {
    /// One literal byte. Which one does not matter.
    pub(super) const LITERAL: Self = Self(LITERAL);
    /// The end of the block.
    pub(super) const END: Self = Self(END);
    /// A symbol that may have a code but must not occur.
    pub(super) const RESERVED: Self = Self(RESERVED);

    /// A number from `base`, to which as many bits as `extra` are added.
    pub(super) const fn number(base: u32, extra: u32) -> Self {
        Self(base << 16 | extra << 4)
    }

    #[inline(always)]
    fn with_code_len(self, len: u32) -> Self {
        Self(self.0 | len)
    }

    #[inline(always)]
    fn code_len(self) -> u32 {
        self.0 & 15
    }

    #[inline(always)]
    pub(super) fn extra_bits(self) -> u32 {
        self.0 >> 4 & 15
    }

    #[inline(always)]
    pub(super) fn base(self) -> u32 {
        self.0 >> 16
    }

    #[inline(always)]
    pub(super) fn is_literal(self) -> bool {
        self.0 & LITERAL != 0
    }

    #[inline(always)]
    pub(super) fn is_end(self) -> bool {
        self.0 & END != 0
    }

    #[inline(always)]
    pub(super) fn is_reserved(self) -> bool {
        self.0 & RESERVED != 0
    }
}

/// A code of up to `SYMBOLS` symbols. Codes of up to `log2(ENTRIES)` bits are found with one access.
#[derive(Debug)]
pub(super) struct HuffmanTable<const ENTRIES: usize, const SYMBOLS: usize> {
    /// The symbol for the next bits of the stream; 0 if its code is longer, or if there is none.
    entries: [Symbol; ENTRIES],
    /// Selects the bits that are the index of an entry.
    mask: u64,
    /// The number of codes of each length.
    counts: [u16; LEN_MAX as usize + 1],
    /// The symbols in the order of their codes.
    symbols: [Symbol; SYMBOLS],
    /// Length of the longest code in bits.
    len_max: u32,
    long_codes: LongCodes,
}

/// Where the codes start that are longer than the index of an entry.
#[derive(Clone, Copy, Debug, Default)]
struct LongCodes {
    /// The length of an index in bits.
    index_bits: u32,
    /// The first code that is one bit longer than the index.
    first: u32,
    /// The number of shorter codes.
    before: u32,
}

impl<const ENTRIES: usize, const SYMBOLS: usize> HuffmanTable<ENTRIES, SYMBOLS> {
    /// A table without codes.
    pub(super) const fn new() -> Self {
        Self {
            entries: [Symbol(0); ENTRIES],
            mask: 0,
            counts: [0; LEN_MAX as usize + 1],
            symbols: [Symbol(0); SYMBOLS],
            len_max: 0,
            long_codes: LongCodes { index_bits: 0, first: 0, before: 0 },
        }
    }

    /// Assigns codes to those of the `symbols` whose length is not 0. zlib's rule applies: all bits
    /// must have a meaning, except that with `may_be_incomplete` a single code of one bit, or none at
    /// all, is valid.
    ///
    /// # Errors
    /// The lengths form no such code.
    pub(super) fn build(
        &mut self,
        lengths: &[u8],
        symbols: &[Symbol],
        may_be_incomplete: bool,
    ) -> Result<(), InvalidData> {
        self.count(lengths, may_be_incomplete)?;
        self.sort(lengths, symbols);
        self.fill();
        Ok(())
    }

    /// Counts the codes of each length.
    fn count(&mut self, lengths: &[u8], may_be_incomplete: bool) -> Result<(), InvalidData> {
        self.counts = [0; LEN_MAX as usize + 1];
        for_each_code(lengths, |_, len| {
            if let Some(count) = self.counts.get_mut(len) {
                *count += 1;
            }
        });
        // Without any code, one bit is enough to detect that none matches.
        self.len_max = 1;
        let mut unused: u32 = 1;
        for (len, count) in (0..).zip(&self.counts).skip(1) {
            unused = (unused * 2).checked_sub(u32::from(*count)).ok_or(InvalidData)?;
            if *count > 0 {
                self.len_max = len;
            }
        }
        if unused > 0 && !(may_be_incomplete && self.len_max <= 1) {
            return Err(InvalidData);
        }
        Ok(())
    }

    /// Sorts the symbols by their codes: by length, then by number.
    fn sort(&mut self, lengths: &[u8], symbols: &[Symbol]) {
        let mut next = [0; LEN_MAX as usize + 1];
        let mut total = 0;
        for (next, count) in next.iter_mut().zip(&self.counts).skip(1) {
            *next = total;
            total += count;
        }
        for_each_code(lengths, |symbol, len| {
            let Some(next) = next.get_mut(len) else { return };
            if let (Some(place), Some(symbol)) =
                (self.symbols.get_mut(usize::from(*next)), symbols.get(symbol))
            {
                *place = *symbol;
            }
            *next += 1;
        });
    }

    /// Sets the entries for short codes. The table is doubled for each length, since the index of a
    /// code may have any value in the bits that follow it.
    fn fill(&mut self) {
        let index_bits = self.len_max.min(ENTRIES.ilog2());
        self.mask = (1 << index_bits) - 1;
        if let Some(first) = self.entries.first_mut() {
            *first = Symbol::default();
        }
        let mut symbols = self.symbols.iter();
        let (mut code, mut before) = (0_u32, 0_u32);
        for (len, count) in (0..=index_bits).zip(&self.counts).skip(1) {
            let half = 1_usize << (len - 1);
            if let Some((low, high)) = self.entries.split_at_mut_checked(half) {
                for (to, from) in high.iter_mut().zip(low) {
                    *to = *from;
                }
            }
            code <<= 1;
            for symbol in symbols.by_ref().take(usize::from(*count)) {
                // RFC 1951 3.1.1: codes are packed from their most significant bit.
                let index = code.reverse_bits() >> (32 - len);
                if let Some(entry) = self.entries.get_mut(index as usize) {
                    *entry = symbol.with_code_len(len);
                }
                code += 1;
            }
            before += u32::from(*count);
        }
        self.long_codes = LongCodes { index_bits, first: code << 1, before };
    }

    /// Decodes the next symbol and removes its code from the buffer; `None` if the buffer ends
    /// before.
    ///
    /// # Errors
    /// No code matches.
    #[inline(always)]
    pub(super) fn decode(&self, buffer: &mut BitBuffer) -> Result<Option<Symbol>, InvalidData> {
        let index = (buffer.bits() & self.mask) as usize;
        let mut symbol = self.entries.get(index).copied().unwrap_or_default();
        if symbol.code_len() == 0 {
            match self.decode_long(*buffer)? {
                Some(found) => symbol = found,
                None => return Ok(None),
            }
        }
        if symbol.code_len() > buffer.count() {
            return Ok(None);
        }
        buffer.skip(symbol.code_len());
        Ok(Some(symbol))
    }

    /// Decodes a code that is longer than the index, one bit at a time. The codes of a length are
    /// consecutive numbers.
    #[cold]
    fn decode_long(&self, buffer: BitBuffer) -> Result<Option<Symbol>, InvalidData> {
        let LongCodes { index_bits, mut first, mut before } = self.long_codes;
        let index = (buffer.bits() & self.mask) as u32;
        let mut code = index.reverse_bits().checked_shr(32 - index_bits).unwrap_or(0);
        let mut bits = buffer.bits() >> index_bits;
        let mut len = index_bits;
        let counts = self.counts.get(index_bits as usize + 1..=self.len_max as usize);
        for count in counts.unwrap_or_default() {
            len += 1;
            if len > buffer.count() {
                return Ok(None);
            }
            code = code << 1 | (bits & 1) as u32;
            bits >>= 1;
            let count = u32::from(*count);
            if code < first + count {
                let index = before + (code - first);
                let symbol = self.symbols.get(index as usize).copied().unwrap_or_default();
                return Ok(Some(symbol.with_code_len(len)));
            }
            before += count;
            first = (first + count) << 1;
        }
        Err(InvalidData)
    }
}

/// Calls `visit` with the number of each symbol that has a code, and the length of the code. Most
/// symbols have none.
#[inline(always)]
fn for_each_code(lengths: &[u8], mut visit: impl FnMut(usize, usize)) {
    for (part, first) in lengths.chunks(16).zip((0..).step_by(16)) {
        if part.iter().fold(0, |any, len| any | len) == 0 {
            continue;
        }
        for (symbol, len) in (first..).zip(part).filter(|(_, len)| **len > 0) {
            visit(symbol, usize::from(*len));
        }
    }
}

const LITERAL: u32 = 1 << 8;
const END: u32 = 1 << 9;
const RESERVED: u32 = 1 << 10;

/// Length of the longest code in bits (RFC 1951 3.2.7).
const LEN_MAX: u32 = 15;
