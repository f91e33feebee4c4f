use flate2::{Compress, Compression, FlushCompress};

use super::*;
use crate::{LimitAction, PerSide, RecvAction, Strictness, Violation};

/// Messages may refer to earlier ones.
pub(super) const KEPT: DeflateMode =
    DeflateMode::Inspect { context_takeover: PerSide { client: true, backend: true } };
/// Every message starts with an empty window.
pub(super) const RESET: DeflateMode =
    DeflateMode::Inspect { context_takeover: PerSide { client: false, backend: false } };

/// Compresses a message as an endpoint does (RFC 7692 7.2.1).
pub(super) fn compress(message: &[u8]) -> Vec<u8> {
    compress_next(&mut Compress::new(Compression::best(), false), message)
}

/// Compresses a message of an endpoint that keeps its window.
pub(super) fn compress_next(compressor: &mut Compress, message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(message.len() + 1024);
    compressor.compress_vec(message, &mut bytes, FlushCompress::Sync).expect("capacity");
    bytes.truncate(bytes.len() - 4);
    bytes
}

pub(super) fn with_limit(limit: u64, deflate: DeflateMode) -> Harness {
    let mut policy = policy();
    policy.from_client.message = Some(Limit::close(limit));
    policy.from_backend.message = Some(Limit::close(limit));
    Harness::with_deflate(policy, deflate)
}

/// Splits a compressed message into fragments of `size` bytes.
fn fragments(payload: &[u8], size: usize) -> Vec<Vec<u8>> {
    let count = payload.len().div_ceil(size);
    let fragment = |(at, part): (usize, &[u8])| {
        let first = if at == 0 { 0x42 } else { 0x00 };
        frame(Client, first | if at + 1 == count { 0x80 } else { 0 }, part)
    };
    payload.chunks(size).enumerate().map(fragment).collect()
}

// Requirements: FC33.
#[test]
fn decompression_bomb_stops_at_the_limit() {
    let bomb = compress(&vec![0; 2 << 20]);
    let mut harness = with_limit(1 << 20, KEPT);
    let before = frame(Client, 0xc2, &compress(b"hello"));
    harness.feed_from(Client, &[before.clone(), frame(Client, 0xc2, &bomb)].concat());
    assert_eq!(
        harness.session.termination(),
        Some(TerminationReason::LimitExceeded(Client, LimitKind::Inflated))
    );
    harness.answer_close(Backend);
    assert_eq!(harness.close_codes(), CloseCodes { to_client: Some(1009), to_backend: Some(1001) });
    assert!(harness.to_backend.starts_with(&before));
    assert_eq!(harness.to_backend[before.len()], 0x88, "not a byte of the bomb has passed");
}

// Requirements: FC33.
#[test]
fn fragmented_bomb_stops_before_its_end() {
    let bomb = compress(&vec![0; 2 << 20]);
    for size in [1, 100, 700] {
        let mut harness = with_limit(1 << 20, KEPT);
        let all = fragments(&bomb, size);
        let mut passed = 0;
        for fragment in all.iter().take_while(|_| true) {
            harness.feed_from(Client, fragment);
            if harness.session.termination().is_some() {
                break;
            }
            passed += 1;
        }
        let reason = harness.session.termination().expect("an end");
        assert!(
            matches!(
                reason,
                TerminationReason::LimitExceeded(
                    Client,
                    LimitKind::Inflated | LimitKind::Fragments
                )
            ),
            "{reason:?}"
        );
        assert!(passed < all.len());
        if size == 700 {
            assert_eq!(reason, TerminationReason::LimitExceeded(Client, LimitKind::Inflated));
            // Half of it, plus what zlib buffers.
            assert!(passed <= all.len() / 2 + 1, "{passed} of {}", all.len());
        }
    }
}

#[test]
fn message_at_the_limit_passes_however_fragmented() {
    let message: Vec<u8> = (0..100_000_u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
    let compressed = compress(&message);
    for (limit, passes) in [(message.len() as u64, true), (message.len() as u64 - 1, false)] {
        for size in [400, 3000, compressed.len()] {
            let mut harness = with_limit(limit, KEPT);
            let all = fragments(&compressed, size).concat();
            let mut rest = Vec::new();
            for chunk in all.chunks(999) {
                rest.extend(chunk);
                let left = harness.feed_from(Client, &rest);
                rest = rest.split_off(rest.len() - left);
            }
            assert_eq!(harness.session.termination().is_none(), passes, "{size}");
            if passes {
                assert_eq!(harness.to_backend, all);
                let up = harness.session.stats().up;
                assert_eq!((up.messages, up.compressed), (1, 1));
                assert_eq!(up.largest, compressed.len() as u64);
            } else {
                assert_eq!(
                    harness.session.termination(),
                    Some(TerminationReason::LimitExceeded(Client, LimitKind::Inflated))
                );
            }
        }
    }
}

#[test]
fn incompressible_message_at_the_limit_passes() {
    // Small stored blocks, as produced by encoders with little memory.
    let message: Vec<u8> =
        (0..100_000_u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
    let stored = |part: &[u8]| {
        let len = part.len() as u16;
        [&[0][..], &len.to_le_bytes(), &(!len).to_le_bytes(), part].concat()
    };
    let mut compressed = message.chunks(128).map(stored).collect::<Vec<_>>().concat();
    compressed.push(0);
    assert!(compressed.len() > message.len() + 3000);
    for (limit, end) in [
        (message.len() as u64, None),
        (
            message.len() as u64 - 1,
            Some(TerminationReason::LimitExceeded(Client, LimitKind::Inflated)),
        ),
    ] {
        for size in [3000, compressed.len()] {
            let mut harness = with_limit(limit, KEPT);
            harness.feed_from(Client, &fragments(&compressed, size).concat());
            assert_eq!(harness.session.termination(), end, "{size}");
        }
        let mut uninspected = with_limit(limit, DeflateMode::Pass);
        uninspected.feed_from(Client, &frame(Client, 0xc2, &compressed));
        assert_eq!(
            uninspected.session.termination(),
            Some(TerminationReason::LimitExceeded(Client, LimitKind::Message))
        );
    }
}

#[test]
fn empty_blocks_without_end_are_stopped() {
    let empty_blocks = [0, 0, 0, 0xff, 0xff].repeat(4000);
    for size in [100, empty_blocks.len()] {
        let mut harness = with_limit(10_000, KEPT);
        harness.feed_from(Client, &fragments(&empty_blocks, size).concat());
        assert_eq!(
            harness.session.termination(),
            Some(TerminationReason::LimitExceeded(Client, LimitKind::Message)),
            "{size}"
        );
    }
}

// Requirements: FC33.
#[test]
fn without_inspection_only_wire_bytes_count() {
    let bomb = frame(Client, 0xc2, &compress(&vec![0; 8 << 20]));
    let mut harness = with_limit(1 << 20, DeflateMode::Pass);
    harness.feed_from(Client, &bomb);
    assert_eq!((harness.session.termination(), harness.to_backend), (None, bomb));
}

// Requirements: FC34.
#[test]
fn invalid_deflate_data_closes_with_1007() {
    let garbage = frame(Client, 0xc2, &[0xff; 2000]);
    let mut inspected = with_limit(1 << 20, KEPT);
    inspected.feed_from(Client, &garbage);
    assert_eq!(
        inspected.session.termination(),
        Some(TerminationReason::ProtocolError(Client, ProtocolError::Inflate))
    );
    inspected.answer_close(Backend);
    assert_eq!(
        inspected.close_codes(),
        CloseCodes { to_client: Some(1007), to_backend: Some(1001) }
    );
    let mut uninspected = with_limit(1 << 20, DeflateMode::Pass);
    uninspected.feed_from(Client, &garbage);
    assert_eq!(uninspected.session.termination(), None);
}

#[test]
fn size_and_deflate_errors_can_be_reported() {
    let mut policy = policy();
    policy.from_client.message = Some(Limit { max: 1 << 20, action: LimitAction::Report });
    policy.strict = Strictness::Report;
    let mut harness = Harness::with_deflate(policy, KEPT);
    let mut compressor = Compress::new(Compression::best(), false);
    let frames = [
        frame(Client, 0xc2, &compress_next(&mut compressor, &vec![0; 2 << 20])),
        frame(Client, 0xc2, &[0xff; 2000]),
        // Refers to the first message.
        frame(Client, 0xc2, &compress_next(&mut compressor, &[0; 100])),
    ];
    harness.feed_from(Client, &frames.concat());
    assert_eq!((harness.session.termination(), &harness.to_backend), (None, &frames.concat()));
    let reported: Vec<_> = harness.session.reported(Client).iter().collect();
    assert_eq!(
        reported,
        [
            Violation::LimitExceeded(LimitKind::Inflated),
            Violation::ProtocolError(ProtocolError::Inflate)
        ]
    );
    // The rest is not measured.
    let size = harness.session.reported_size(Client);
    assert!(size.is_some_and(|size| size > 1 << 20 && size <= 2 << 20), "{size:?}");
}

// Requirements: FC33.
#[test]
fn bombs_of_the_backend_stop_at_its_limit() {
    let bomb = frame(Backend, 0xc2, &compress(&vec![0; 2 << 20]));
    for mode in [KEPT, RESET] {
        let mut harness = with_limit(1 << 20, mode);
        harness.feed_from(Backend, &bomb);
        let reason = TerminationReason::LimitExceeded(Backend, LimitKind::Inflated);
        assert_eq!(harness.session.termination(), Some(reason));
        harness.answer_close(Client);
        assert_eq!(harness.close_codes().to_backend, Some(1009));
        assert_eq!(harness.to_client[0], 0x88, "not a byte of the bomb has passed");
        // By default, only the messages of clients are limited.
        let mut harness = Harness::with_deflate(policy(), mode);
        harness.feed_from(Backend, &bomb);
        assert_eq!((harness.session.termination(), &harness.to_client), (None, &bomb));
    }
}

#[test]
fn bomb_in_an_invalid_frame_is_inspected() {
    let bomb = compress(&vec![0; 2 << 20]);
    let mut policy = policy();
    policy.from_client.message = Some(Limit::close(1 << 20));
    policy.strict = Strictness::Report;
    let masked = frame(Client, 0xc2, &bomb);
    let body = &masked[4..];
    // A longer length encoding; two reserved bits; no mask; inside another message.
    let long = [&[0xc2, 0xff][..], &(bomb.len() as u64).to_be_bytes(), body].concat();
    let two_bits = [&[0xe2], &masked[1..]].concat();
    let unmasked = frame(Backend, 0xc2, &bomb);
    let inside = [frame(Client, 0x01, b"begun"), masked.clone()].concat();
    for (at, compressed) in [long, two_bits, unmasked, inside].iter().enumerate() {
        let mut harness = Harness::with_deflate(policy.clone(), KEPT);
        harness.feed_from(Client, compressed);
        assert_eq!(
            harness.session.termination(),
            Some(TerminationReason::LimitExceeded(Client, LimitKind::Inflated)),
            "{at}"
        );
    }
}

#[test]
fn inspection_reports_its_work_per_message() {
    let mut harness = with_limit(1 << 20, KEPT);
    let message = frame(Client, 0xc2, &compress(&vec![0; 1 << 20]));
    let two = message.repeat(2);
    assert_eq!(
        harness.handle_recv(Client, &two),
        RecvAction::Forward(message.len()),
        "one at a time"
    );
    let work = harness.sizes.work;
    assert!(work > 16 * 1000, "by its compressed size: {work}");
    assert_eq!(harness.handle_recv(Client, &message), RecvAction::Forward(message.len()));
    assert_eq!(harness.sizes.work, 2 * work);
}

#[test]
fn close_after_an_oversized_message_is_read() {
    let noise: Vec<u8> =
        (0..60_000_u32).flat_map(|i| (i.wrapping_mul(0x9e37_79b9)).to_be_bytes()).collect();
    let mut harness = with_limit(150_000, KEPT);
    let compressed = compress(&noise);
    assert!(compressed.len() > 100_000);
    let last_close = close(Client, 1009, "");
    assert_eq!(
        harness.feed_from(Client, &[frame(Client, 0xc2, &compressed), last_close].concat()),
        0
    );
    assert!(
        matches!(harness.session.termination(), Some(TerminationReason::LimitExceeded(Client, _))),
        "{:?}",
        harness.session.termination()
    );
    harness.eof(Backend);
    assert_eq!(harness.close_codes().to_client, Some(1009));
    assert_eq!(harness.session.shutdown(Client), CloseWrite);
    assert!(harness.session.wants_read(Client), "its FIN is awaited");
    harness.eof(Client);
    assert!(harness.session.is_finished());
}

#[test]
fn unknown_frame_inside_an_inspected_message_passes() {
    let mut policy = policy();
    policy.strict = Strictness::Report;
    let mut harness = Harness::with_deflate(policy, KEPT);
    let compressed = compress(&vec![b'a'; 5000]);
    let (first, last) = compressed.split_at(compressed.len() / 2);
    let all = [
        frame(Client, 0x42, first),
        frame(Client, 0x83, &[0x88; 50_000]),
        frame(Client, 0x80, last),
    ]
    .concat();
    assert_eq!(harness.feed_from(Client, &all), 0);
    assert_eq!((harness.session.termination(), harness.to_backend), (None, all));
    assert_eq!(harness.session.stats().up.messages, 1);
}

/// The costliest input for its length: blocks that define codes and contain nothing.
#[test]
fn step_with_many_empty_blocks_is_short() {
    let four_blocks: [u8; 45] = [
        0x04, 0xc0, 0x81, 0x00, 0x00, 0x00, 0x00, 0x00, 0x90, 0xff, 0x6b, 0x10, 0x00, 0x07, 0x02,
        0x00, 0x00, 0x00, 0x00, 0x40, 0xfe, 0xaf, 0x41, 0x00, 0x1c, 0x08, 0x00, 0x00, 0x00, 0x00,
        0x00, 0xf9, 0xbf, 0x06, 0x01, 0x70, 0x20, 0x00, 0x00, 0x00, 0x00, 0x00, 0xe4, 0xff, 0x1a,
    ];
    let payload = [&four_blocks.repeat(1000)[..], &[0]].concat();
    let mut harness = with_limit(1 << 20, KEPT);
    let message = frame(Client, 0xc2, &payload);
    let (mut passed, mut work) = (0, 0);
    while passed < message.len() {
        let RecvAction::Forward(len) = harness.handle_recv(Client, &message[passed..]) else {
            panic!("{:?}", harness.session.termination());
        };
        // The driver reads the clock after each 16 KiB of work.
        let spent = harness.sizes.work - work;
        assert!(len < 4500 && (len < 4000 || spent > 128 * 1024), "{spent} for {len} bytes");
        (passed, work) = (passed + len, work + spent);
    }
    assert_eq!(harness.session.stats().up.messages, 1);
}
