//! How large a compressed message is once decompressed (RFC 7692 7.2.2), counted as it passes.
//! What comes out is thrown away; the message itself is relayed as it came.

use flate2::{Decompress, FlushDecompress, Status};

use super::header::unmask;
use super::{LimitKind, ProtocolError};

/// Follows one compressed message of a sender that begins each message with an empty window
/// (`client_no_context_takeover`, RFC 7692 7.1.1.2). About 48 KiB, for as long as the message
/// lasts.
#[derive(Debug)]
pub(super) struct InflatedSizeMeter {
    inflater: Decompress,
    /// What may still come out.
    left: u64,
    key: [u8; 4],
    /// Bytes of the key that have come; 4 for a frame without.
    key_len: u8,
    /// Where in the key the next byte of payload stands.
    turn: u8,
    /// What was found once is not forgotten.
    failed: Option<SizeExceeded>,
    /// What it took so far, about as many bytes copied.
    work: u64,
}

/// Why a message goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SizeExceeded {
    /// More came out than may.
    Over(LimitKind),
    /// It is no DEFLATE.
    Breach(ProtocolError),
}

impl InflatedSizeMeter {
    /// Whether a whole message of so many compressed bytes may hold more than `max`.
    pub(super) fn is_needed(wire: u64, max: u64) -> bool {
        wire > max / RATIO_MAX
    }

    /// Most compressed bytes that a message of `max` may take: what does not compress becomes a
    /// little larger, by less than a seventh with any encoder's settings (zlib's `deflateBound`),
    /// and by 5 bytes for each flush. More of them hold nothing, without end.
    pub(super) fn wire_max(max: u64) -> u64 {
        max.saturating_add(max / 7).saturating_add(1024)
    }

    /// For a message that may hold `max` bytes.
    pub(super) fn new(max: u64) -> Self {
        Self {
            inflater: Decompress::new(false),
            left: max,
            key: [0; 4],
            key_len: 0,
            turn: 0,
            failed: None,
            work: 0,
        }
    }

    /// The body of another frame of the message begins, with a mask key of so many bytes.
    pub(super) fn begin_frame(&mut self, key_len: usize) {
        self.key_len = if key_len == 0 { 4 } else { 0 };
        self.key = [0; 4];
        self.turn = 0;
    }

    /// What it took since this was last asked.
    pub(super) fn take_work(&mut self) -> u64 {
        std::mem::take(&mut self.work)
    }

    /// The next bytes of the frame's body, its mask key first; `last`: the message ends with them.
    pub(super) fn follow(&mut self, body: &[u8], last: bool) -> Result<(), SizeExceeded> {
        if let Some(verdict) = self.failed {
            return Err(verdict);
        }
        let followed = self.try_follow(body, last);
        self.failed = followed.err();
        followed
    }

    fn try_follow(&mut self, body: &[u8], last: bool) -> Result<(), SizeExceeded> {
        let mut payload = body;
        while self.key_len < 4 {
            let Some((byte, rest)) = payload.split_first() else {
                return Ok(());
            };
            if let Some(place) = self.key.get_mut(usize::from(self.key_len)) {
                *place = *byte;
            }
            self.key_len += 1;
            payload = rest;
        }
        let mut clear = [0; PIECE];
        for piece in payload.chunks(PIECE) {
            let Some(clear) = clear.get_mut(..piece.len()) else {
                return Ok(());
            };
            clear.copy_from_slice(piece);
            let mut key = self.key;
            key.rotate_left(usize::from(self.turn));
            unmask(clear, Some(key));
            self.turn = (self.turn + (piece.len() % 4) as u8) % 4;
            self.inflate(clear)?;
        }
        // RFC 7692 7.2.2: the end of the last block was left out.
        if last { self.inflate(&[0, 0, 0xff, 0xff]) } else { Ok(()) }
    }

    fn inflate(&mut self, mut input: &[u8]) -> Result<(), SizeExceeded> {
        let mut room = [0; ROOM];
        // Blocks with nothing in them cost their headers.
        self.work = self.work.saturating_add(16 * input.len() as u64);
        loop {
            let (taken, given) = (self.inflater.total_in(), self.inflater.total_out());
            let status = self
                .inflater
                .decompress(input, &mut room, FlushDecompress::None)
                .map_err(|_| SizeExceeded::Breach(ProtocolError::Inflate))?;
            let taken = (self.inflater.total_in() - taken) as usize;
            let given = self.inflater.total_out() - given;
            self.work = self.work.saturating_add(given);
            self.left =
                self.left.checked_sub(given).ok_or(SizeExceeded::Over(LimitKind::Inflated))?;
            input = input.get(taken..).unwrap_or_default();
            match status {
                // RFC 7692 7.2.3.4: a sender may end a block for good, and begin another. Whoever
                // goes on reading behind it finds what we count.
                Status::StreamEnd => self.inflater.reset(false),
                Status::Ok | Status::BufError if taken == 0 && given == 0 => return Ok(()),
                Status::Ok | Status::BufError => {}
            }
            if input.is_empty() && given < ROOM as u64 {
                return Ok(());
            }
        }
    }
}

/// No DEFLATE stream expands more: 258 bytes for two bits (zlib's technical notes).
const RATIO_MAX: u64 = 1032;
/// Unmasked at a time.
const PIECE: usize = 2048;
/// Decompressed at a time.
const ROOM: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};
    use proptest::prelude::*;

    use super::*;

    /// As an endpoint compresses a message (RFC 7692 7.2.1).
    pub(crate) fn compress(message: &[u8]) -> Vec<u8> {
        let mut compressor = Compress::new(Compression::best(), false);
        let mut bytes = Vec::with_capacity(message.len() + 1024);
        compressor.compress_vec(message, &mut bytes, FlushCompress::Sync).expect("room");
        assert!(bytes.ends_with(&[0, 0, 0xff, 0xff]));
        bytes.truncate(bytes.len() - 4);
        bytes
    }

    /// In frames and pieces as told, masked.
    fn follow(wire: &[u8], max: u64, frames: &[usize], pieces: usize) -> Result<(), SizeExceeded> {
        let mut inspector = InflatedSizeMeter::new(max);
        let mut rest = wire;
        let mut frames = frames.iter().cycle();
        loop {
            let len = (*frames.next().unwrap()).min(rest.len());
            let (frame, later) = rest.split_at(len);
            rest = later;
            let mut body = vec![7, 9, 200, 77];
            body.extend(frame);
            let key = [7, 9, 200, 77];
            unmask(&mut body[4..], Some(key));
            inspector.begin_frame(4);
            let count = body.len().div_ceil(pieces);
            for (at, piece) in body.chunks(pieces).enumerate() {
                inspector.follow(piece, rest.is_empty() && at + 1 == count)?;
            }
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Its very size passes, one byte less does not, in whatever frames and pieces it comes.
        #[test]
        fn the_size_is_exact(
            seed in proptest::collection::vec(any::<u8>(), 1..300),
            repeats in 1_usize..400,
            frames in proptest::collection::vec(1_usize..5000, 1..5),
            pieces in 1_usize..3000,
        ) {
            let message = seed.repeat(repeats);
            let wire = compress(&message);
            let size = message.len() as u64;
            prop_assert_eq!(follow(&wire, size, &frames, pieces), Ok(()));
            let over = Err(SizeExceeded::Over(LimitKind::Inflated));
            prop_assert_eq!(follow(&wire, size - 1, &frames, pieces), over);
        }

        #[test]
        fn garbage_never_panics(
            wire in proptest::collection::vec(any::<u8>(), 0..3000),
            pieces in 1_usize..3000,
        ) {
            let _ = follow(&wire, 1 << 20, &[1000], pieces);
        }
    }

    // Requirements: FC33.
    #[test]
    fn decompression_bomb_is_stopped() {
        let bomb = compress(&vec![0; 8 << 20]);
        assert!(bomb.len() < 10_000);
        let over = Err(SizeExceeded::Over(LimitKind::Inflated));
        assert_eq!(follow(&bomb, 1 << 20, &[usize::MAX], 16_384), over);
        assert_eq!(follow(&bomb, 8 << 20, &[usize::MAX], 16_384), Ok(()));
    }

    #[test]
    fn no_message_that_goes_unseen_can_be_too_large() {
        let max = 1 << 20;
        let wire = compress(&vec![0; max]).len() as u64;
        assert!(InflatedSizeMeter::is_needed(wire, max as u64), "{wire}");
        assert!(!InflatedSizeMeter::is_needed(1000, max as u64));
    }

    // Requirements: FC34.
    #[test]
    fn invalid_deflate_data_is_a_protocol_error() {
        let breach = Err(SizeExceeded::Breach(ProtocolError::Inflate));
        assert_eq!(follow(&[0xff; 100], 1 << 20, &[100], 7), breach);
        // It refers to what came before, where nothing did.
        assert_eq!(follow(&[0x02, 0x05, 0x00], 1 << 20, &[100], 7), breach);
    }

    #[test]
    fn what_stands_behind_a_final_block_counts() {
        let mut compressor = Compress::new(Compression::best(), false);
        let mut twice = Vec::new();
        for _ in 0..2 {
            let mut bytes = Vec::with_capacity(1 << 16);
            compressor.compress_vec(&[b'a'; 10_000], &mut bytes, FlushCompress::Finish).unwrap();
            twice.extend(bytes);
            compressor.reset();
        }
        // RFC 7692 7.2.3.4: an empty block that is left open follows.
        twice.push(0);
        assert_eq!(follow(&twice, 20_000, &[9], 4), Ok(()));
        let over = Err(SizeExceeded::Over(LimitKind::Inflated));
        assert_eq!(follow(&twice, 19_999, &[9], 4), over);
    }
}
