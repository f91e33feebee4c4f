//! Invariants of inspected compressed messages: the size matches another decompressor, and neither
//! fragmentation nor splitting of the input changes the result.

use std::sync::Arc;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use ws::{
    DeflateMode, Entropy, Limit, LimitKind, Limits, MessageSizes, ProtocolError, RecvAction,
    Session, SessionPolicy, Side, TerminationReason, Timestamp,
};

use crate::reference::frame;

/// The first two bytes choose how the message, which is the rest, is split. `valid`: the message is
/// one an endpoint may send.
pub fn drive(script: &[u8], valid: bool) {
    let Some((&[fragments, pieces], message)) = script.split_first_chunk::<2>() else { return };
    if message.len() as u64 > LIMIT {
        return;
    }
    let expected = reference(message);
    let whole = frame(Side::Client, 0xc2, message);
    let (end, passed) = relay(&whole, usize::MAX);
    if message.len() as u64 <= LIMIT / 1032 {
        assert_eq!((end, passed.len()), (None, whole.len()), "too short to exceed the limit");
    } else {
        check(&expected, end, valid);
        assert_eq!(passed.len(), if end.is_none() { whole.len() } else { 0 });
    }

    let size = message.len().div_ceil(usize::from(fragments % 7) + 2).max(1);
    let count = message.len().div_ceil(size);
    let fragment = |(at, part): (usize, &[u8])| {
        let first = if at == 0 { 0x42 } else { 0x00 };
        frame(Side::Client, first | if at + 1 == count { 0x80 } else { 0 }, part)
    };
    let all: Vec<u8> = message.chunks(size).enumerate().flat_map(fragment).collect();
    if count < 2 {
        return;
    }
    for piece in [usize::MAX, usize::from(pieces) + 1] {
        let (end, passed) = relay(&all, piece);
        check(&expected, end, valid);
        assert!(all.starts_with(&passed));
        assert_eq!(passed.len() == all.len(), end.is_none(), "{expected:?}");
    }
}

/// A message according to the reference decompressor.
#[derive(Debug)]
struct Expected {
    size: u64,
    /// Invalid after that many bytes.
    invalid: bool,
}

/// The size must match. Decompressors differ in what they reject, and how early.
fn check(expected: &Expected, end: Option<TerminationReason>, valid: bool) {
    let over = Some(TerminationReason::LimitExceeded(Side::Client, LimitKind::Inflated));
    let breach = Some(TerminationReason::ProtocolError(Side::Client, ProtocolError::Inflate));
    let right = if expected.size > LIMIT { over } else { None };
    assert!(end == right || (end == breach && !valid), "{expected:?} {end:?}");
    assert!(!(valid && expected.invalid), "{expected:?}");
}

fn reference(message: &[u8]) -> Expected {
    let all = [message, &[0, 0, 0xff, 0xff]].concat();
    let mut input = &all[..];
    // One buffer for the maximum output: only then are invalid back references detected.
    let mut room = vec![0; all.len() * 1032 + 1];
    let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF | TINFL_FLAG_HAS_MORE_INPUT;
    let mut size = 0;
    loop {
        let mut state = Box::<DecompressorOxide>::default();
        let (status, used, written) = decompress(&mut state, input, &mut room, 0, flags);
        input = &input[used..];
        size += written as u64;
        if status != TINFLStatus::Done || input.is_empty() {
            let whole = matches!(status, TINFLStatus::Done | TINFLStatus::NeedsMoreInput);
            return Expected { size, invalid: !whole };
        }
    }
}

/// Sends the bytes in pieces of this size; returns the session's end and the relayed bytes.
fn relay(bytes: &[u8], piece: usize) -> (Option<TerminationReason>, Vec<u8>) {
    let limits = Limits { message: Some(Limit::close(LIMIT)), ..Limits::default() };
    let terms = SessionPolicy { from_client: limits, ..SessionPolicy::default() };
    let mut session = Session::new(Arc::new(terms), DeflateMode::Inspect, &mut Zeroes);
    let (mut passed, mut unread) = (Vec::new(), Vec::new());
    for more in bytes.chunks(piece.min(bytes.len())) {
        unread.extend(more);
        while !unread.is_empty() {
            match session.handle_recv(
                Side::Client,
                &unread,
                Timestamp::START,
                &mut MessageSizes::default(),
            ) {
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
