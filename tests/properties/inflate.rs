//! Invariants of inspected compressed messages: the size matches another decompressor, and neither
//! fragmentation nor splitting of the input changes the result.

use std::sync::Arc;
use std::time::Duration;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use ws::{
    DeflateMode, Entropy, Limit, LimitKind, Limits, MessageSizes, PerSide, ProtocolError,
    RecvAction, Session, SessionPolicy, Side, TerminationReason, Timestamp,
};

use crate::reference::frame;

/// The first two bytes choose how the message, which is the rest, is split. `valid`: the message is
/// one an endpoint may send.
pub fn drive(script: &[u8], valid: bool) {
    let Some((&[fragments, pieces], message)) = script.split_first_chunk::<2>() else { return };
    if message.len() as u64 > LIMIT {
        return;
    }
    let pieces = [usize::MAX, usize::from(pieces) + 1];
    let size = message.len().div_ceil(usize::from(fragments % 7) + 2).max(1);
    let expected = reference(message, 1);
    let next = reference(message, 2);
    let second = Expected { size: next.size - expected.size, invalid: next.invalid };
    for side in Side::BOTH {
        single(side, message, size, pieces, &expected, valid);
        repeated(side, message, size, pieces, [&expected, &second], valid);
    }
}

/// One message of a sender that starts each with an empty window.
fn single(
    side: Side,
    message: &[u8],
    size: usize,
    pieces: [usize; 2],
    expected: &Expected,
    valid: bool,
) {
    let whole = frames(side, message, usize::MAX);
    let (end, passed) = relay(side, false, &whole, usize::MAX);
    if message.len() as u64 <= LIMIT / 1032 {
        assert_eq!((end, passed.len()), (None, whole.len()), "too short to exceed the limit");
    } else {
        check(side, expected, end, valid);
        assert_eq!(passed.len() == whole.len(), end.is_none());
        // The first 4 KiB are measured before anything passes.
        assert!(end.is_none() || message.len() > 4096 || passed.is_empty());
    }
    if message.len() <= size {
        return;
    }
    let all = frames(side, message, size);
    for piece in pieces {
        let (end, passed) = relay(side, false, &all, piece);
        check(side, expected, end, valid);
        assert!(all.starts_with(&passed));
        assert_eq!(passed.len() == all.len(), end.is_none(), "{expected:?}");
    }
}

/// The message twice, of a sender that keeps its window: the second may refer to the first.
fn repeated(
    side: Side,
    message: &[u8],
    size: usize,
    pieces: [usize; 2],
    expected: [&Expected; 2],
    valid: bool,
) {
    let mut ends = Vec::new();
    for size in [usize::MAX, size] {
        let one = frames(side, message, size);
        let all = one.repeat(2);
        for piece in pieces {
            let (end, passed) = relay(side, true, &all, piece);
            assert!(all.starts_with(&passed));
            assert_eq!(passed.len() == all.len(), end.is_none(), "{expected:?}");
            let is_second = passed.len() >= one.len();
            // An invalid message may end with or without a whole block, which the reference does
            // not tell apart.
            if !is_second || valid {
                check(side, expected[usize::from(is_second)], end, valid);
            }
            ends.push(end);
        }
    }
    assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
}

/// The message in frames of this size.
fn frames(side: Side, message: &[u8], size: usize) -> Vec<u8> {
    if message.len() <= size {
        return frame(side, 0xc2, message);
    }
    let count = message.len().div_ceil(size);
    let fragment = |(at, part): (usize, &[u8])| {
        let first = if at == 0 { 0x42 } else { 0x00 };
        frame(side, first | if at + 1 == count { 0x80 } else { 0 }, part)
    };
    message.chunks(size).enumerate().flat_map(fragment).collect()
}

/// A message according to the reference decompressor.
#[derive(Debug)]
struct Expected {
    /// More than the limit if it is larger than [`ROOM`].
    size: u64,
    /// Invalid after that many bytes.
    invalid: bool,
}

/// The size must match. Decompressors differ in what they reject, and how early.
fn check(side: Side, expected: &Expected, end: Option<TerminationReason>, valid: bool) {
    let over = Some(TerminationReason::LimitExceeded(side, LimitKind::Inflated));
    let breach = Some(TerminationReason::ProtocolError(side, ProtocolError::Inflate));
    let right = if expected.size > LIMIT { over } else { None };
    assert!(end == right || (end == breach && !valid), "{expected:?} {end:?}");
    assert!(!(valid && expected.invalid), "{expected:?}");
}

/// The total size of the message, sent this many times.
fn reference(message: &[u8], times: usize) -> Expected {
    let all = [message, &[0, 0, 0xff, 0xff]].concat().repeat(times);
    let mut input = &all[..];
    // One buffer for the output: only then are invalid back references detected.
    let mut room = vec![0; ROOM];
    let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF | TINFL_FLAG_HAS_MORE_INPUT;
    let mut size = 0;
    loop {
        let mut state = Box::<DecompressorOxide>::default();
        let (status, used, written) = decompress(&mut state, input, &mut room, 0, flags);
        input = &input[used..];
        size += written as u64;
        if status != TINFLStatus::Done || input.is_empty() {
            let invalid = !matches!(
                status,
                TINFLStatus::Done | TINFLStatus::NeedsMoreInput | TINFLStatus::HasMoreOutput
            );
            return Expected { size, invalid };
        }
    }
}

/// Sends the bytes in pieces of this size; returns the session's end and the relayed bytes.
fn relay(
    from: Side,
    takeover: bool,
    bytes: &[u8],
    piece: usize,
) -> (Option<TerminationReason>, Vec<u8>) {
    let limits = Limits { message: Some(Limit::close(LIMIT)), ..Limits::default() };
    let terms =
        SessionPolicy { from_client: limits, from_backend: limits, ..SessionPolicy::default() };
    let context_takeover = PerSide { client: takeover, backend: takeover };
    let mode = DeflateMode::Inspect { context_takeover };
    let mut session = Session::new(Arc::new(terms), mode, Duration::ZERO, &mut Zeroes);
    let (mut passed, mut unread) = (Vec::new(), Vec::new());
    for more in bytes.chunks(piece.min(bytes.len())) {
        unread.extend(more);
        while !unread.is_empty() {
            match session.handle_recv(from, &unread, Timestamp::START, &mut MessageSizes::default())
            {
                RecvAction::Forward(len) => passed.extend(unread.drain(..len)),
                RecvAction::Discard(len) => drop(unread.drain(..len)),
                RecvAction::Incomplete | RecvAction::Paused => break,
            }
        }
    }
    (session.termination(), passed)
}

struct Zeroes;

impl Entropy for Zeroes {
    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

/// Small, so that little input exceeds it.
const LIMIT: u64 = 20_000;
/// Output for which there is room: more than two messages at the limit.
const ROOM: usize = 3 * LIMIT as usize;
