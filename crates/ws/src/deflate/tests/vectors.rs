//! Streams made by hand.

use super::*;

/// Counts an input, however it is split.
fn outcome(input: &[u8]) -> Result<u64, InvalidData> {
    let whole = count(input, &[usize::MAX]).1;
    for pieces in [&[1][..], &[2], &[3, 1], &[7], &[8], &[9]] {
        assert_eq!(count(input, pieces).1, whole, "{pieces:?}");
    }
    assert_eq!(zlib(input), whole, "zlib");
    whole
}

fn built(build: impl FnOnce(&mut BitWriter)) -> Vec<u8> {
    let mut writer = BitWriter::default();
    build(&mut writer);
    writer.bytes
}

/// Lengths of `count` symbols: these, and otherwise 0.
fn lengths(count: usize, set: &[(usize, u8)]) -> Vec<u8> {
    let mut lengths = vec![0; count];
    for (symbol, len) in set {
        lengths[*symbol] = *len;
    }
    lengths
}

/// A dynamic block with these codes; what follows is written by `more`.
fn dynamic(
    literals: &[(usize, u8)],
    distances: &[u8],
    more: impl FnOnce(&mut BitWriter),
) -> Vec<u8> {
    built(|writer| {
        more(writer.dynamic(&lengths(257.max(max(literals) + 1), literals), distances));
        writer.pad_with_empty_blocks();
    })
}

fn max(lengths: &[(usize, u8)]) -> usize {
    lengths.iter().map(|(symbol, _)| *symbol).max().unwrap()
}

/// The examples of RFC 7692 7.2.3, as payloads of one sender after another.
#[test]
fn messages_of_the_rfc_are_counted() {
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    let two_blocks = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
    let last_block = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    // Refers to the first message.
    let again = [0xf2, 0x00, 0x11, 0x00, 0x00];
    let messages: [(&[u8], u64); 7] = [
        (&hello, 5),
        (&again, 5),
        (&stored, 5),
        (&two_blocks, 5),
        (&[0], 0),
        (&again, 5),
        (&last_block, 5),
    ];
    let mut counter = DeflateCounter::new(0);
    for (at, (payload, size)) in messages.iter().enumerate() {
        let before = counter.size();
        for byte in *payload {
            assert_eq!(counter.add(&[*byte]), Ok(()));
        }
        counter.add(&TAIL).unwrap();
        assert!(counter.is_at_block_boundary(), "{at}");
        assert_eq!(counter.size() - before, *size, "{at}");
    }
    // After the last block of a stream, the window is empty.
    assert_eq!(counter.history(), 0);
    assert_eq!(outcome(&[&again[..], &TAIL].concat()), Err(InvalidData));
}

#[test]
fn any_number_of_empty_blocks_is_a_message() {
    for payload in [
        &[0x00][..],
        &[0x02, 0x00],
        &[0x00, 0x00, 0x00, 0xff, 0xff, 0x00],
        &[0x03, 0x00, 0x03, 0x00, 0x00],
        &[0x01, 0x00, 0x00, 0xff, 0xff, 0x00],
    ] {
        let message = [payload, &TAIL].concat();
        assert_eq!(outcome(&message), Ok(0), "{payload:?}");
        assert!(count(&message, &[1]).0.is_at_block_boundary(), "{payload:?}");
    }
}

#[test]
fn messages_that_end_within_a_block_are_detected() {
    for payload in [
        // Nothing at all; the end of a block twice; without the end of the last one.
        &[][..],
        &[0x00, 0x00, 0x00, 0xff, 0xff],
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
        // A stored block of 100 bytes; one symbol.
        &[0x00, 100, 0, 155, 255, 1, 2, 3],
        &[0xf2, 0x48],
    ] {
        let message = [payload, &TAIL].concat();
        assert!(outcome(&message).is_ok(), "{payload:?}");
        assert!(!count(&message, &[1]).0.is_at_block_boundary(), "{payload:?}");
    }
}

#[test]
fn reserved_block_type_is_invalid() {
    assert_eq!(outcome(&[0b110]), Err(InvalidData));
    assert_eq!(outcome(&[0b111]), Err(InvalidData));
}

#[test]
fn stored_length_must_match_its_complement() {
    assert_eq!(outcome(&[0x00, 0x03, 0x00, 0xfc, 0xff, 1, 2, 3]), Ok(3));
    assert_eq!(outcome(&[0x00, 0x03, 0x00, 0xfc, 0xfe, 1, 2, 3]), Err(InvalidData));
    let largest = [&[0x00, 0xff, 0xff, 0x00, 0x00][..], &[7; 65_535]].concat();
    assert_eq!(outcome(&largest), Ok(65_535));
}

#[test]
fn every_match_length_and_distance_is_counted() {
    let extra = |bits: u32| (1_u32 << bits) - 1;
    let (mut len, mut sizes) = (3, 0);
    for symbol in 257..286 {
        let bits = [0; 8].into_iter().chain((1..6).flat_map(|bits| [bits; 4])).nth(symbol - 257);
        let bits = bits.unwrap_or(0);
        if symbol == 285 {
            len = 258;
        }
        for extra in [0, extra(bits)] {
            let stream = built(|writer| {
                // A literal, the length, distance 1, and the end.
                writer.bits(0b010, 3).code(0x30, 8);
                match symbol {
                    ..280 => writer.code(symbol as u32 - 256, 7),
                    _ => writer.code(symbol as u32 - 280 + 0xc0, 8),
                };
                writer.bits(extra, bits).code(0, 5).code(0, 7);
            });
            assert_eq!(outcome(&stream), Ok(1 + u64::from(len + extra)), "{symbol} {extra}");
            sizes += 1;
        }
        len += 1 << bits;
    }
    assert_eq!(sizes, 58);
    // Distances up to 32 KiB, each with just enough history and with one byte less.
    let mut base = 1;
    for symbol in 0..30 {
        let bits = if symbol < 4 { 0 } else { symbol / 2 - 1 };
        let distance = base + extra(bits);
        let stream = |history: u32| {
            let mut writer = BitWriter::default();
            let len = history as u16;
            writer.bits(0, 3).bytes(&[len.to_le_bytes(), (!len).to_le_bytes()].concat());
            writer.bytes(&vec![5; usize::from(len)]).bits(0b010, 3);
            writer.code(1, 7).code(symbol, 5).bits(extra(bits), bits).code(0, 7);
            writer.bytes
        };
        assert_eq!(outcome(&stream(distance)), Ok(u64::from(distance) + 3), "{symbol}");
        assert_eq!(outcome(&stream(distance - 1)), Err(InvalidData), "{symbol}");
        base += 1 << bits;
    }
}

#[test]
fn reserved_symbols_are_invalid() {
    for (code, valid) in [(0xc5, true), (0xc6, false), (0xc7, false)] {
        let stream = built(|writer| {
            writer.bits(0b010, 3).code(0x30, 8).code(code, 8).code(0, 5).code(0, 7);
        });
        assert_eq!(outcome(&stream).is_ok(), valid, "{code}");
    }
    for code in [30, 31] {
        let stream = built(|writer| {
            writer.bits(0b010, 3).code(0x30, 8).code(1, 7).code(code, 5).bits(0, 30);
        });
        assert_eq!(outcome(&stream), Err(InvalidData), "{code}");
    }
}

#[test]
fn dynamic_codes_are_judged_as_zlib_does() {
    let end = |writer: &mut BitWriter| {
        writer.code(1, 1);
    };
    // A literal and the end, one bit each.
    let both = [(65, 1), (256, 1)];
    assert_eq!(
        outcome(&dynamic(&both, &[0], |w| {
            w.code(0, 1).code(0, 1).code(1, 1);
        })),
        Ok(2)
    );
    // The end alone has one bit, or two.
    assert_eq!(
        outcome(&dynamic(&[(256, 1)], &[0], |w| {
            w.code(0, 1);
        })),
        Ok(0)
    );
    assert_eq!(outcome(&dynamic(&[(256, 1)], &[0], end)), Err(InvalidData));
    assert_eq!(outcome(&dynamic(&[(256, 2)], &[0], end)), Err(InvalidData));
    // No end, too many codes, and a bit without a code.
    assert_eq!(outcome(&dynamic(&[(65, 1), (66, 1)], &[0], end)), Err(InvalidData));
    let three = [(65, 1), (66, 1), (256, 1)];
    assert_eq!(outcome(&dynamic(&three, &[0], end)), Err(InvalidData));
    assert_eq!(outcome(&dynamic(&[(65, 1), (256, 2)], &[0], end)), Err(InvalidData));
    // One distance of one bit, of two bits, too many distances, and a distance where none has a code.
    let matched = [(65, 1), (256, 2), (257, 2)];
    let take = |writer: &mut BitWriter| {
        writer.code(0, 1).code(3, 2).code(0, 1).code(2, 2);
    };
    assert_eq!(outcome(&dynamic(&matched, &[1], take)), Ok(4));
    assert_eq!(outcome(&dynamic(&matched, &[0, 1], take)), Err(InvalidData), "distance 2");
    assert_eq!(outcome(&dynamic(&matched, &[2], take)), Err(InvalidData));
    assert_eq!(outcome(&dynamic(&matched, &[1, 1, 1], take)), Err(InvalidData));
    assert_eq!(outcome(&dynamic(&matched, &[0], take)), Err(InvalidData));
    assert_eq!(
        outcome(&dynamic(&matched, &[0], |w| {
            w.code(0, 1).code(2, 2);
        })),
        Ok(1)
    );
    // More symbols than there are.
    let many = |literals, distances| {
        outcome(&built(|w| {
            w.dynamic(&vec![8; literals], &vec![5; distances]).bits(0, 32);
        }))
    };
    assert_eq!(many(287, 1), Err(InvalidData));
    assert_eq!(many(257, 31), Err(InvalidData));
}

#[test]
fn code_lengths_must_be_well_formed() {
    // The lengths of the codes of 0, 1, 16 and 18; what follows is written by `more`.
    let block = |codes: [u32; 4], more: &dyn Fn(&mut BitWriter)| {
        built(|writer| {
            writer.bits(0b100, 3).bits(0, 10).bits(18 - 4, 4);
            // In the order 16, 17, 18, 0, ..., 1
            writer.bits(codes[2], 3).bits(0, 3).bits(codes[3], 3).bits(codes[0], 3);
            writer.bits(0, 39).bits(codes[1], 3);
            more(writer);
            writer.pad_with_empty_blocks();
        })
    };
    // Codes: 0 is 00, 1 is 01, 16 is 10, 18 is 11.
    let zeroes = |writer: &mut BitWriter, count: u32| {
        writer.code(3, 2).bits(count - 11, 7);
    };
    let good = block([2, 2, 2, 2], &|writer| {
        zeroes(writer, 138);
        zeroes(writer, 118);
        writer.code(1, 2).code(1, 2).code(0, 1);
    });
    assert_eq!(outcome(&good), Ok(0));
    // A repetition at the start, or beyond the end.
    let first = block([2, 2, 2, 2], &|writer| {
        writer.code(2, 2).bits(0, 2);
    });
    assert_eq!(outcome(&first), Err(InvalidData));
    let beyond = block([2, 2, 2, 2], &|writer| {
        zeroes(writer, 138);
        zeroes(writer, 138);
    });
    assert_eq!(outcome(&beyond), Err(InvalidData));
    // Too many codes, a bit without a code, and no code at all.
    for codes in [[1, 1, 1, 0], [1, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]] {
        let mut long = block(codes, &|_| ());
        long.extend([0; 40]);
        assert_eq!(outcome(&long), Err(InvalidData), "{codes:?}");
    }
}

/// Codes that are longer than the index of a table.
#[test]
fn codes_of_fifteen_bits_are_decoded() {
    let mut lens: Vec<(usize, u8)> = (0..14).map(|symbol| (symbol, symbol as u8 + 1)).collect();
    lens.extend([(256, 15), (257, 15)]);
    let distances: Vec<u8> = (1..15).chain([15, 15]).collect();
    let stream = dynamic(&lens, &distances, |writer| {
        // All literals of 1 to 14 bits: ones and a zero.
        for len in 1..15 {
            writer.code((1 << len) - 2, len);
        }
        // A match of 3 bytes, whose distance symbols 0 and 6 have codes of 1 and 7 bits.
        writer.code(0x7fff, 15).code(0, 1);
        writer.code(0x7fff, 15).code(0x7e, 7).bits(1, 2);
        writer.code(0x7ffe, 15);
    });
    assert_eq!(outcome(&stream), Ok(14 + 6));
    // Distance symbol 15 has 15 bits.
    let far = dynamic(&lens, &distances, |writer| {
        writer.code(0x7fff, 15).code(0x7fff, 15);
    });
    assert_eq!(outcome(&far), Err(InvalidData));
}
