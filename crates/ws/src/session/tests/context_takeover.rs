//! Compressed messages whose sender keeps its window (RFC 7692 7.1.1), or does not.

use flate2::{Compress, Compression, FlushCompress};

use super::deflate::{KEPT, RESET, compress, compress_next, with_limit};
use super::*;

#[test]
fn messages_refer_to_earlier_messages_of_their_side() {
    let lines = (0..20).map(|n| format!("{n}: the same sixty bytes in each line of this chat.."));
    let lines: Vec<String> = lines.collect();
    for side in [Client, Backend] {
        let mut compressor = Compress::new(Compression::best(), false);
        let compressed = lines.iter().map(|line| compress_next(&mut compressor, line.as_bytes()));
        let compressed: Vec<Vec<u8>> = compressed.collect();
        let frames: Vec<Vec<u8>> =
            compressed.iter().map(|payload| frame(side, 0xc1, payload)).collect();
        assert!(frames.concat().len() < lines.concat().len() / 2);
        let mut harness = with_limit(lines[19].len() as u64, KEPT);
        assert_eq!(harness.feed_from(side, &frames.concat()), 0);
        assert_eq!(harness.session.termination(), None);
        assert_eq!(harness.received(side.other()), &frames.concat());
        // A byte less is allowed: all lines but those with two digits.
        let mut harness = with_limit(lines[19].len() as u64 - 1, KEPT);
        harness.feed_from(side, &frames.concat());
        let reason = TerminationReason::LimitExceeded(side, LimitKind::Inflated);
        assert_eq!(harness.session.termination(), Some(reason));
        assert!(harness.received(side.other()).starts_with(&frames[..10].concat()));
        // The second line alone refers to data that was never sent.
        let mut harness = with_limit(1000, KEPT);
        harness.feed_from(side, &frames[1]);
        let reason = TerminationReason::ProtocolError(side, ProtocolError::Inflate);
        assert_eq!(harness.session.termination(), Some(reason));
    }
}

// Requirements: FC34.
#[test]
fn message_ending_within_a_block_closes_with_1007() {
    // A receiver that keeps its window takes the next message for the rest of this block.
    for payload in [&[0x00, 0x10, 0x00, 0xef, 0xff, 1][..], &[0xf2, 0x48], &[0, 0, 0, 0xff]] {
        let bytes = frame(Client, 0xc2, payload);
        let mut kept = with_limit(1 << 20, KEPT);
        kept.feed_from(Client, &bytes);
        let reason = TerminationReason::ProtocolError(Client, ProtocolError::Inflate);
        assert_eq!(kept.session.termination(), Some(reason));
        kept.answer_close(Backend);
        assert_eq!(
            kept.close_codes(),
            CloseCodes { to_client: Some(1007), to_backend: Some(1001) }
        );
        let mut reset = with_limit(1 << 20, RESET);
        reset.feed_from(Client, &bytes);
        assert_eq!((reset.session.termination(), reset.to_backend), (None, bytes));
    }
}

/// An empty payload, as some libraries send for an empty message, and whole streams, which `ws` and
/// Bun accept.
#[test]
fn messages_without_an_empty_block_at_the_end_pass() {
    let stream = |text: &[u8]| {
        let mut bytes = Vec::with_capacity(1024);
        let mut compressor = Compress::new(Compression::best(), false);
        compressor.compress_vec(text, &mut bytes, FlushCompress::Finish).expect("capacity");
        bytes
    };
    let hello = stream(b"hello");
    let next = compress(b"next");
    let invalid = Some(TerminationReason::ProtocolError(Client, ProtocolError::Inflate));
    for (payloads, end) in [
        ([&hello[..], &stream(b"again"), &next, &[0x00]], None),
        ([&next, &[], &next, &[]], None),
        // A decompressor of zlib that continues would take these for the rest of a stored block.
        ([&next, &hello, &[0x00], &[]], invalid),
        ([&next, &[], &[0x00, 0x01, 0x00, 0xfe, 0xff, 7, 0x00], &[]], invalid),
        ([&next, &[], &[], &[0x00]], invalid),
        ([&next, &hello, &[], &[]], invalid),
    ] {
        let frames = payloads.map(|payload| frame(Client, 0xc2, payload));
        for size in [1, usize::MAX] {
            let mut harness = with_limit(1000, KEPT);
            let mut rest = Vec::new();
            for chunk in frames.concat().chunks(size) {
                rest.extend(chunk);
                let left = harness.feed_from(Client, &rest);
                rest = rest.split_off(rest.len() - left);
            }
            assert_eq!(harness.session.termination(), end, "{payloads:x?}");
            let passed = if end.is_none() { 4 } else { 2 };
            assert!(harness.to_backend.starts_with(&frames[..passed].concat()));
        }
        let mut reset = with_limit(1000, RESET);
        reset.feed_from(Client, &frames.concat());
        assert_eq!((reset.session.termination(), reset.to_backend), (None, frames.concat()));
    }
}

#[test]
fn short_messages_without_takeover_are_not_measured() {
    let garbage = frame(Client, 0xc2, &[0xff; 1016]);
    let mut harness = with_limit(1 << 20, RESET);
    harness.feed_from(Client, &garbage);
    assert_eq!((harness.session.termination(), &harness.to_backend), (None, &garbage));
    harness.feed_from(Client, &frame(Client, 0xc2, &[0xff; 1017]));
    let reason = TerminationReason::ProtocolError(Client, ProtocolError::Inflate);
    assert_eq!(harness.session.termination(), Some(reason));
}
