//! The bits of a DEFLATE stream, which fill each byte from its least significant bit (RFC 1951 3.1.1).

/// Up to 63 bits that were taken from the input and not decoded yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BitBuffer {
    /// The next bit is the lowest. Above `count` bits there may be a copy of bits that are still in
    /// the input; taking them again changes nothing.
    bits: u64,
    count: u32,
}

impl BitBuffer {
    /// The bits available.
    #[inline(always)]
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// The next bits. Those above [`BitBuffer::count`] have no meaning.
    #[inline(always)]
    pub(super) fn bits(&self) -> u64 {
        self.bits
    }

    /// Takes bytes from the front of the input until at least 56 bits are available, or the input is
    /// empty.
    #[inline(always)]
    pub(super) fn refill(&mut self, input: &mut &[u8]) {
        if let Some(word) = input.first_chunk::<8>() {
            self.bits |= u64::from_le_bytes(*word) << (self.count & 63);
            let bytes = (63 - self.count) / 8;
            self.count += bytes * 8;
            *input = input.get(bytes as usize..).unwrap_or_default();
            return;
        }
        while self.count < 56 {
            let Some((byte, rest)) = input.split_first() else { return };
            self.bits |= u64::from(*byte) << self.count;
            self.count += 8;
            *input = rest;
        }
    }

    /// Removes the next `count` bits and returns them; `None` if fewer are available. `count` is at
    /// most 32.
    #[inline(always)]
    pub(super) fn take(&mut self, count: u32) -> Option<u32> {
        if count > self.count {
            return None;
        }
        let taken = self.bits & ((1 << count) - 1);
        self.skip(count);
        Some(taken as u32)
    }

    /// Removes the next `count` bits, of which there are as many.
    #[inline(always)]
    pub(super) fn skip(&mut self, count: u32) {
        self.bits >>= count & 63;
        self.count = self.count.saturating_sub(count);
    }

    /// Skips the rest of a byte of which a part was decoded.
    pub(super) fn align(&mut self) {
        self.skip(self.count % 8);
    }

    /// Skips up to `count` whole bytes of the stream, which is aligned. Returns how many bytes were
    /// skipped; fewer than `count` if the input ends before.
    pub(super) fn skip_bytes(&mut self, count: u16, input: &mut &[u8]) -> u16 {
        let buffered = count.min((self.count / 8) as u16);
        self.skip(u32::from(buffered) * 8);
        let rest = usize::from(count - buffered).min(input.len());
        if rest > 0 {
            // The copy of bits that are skipped in the input.
            *self = Self::default();
            *input = input.get(rest..).unwrap_or_default();
        }
        buffered + rest as u16
    }
}
