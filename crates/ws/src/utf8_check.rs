//! Checks that a text message is UTF-8 (RFC 6455 5.6 and 8.1) while its frames pass. Of the message it
//! keeps at most the first three bytes of a character whose end has not arrived.

use std::str;

use simdutf8::basic::from_utf8;

/// Checks one text message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Utf8Check {
    /// The start of a character, at the end of the array; the rest of it is expected.
    partial: [u8; PARTIAL_MAX],
    partial_len: u8,
    key: [u8; 4],
    /// Bytes of the mask key received; 4 for an unmasked frame.
    key_len: u8,
}

/// The message is not UTF-8, whatever follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidUtf8;

impl Utf8Check {
    /// Starts the next frame of the message. Its mask key is `key_len` bytes long.
    pub(crate) fn begin_frame(&mut self, key_len: usize) {
        self.key = [0; 4];
        self.key_len = if key_len == 0 { 4 } else { 0 };
    }

    /// Checks the next bytes of the frame body, which starts with the mask key. `last` tells whether
    /// the message ends with them.
    ///
    /// # Errors
    /// A byte cannot be part of a UTF-8 text, or the message ends within a character.
    pub(crate) fn add(&mut self, body: &[u8], last: bool) -> Result<(), InvalidUtf8> {
        let missing = body.len().min(4 - usize::from(self.key_len));
        let (key, payload) = body.split_at(missing);
        for byte in key {
            if let Some(target) = self.key.get_mut(usize::from(self.key_len)) {
                *target = *byte;
            }
            self.key_len += 1;
        }
        if payload.len() <= SHORT {
            self.add_chunks::<{ PARTIAL_MAX + SHORT }>(payload)?;
        } else {
            self.add_chunks::<{ PARTIAL_MAX + LONG }>(payload)?;
        }
        if last && self.partial_len > 0 { Err(InvalidUtf8) } else { Ok(()) }
    }

    /// Checks payload in chunks that fit, unmasked, into a buffer of `SIZE` bytes on the stack.
    fn add_chunks<const SIZE: usize>(&mut self, payload: &[u8]) -> Result<(), InvalidUtf8> {
        let mut buffer = [0; SIZE];
        for chunk in payload.chunks(SIZE - PARTIAL_MAX) {
            let Some((partial, clear)) = buffer.split_first_chunk_mut::<PARTIAL_MAX>() else {
                return Err(InvalidUtf8);
            };
            *partial = self.partial;
            if let Some(clear) = clear.get_mut(..chunk.len()) {
                unmask_into(clear, chunk, self.key);
            }
            self.key.rotate_left(chunk.len() % 4);
            let start = PARTIAL_MAX - usize::from(self.partial_len);
            let text = buffer.get(start..PARTIAL_MAX + chunk.len()).unwrap_or_default();
            let (whole, rest) = text.split_at(text.len() - partial_character(text));
            from_utf8(whole).map_err(|_| InvalidUtf8)?;
            self.partial_len = rest.len() as u8;
            if rest.is_empty() {
                continue;
            }
            // The start of a character is checked at once, not only together with its end.
            if str::from_utf8(rest).is_err_and(|error| error.error_len().is_some()) {
                return Err(InvalidUtf8);
            }
            for (target, byte) in self.partial.iter_mut().rev().zip(rest.iter().rev()) {
                *target = *byte;
            }
        }
        Ok(())
    }
}

/// Length of the incomplete character at the end of a text: 0 to [`PARTIAL_MAX`].
fn partial_character(text: &[u8]) -> usize {
    for (at, byte) in text.iter().rev().take(PARTIAL_MAX).enumerate() {
        let len = match byte {
            0x80..0xc0 => continue,
            0x00..0x80 => 1,
            0xc0..0xe0 => 2,
            0xe0..0xf0 => 3,
            0xf0..=0xff => 4,
        };
        return if at + 1 < len { at + 1 } else { 0 };
    }
    0
}

/// Whether masked payload is ASCII, which most short messages are.
#[inline]
pub(crate) fn is_ascii(masked: &[u8], key: [u8; 4]) -> bool {
    let (blocks, rest) = masked.as_chunks::<16>();
    let pattern = repeated(key);
    let mut seen = [0; 16];
    for block in blocks {
        for ((seen, byte), key) in seen.iter_mut().zip(block).zip(pattern) {
            *seen |= byte ^ key;
        }
    }
    let (words, rest) = rest.as_chunks::<4>();
    let key_word = u32::from_ne_bytes(key);
    let last = words.iter().fold(0, |seen, word| seen | (u32::from_ne_bytes(*word) ^ key_word));
    let bytes = rest.iter().zip(key).fold(0, |seen, (byte, key)| seen | (byte ^ key));
    (u128::from_ne_bytes(seen) & HIGH_BITS == 0)
        && last & (HIGH_BITS as u32) == 0
        && bytes.is_ascii()
}

/// Unmasks `masked` into `clear`, which has the same length (RFC 6455 5.3).
fn unmask_into(clear: &mut [u8], masked: &[u8], key: [u8; 4]) {
    // In blocks, which the compiler turns into vector instructions, then in words.
    let (clear_blocks, clear) = clear.as_chunks_mut::<16>();
    let (masked_blocks, masked) = masked.as_chunks::<16>();
    let pattern = repeated(key);
    for (clear, masked) in clear_blocks.iter_mut().zip(masked_blocks) {
        for ((clear, masked), key) in clear.iter_mut().zip(masked).zip(pattern) {
            *clear = masked ^ key;
        }
    }
    let (clear_words, clear) = clear.as_chunks_mut::<4>();
    let (masked_words, masked) = masked.as_chunks::<4>();
    for (clear, masked) in clear_words.iter_mut().zip(masked_words) {
        *clear = (u32::from_ne_bytes(*masked) ^ u32::from_ne_bytes(key)).to_ne_bytes();
    }
    for ((clear, masked), key) in clear.iter_mut().zip(masked).zip(key) {
        *clear = masked ^ key;
    }
}

/// The mask key four times.
fn repeated(key: [u8; 4]) -> [u8; 16] {
    let mut pattern = [0; 16];
    let (words, _) = pattern.as_chunks_mut::<4>();
    words.fill(key);
    pattern
}

/// The highest bit of each byte.
const HIGH_BITS: u128 = u128::from_ne_bytes([0x80; 16]);
/// A character has at most four bytes, so at most three of an incomplete one.
const PARTIAL_MAX: usize = 3;
/// Payload up to this length is unmasked into a buffer that costs little to initialize.
const SHORT: usize = 128;
const LONG: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks a text in one masked frame that arrives in pieces of this size. Returns the number of
    /// bytes that arrived before the error.
    fn check(text: &[u8], size: usize) -> Result<(), usize> {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let masked = text.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key);
        let body: Vec<u8> = key.into_iter().chain(masked).collect();
        let mut check = Utf8Check::default();
        check.begin_frame(4);
        let mut arrived = 0;
        for piece in body.chunks(size) {
            let before = arrived;
            arrived += piece.len();
            check
                .add(piece, arrived == body.len())
                .map_err(|InvalidUtf8| before.saturating_sub(4))?;
        }
        Ok(())
    }

    const SIZES: [usize; 9] = [1, 2, 3, 5, 7, 127, 4095, 4096, 100_000];

    #[test]
    fn valid_text_passes_however_split() {
        let texts = ["", "a", "κόσμε", "\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}\0\u{7f}"];
        let long = "tide ~ \u{20ac}\u{1f30a}é ".repeat(1000);
        for text in texts.into_iter().chain([&*long, &long[1..], &"x".repeat(200_000)]) {
            for size in SIZES {
                assert_eq!(check(text.as_bytes(), size), Ok(()), "{size}");
            }
        }
    }

    #[test]
    fn first_invalid_byte_is_found_at_once() {
        // Stray and missing continuations, overlong forms, surrogates, beyond U+10FFFF, never used.
        let invalid: [(&[u8], usize); 12] = [
            (b"\x80", 0),
            (b"\xbf", 0),
            (b"\xc3\x28", 1),
            (b"\xc0\xaf", 0),
            (b"\xe0\x80\xaf", 1),
            (b"\xf0\x8f\xbf\xbf", 1),
            (b"\xed\xa0\x80", 1),
            (b"\xf4\x90\x80\x80", 1),
            (b"\xf8\x88\x80\x80\x80", 0),
            (b"\xfe", 0),
            (b"\xff", 0),
            (b"\xe2\x82\x41", 2),
        ];
        for prefix in [0, 1, 100, 127, 128, 129, 4095, 4096, 4097] {
            for (bytes, at) in invalid {
                let text = [&b"a".repeat(prefix)[..], bytes, b"valid again"].concat();
                assert_eq!(check(&text, 1), Err(prefix + at), "{bytes:x?} after {prefix}");
                for size in SIZES {
                    assert!(check(&text, size).is_err(), "{bytes:x?} after {prefix} by {size}");
                }
            }
        }
    }

    #[test]
    fn message_must_not_end_within_a_character() {
        for text in [&b"\xc3"[..], b"\xe2\x82", b"\xf0\x9f\x8c", b"abc\xe2"] {
            for size in SIZES {
                assert!(check(text, size).is_err());
            }
        }
    }

    #[test]
    fn characters_may_span_frames() {
        let text = "\u{1f30a}\u{20ac}".as_bytes();
        for end in 1..text.len() {
            let mut check = Utf8Check::default();
            check.begin_frame(0);
            assert_eq!(check.add(&text[..end], false), Ok(()));
            check.begin_frame(0);
            assert_eq!(check.add(&[], false), Ok(()));
            check.begin_frame(0);
            assert_eq!(check.add(&text[end..], true), Ok(()));
        }
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_the_standard_library(
            text in proptest::collection::vec(
                proptest::sample::select(&b"ab\x7f\x80\x8f\x90\x9f\xa0\xbf\xc0\xc2\xdf\xe0\xed\xef\xf0\xf4\xf5"[..]),
                0..40,
            ),
            prefix in 0_usize..300,
            size in 1_usize..50,
        ) {
            let text = [&b"x".repeat(prefix)[..], &text].concat();
            proptest::prop_assert_eq!(check(&text, size).is_ok(), str::from_utf8(&text).is_ok());
        }
    }
}
