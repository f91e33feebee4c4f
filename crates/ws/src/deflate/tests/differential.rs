//! The counter compared with zlib and miniz: the same size, or invalid where they say so.

use flate2::{Compress, Compression, FlushCompress};
use miniz_oxide::MZFlush;
use miniz_oxide::deflate::core::{CompressorOxide, create_comp_flags_from_zip_params};
use miniz_oxide::deflate::stream::deflate;
use proptest::prelude::*;

use super::blocks::{Random, stream};
use super::*;

/// A compressor that keeps its window from message to message.
enum Compressor {
    Zlib(Compress, FlushCompress),
    Miniz(Box<CompressorOxide>, MZFlush),
}

impl Compressor {
    /// One of those that differ in level, strategy and flush.
    fn new(kind: u8) -> Self {
        let level = u32::from(kind % 10);
        let full = kind & 0x40 != 0;
        if kind & 0x80 == 0 {
            let flush = if full { FlushCompress::Full } else { FlushCompress::Sync };
            return Self::Zlib(Compress::new(Compression::new(level), false), flush);
        }
        let strategy = i32::from(kind >> 3 & 7) % 5;
        let flags = create_comp_flags_from_zip_params(level as i32, -15, strategy);
        let flush = if full { MZFlush::Full } else { MZFlush::Sync };
        Self::Miniz(Box::new(CompressorOxide::new(flags)), flush)
    }

    /// The payload of a message (RFC 7692 7.2.1).
    fn message(&mut self, message: &[u8]) -> Vec<u8> {
        let mut payload = vec![0; message.len() + message.len() / 4 + 4096];
        let len = match self {
            Self::Zlib(compressor, flush) => {
                let before = compressor.total_out();
                compressor.compress(message, &mut payload, *flush).unwrap();
                (compressor.total_out() - before) as usize
            }
            Self::Miniz(compressor, flush) => {
                let result = deflate(compressor, message, &mut payload, *flush);
                assert_eq!(result.bytes_consumed, message.len());
                result.bytes_written
            }
        };
        payload.truncate(len);
        assert!(len == 0 || payload.ends_with(&TAIL));
        // Nothing is written by a flush without input after another.
        if len == 0 { vec![0] } else { payload[..len - 4].to_vec() }
    }
}

/// Compares the counter with both, however the input is split.
fn compare(input: &[u8], pieces: &[usize]) -> Result<u64, InvalidData> {
    let (counter, counted) = count(input, &[usize::MAX]);
    for pieces in [&[1][..], pieces] {
        let (split, size) = count(input, pieces);
        assert_eq!(size, counted, "{pieces:?}");
        assert_eq!(split.size(), counter.size());
        if counted.is_ok() {
            assert_eq!(split.is_at_block_boundary(), counter.is_at_block_boundary());
        }
    }
    let inflated = zlib(input);
    if counted.is_err() && inflated.is_ok() {
        // zlib may need more input to detect the same error.
        let more = [input, &[0; 64]].concat();
        assert_eq!(zlib(&more), Err(InvalidData), "{input:02x?}");
    } else {
        assert_eq!(counted, inflated, "{input:02x?}");
    }
    if counted.is_ok() && counter.is_at_block_boundary() {
        let more = [input, &[0, 3, 0, 0xfc, 0xff, 1, 2, 3]].concat();
        assert_eq!(zlib(&more), Ok(counter.size() + 3), "a block boundary");
    }
    counted
}

/// miniz agrees on valid data.
fn compare_with_miniz(input: &[u8], counted: Result<u64, InvalidData>) {
    if let Ok(size) = counted
        && size < 1 << 20
    {
        assert_eq!(miniz(input, size as usize + 1), counted, "{input:02x?}");
    }
}

fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let seed = prop_oneof![
        proptest::collection::vec(any::<u8>(), 1..80),
        "[ -~]{1,80}".prop_map(String::into_bytes),
    ];
    let message = (seed, 0_usize..60).prop_map(|(seed, repeats)| seed.repeat(repeats));
    proptest::collection::vec(message, 1..6)
}

fn pieces() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(1_usize..40, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn messages_with_context_takeover_are_exact(
        kind in any::<u8>(),
        messages in messages(),
        pieces in pieces(),
    ) {
        let mut compressor = Compressor::new(kind);
        let mut window = 0;
        let mut all = Vec::new();
        for message in &messages {
            let payload = [&compressor.message(message)[..], &TAIL].concat();
            // One counter for each message, as in a session.
            let mut counter = DeflateCounter::new(window);
            for piece in payload.chunks(pieces[0]) {
                prop_assert_eq!(counter.add(piece), Ok(()));
            }
            prop_assert_eq!(counter.size(), message.len() as u64);
            prop_assert!(counter.is_at_block_boundary());
            window = counter.history();
            all.extend(payload);
        }
        let total: usize = messages.iter().map(Vec::len).sum();
        prop_assert_eq!(compare(&all, &pieces), Ok(total as u64));
        compare_with_miniz(&all, Ok(total as u64));
    }

    #[test]
    fn damaged_messages_get_the_verdict_of_zlib(
        kind in any::<u8>(),
        messages in messages(),
        pieces in pieces(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut compressor = Compressor::new(kind);
        let mut all: Vec<u8> = Vec::new();
        for message in &messages {
            all.extend(compressor.message(message));
            all.extend(TAIL);
        }
        for (at, byte) in damage {
            // Mostly a single bit.
            let change = if byte & 3 == 0 { byte } else { 1 << (byte >> 5) };
            *at.get_mut(&mut all) ^= change;
        }
        if let Some(cut) = cut {
            all.truncate(cut.index(all.len()));
        }
        let counted = compare(&all, &pieces);
        compare_with_miniz(&all, counted);
    }

    #[test]
    fn random_bytes_get_the_verdict_of_zlib(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        pieces in pieces(),
    ) {
        let counted = compare(&bytes, &pieces);
        compare_with_miniz(&bytes, counted);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]
    #[test]
    fn random_blocks_get_the_verdict_of_zlib(seed in 1_u64.., pieces in pieces()) {
        let input = stream(&mut Random(seed));
        let counted = compare(&input, &pieces);
        compare_with_miniz(&input, counted);
    }
}

/// Text with repetitions near and far.
fn text(random: &mut Random, len: usize) -> Vec<u8> {
    let words: Vec<String> = (0..50).map(|_| format!("word{} ", random.below(10_000))).collect();
    let mut text = Vec::new();
    while text.len() < len {
        text.extend(words[random.below(words.len())].as_bytes());
        text.push(random.below(256) as u8);
    }
    text.truncate(len);
    text
}

#[test]
fn every_size_through_one_compressor_is_exact() {
    for kind in [1, 6, 9, 0x86, 0x80 | 9] {
        let mut compressor = Compressor::new(kind);
        let mut random = Random(u64::from(kind) + 77);
        let mut window = 0;
        for len in [66, 66, 1000, 4096, 66, 40_000, 65_536, 3, 262_144, 66, 0, 100_000, 66] {
            let payload = compressor.message(&text(&mut random, len));
            let mut counter = DeflateCounter::new(window);
            counter.add(&payload).unwrap();
            counter.add(&TAIL).unwrap();
            assert_eq!((counter.size(), counter.is_at_block_boundary()), (len as u64, true));
            window = counter.history();
        }
    }
}

/// 64 MiB of zeroes and of one repeated line.
#[test]
fn bombs_are_counted() {
    for chunk in [vec![0; 1 << 20], b"All work and no play\n".repeat(50_000)] {
        let mut compressor = Compress::new(Compression::best(), false);
        let [first, next] = [(); 2].map(|()| {
            let mut bytes = Vec::with_capacity(1 << 16);
            compressor.compress_vec(&chunk, &mut bytes, FlushCompress::Sync).unwrap();
            bytes
        });
        let bomb = [first, next.repeat(63)].concat();
        assert_eq!(count(&bomb, &[999]).1, Ok(64 * chunk.len() as u64));
    }
}
