//! Measures the decompressed size of a message (RFC 7692 7.2.2) while its frames pass. The message is
//! relayed as received.

use crate::deflate::{DeflateCounter, WINDOW};
use crate::header::unmask;

/// Measures one compressed message.
#[derive(Debug)]
pub(crate) struct InflatedSizeMeter {
    counter: DeflateCounter,
    /// Maximum size in bytes.
    max: u64,
    /// Whether the receiver keeps its window, and so the state of its decompressor, for the next
    /// message.
    context_takeover: bool,
    /// The message before this one is unterminated, and no byte of this one has arrived.
    follows_unterminated: bool,
    /// The message is complete, and unterminated.
    unterminated: bool,
    key: [u8; 4],
    /// Bytes of the mask key received; 4 for an unmasked frame.
    key_len: u8,
    /// Position of the next payload byte in the mask key.
    key_offset: u8,
    /// An error is permanent.
    failed: Option<InflateError>,
    /// CPU cost reported by [`InflatedSizeMeter::take_work`] so far, in bytes copied.
    work: u32,
}

/// What a compressed message leaves behind for the next one of its sender (RFC 7692 7.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeflateContext {
    /// Bytes of output to which the next message may refer, at most [`WINDOW`].
    window: u16,
    /// The message ended with a whole block, without the start of an empty one (RFC 7692 7.2.1): the
    /// payload is empty, or a whole stream as most libraries produce it. Some receivers accept this;
    /// others complete a header of a stored block with the first byte of the next message, and accept
    /// that only if this byte is 0.
    unterminated: bool,
}

/// Why a compressed message is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InflateError {
    /// The decompressed size exceeds the limit.
    TooLarge,
    /// The payload is not valid DEFLATE data.
    Invalid,
}

impl InflatedSizeMeter {
    /// Whether a message of `compressed` bytes can expand to more than `max` bytes.
    pub(crate) fn can_exceed(compressed: u64, max: u64) -> bool {
        compressed > max / RATIO_MAX
    }

    /// The maximum compressed size of a message of `max` bytes. Incompressible data grows by less
    /// than a seventh with any encoder settings (zlib's `deflateBound`), and by 5 bytes per flush.
    /// Without this bound, an endless sequence of empty blocks would pass.
    pub(crate) fn compressed_max(max: u64) -> u64 {
        max.saturating_add(max / 7).saturating_add(1024)
    }

    /// A meter for one message of at most `max` decompressed bytes. `None` as `context`: the sender
    /// starts each message with an empty window (`client_no_context_takeover`,
    /// `server_no_context_takeover`; RFC 7692 7.1.1).
    pub(crate) fn new(max: u64, context: Option<DeflateContext>) -> Self {
        let DeflateContext { window, unterminated } = context.unwrap_or_default();
        Self {
            counter: DeflateCounter::new(window),
            max,
            context_takeover: context.is_some(),
            follows_unterminated: unterminated,
            unterminated: false,
            key: [0; 4],
            key_len: 0,
            key_offset: 0,
            failed: None,
            work: 0,
        }
    }

    /// Starts the next frame of the message. Its mask key is `key_len` bytes long.
    pub(crate) fn begin_frame(&mut self, key_len: usize) {
        self.key_len = if key_len == 0 { 4 } else { 0 };
        self.key = [0; 4];
        self.key_offset = 0;
    }

    /// The CPU cost since the last call, in bytes copied.
    pub(crate) fn take_work(&mut self) -> u32 {
        std::mem::take(&mut self.work)
    }

    /// The decompressed size so far, in bytes. After an error it does not grow any more.
    pub(crate) fn size(&self) -> u64 {
        self.counter.size()
    }

    /// What the message leaves behind. After an error this is unknown, so the next message may refer
    /// to a whole window.
    pub(crate) fn context(&self) -> DeflateContext {
        let window = if self.failed.is_some() { WINDOW } else { self.counter.history() };
        DeflateContext { window, unterminated: self.unterminated }
    }

    /// Measures the next bytes of the frame body, which starts with the mask key. `last` tells
    /// whether the message ends with them.
    ///
    /// # Errors
    /// The message is too large or invalid. The error is returned by all further calls.
    pub(crate) fn add(&mut self, body: &[u8], last: bool) -> Result<(), InflateError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = self.try_add(body, last);
        self.failed = result.err();
        result
    }

    fn try_add(&mut self, body: &[u8], last: bool) -> Result<(), InflateError> {
        let mut payload = body;
        while self.key_len < 4 {
            let Some((byte, rest)) = payload.split_first() else {
                return Ok(());
            };
            if let Some(target) = self.key.get_mut(usize::from(self.key_len)) {
                *target = *byte;
            }
            self.key_len += 1;
            payload = rest;
        }
        if self.key == [0; 4] {
            self.count(payload)?;
        } else {
            let mut clear = [0; UNMASK_CHUNK];
            for chunk in payload.chunks(UNMASK_CHUNK) {
                let Some(clear) = clear.get_mut(..chunk.len()) else {
                    return Ok(());
                };
                clear.copy_from_slice(chunk);
                let mut key = self.key;
                key.rotate_left(usize::from(self.key_offset));
                unmask(clear, Some(key));
                self.key_offset = (self.key_offset + (chunk.len() % 4) as u8) % 4;
                self.count(clear)?;
            }
        }
        if last { self.finish() } else { Ok(()) }
    }

    /// Ends the message.
    fn finish(&mut self) -> Result<(), InflateError> {
        self.unterminated = self.counter.is_at_block_boundary();
        if self.unterminated {
            return if self.follows_unterminated { Err(InflateError::Invalid) } else { Ok(()) };
        }
        // RFC 7692 7.2.2: the sender omits the end of the last block.
        self.count(&[0, 0, 0xff, 0xff])?;
        // Otherwise the receiver would take the start of the next message for a part of this block,
        // and the size of the next message could not be known.
        if self.context_takeover && !self.counter.is_at_block_boundary() {
            return Err(InflateError::Invalid);
        }
        Ok(())
    }

    fn count(&mut self, payload: &[u8]) -> Result<(), InflateError> {
        if self.follows_unterminated
            && let Some(first) = payload.first()
        {
            if *first == 0 {
                return Err(InflateError::Invalid);
            }
            self.follows_unterminated = false;
        }
        let blocks = self.counter.dynamic_blocks();
        let result = self.counter.add(payload);
        let blocks = self.counter.dynamic_blocks() - blocks;
        let work = WORK_PER_BYTE * payload.len() as u64 + WORK_PER_BLOCK * blocks;
        self.work = self.work.saturating_add(u32::try_from(work).unwrap_or(u32::MAX));
        // The size was exceeded before the invalid data, if both are the case.
        if self.counter.size() > self.max {
            return Err(InflateError::TooLarge);
        }
        result.map_err(|_| InflateError::Invalid)
    }
}

/// The maximum expansion of DEFLATE: 258 bytes for two bits (zlib's technical notes).
const RATIO_MAX: u64 = 1032;
/// Bytes unmasked at a time.
const UNMASK_CHUNK: usize = 512;
/// CPU cost of a byte of input and of the tables of a block, in bytes copied.
const WORK_PER_BYTE: u64 = 16;
const WORK_PER_BLOCK: u64 = 256;

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};
    use proptest::prelude::*;

    use super::*;

    /// Compresses a message as an endpoint does (RFC 7692 7.2.1).
    pub(crate) fn compress(message: &[u8]) -> Vec<u8> {
        let mut compressor = Compress::new(Compression::best(), false);
        let mut bytes = Vec::with_capacity(message.len() + 1024);
        compressor.compress_vec(message, &mut bytes, FlushCompress::Sync).expect("capacity");
        assert!(bytes.ends_with(&[0, 0, 0xff, 0xff]));
        bytes.truncate(bytes.len() - 4);
        bytes
    }

    /// Measures a message that arrives in masked frames of the given sizes, in chunks of `chunk`
    /// bytes.
    fn measure(
        compressed: &[u8],
        max: u64,
        frames: &[usize],
        chunk: usize,
    ) -> Result<(), InflateError> {
        let context = chunk.is_multiple_of(2).then(DeflateContext::default);
        let mut meter = InflatedSizeMeter::new(max, context);
        let mut rest = compressed;
        let mut frames = frames.iter().cycle();
        loop {
            let len = (*frames.next().unwrap()).min(rest.len());
            let (frame, later) = rest.split_at(len);
            rest = later;
            let mut body = vec![7, 9, 200, 77];
            body.extend(frame);
            let key = [7, 9, 200, 77];
            unmask(&mut body[4..], Some(key));
            meter.begin_frame(4);
            let count = body.len().div_ceil(chunk);
            for (at, chunk) in body.chunks(chunk).enumerate() {
                meter.add(chunk, rest.is_empty() && at + 1 == count)?;
            }
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// The exact size passes and one byte less does not, however the message is split.
        #[test]
        fn measured_size_is_exact(
            seed in proptest::collection::vec(any::<u8>(), 1..300),
            repeats in 1_usize..400,
            frames in proptest::collection::vec(1_usize..5000, 1..5),
            chunk in 1_usize..3000,
        ) {
            let message = seed.repeat(repeats);
            let compressed = compress(&message);
            let size = message.len() as u64;
            prop_assert_eq!(measure(&compressed, size, &frames, chunk), Ok(()));
            let too_large = Err(InflateError::TooLarge);
            prop_assert_eq!(measure(&compressed, size - 1, &frames, chunk), too_large);
        }

        #[test]
        fn garbage_never_panics(
            garbage in proptest::collection::vec(any::<u8>(), 0..3000),
            chunk in 1_usize..3000,
        ) {
            let _ = measure(&garbage, 1 << 20, &[1000], chunk);
        }
    }

    // Requirements: FC33.
    #[test]
    fn decompression_bomb_is_stopped() {
        let bomb = compress(&vec![0; 8 << 20]);
        assert!(bomb.len() < 10_000);
        let too_large = Err(InflateError::TooLarge);
        assert_eq!(measure(&bomb, 1 << 20, &[usize::MAX], 16_384), too_large);
        assert_eq!(measure(&bomb, 8 << 20, &[usize::MAX], 16_384), Ok(()));
    }

    #[test]
    fn maximum_expansion_is_known() {
        let max = 1 << 20;
        let compressed = compress(&vec![0; max]).len() as u64;
        assert!(InflatedSizeMeter::can_exceed(compressed, max as u64), "{compressed}");
        assert!(!InflatedSizeMeter::can_exceed(1000, max as u64));
    }

    // Requirements: FC34.
    #[test]
    fn invalid_deflate_data_is_a_protocol_error() {
        let invalid = Err(InflateError::Invalid);
        assert_eq!(measure(&[0xff; 100], 1 << 20, &[100], 7), invalid);
        // A reference to earlier output where there is none.
        assert_eq!(measure(&[0x02, 0x05, 0x00], 1 << 20, &[100], 7), invalid);
    }

    #[test]
    fn data_after_a_final_block_counts() {
        let mut compressor = Compress::new(Compression::best(), false);
        let mut twice = Vec::new();
        for _ in 0..2 {
            let mut bytes = Vec::with_capacity(1 << 16);
            compressor.compress_vec(&[b'a'; 10_000], &mut bytes, FlushCompress::Finish).unwrap();
            twice.extend(bytes);
            compressor.reset();
        }
        // RFC 7692 7.2.3.4: an empty block without its end follows.
        twice.push(0);
        assert_eq!(measure(&twice, 20_000, &[9], 4), Ok(()));
        let too_large = Err(InflateError::TooLarge);
        assert_eq!(measure(&twice, 19_999, &[9], 4), too_large);
    }
}
