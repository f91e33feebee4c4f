//! What holds for any compressed message of a client that is looked into: another decompressor
//! says how large it is, and neither fragments nor pieces make a difference.

use std::sync::Arc;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use ws::{
    Breach, Cap, Deflate, End, Entropy, Intake, Limits, Moment, Rule, Session, Side, Sizes, Terms,
};

use crate::reference::frame;

/// The first two bytes say how it is cut, the rest is the message; `lawful`: it is what an endpoint may send.
pub fn drive(script: &[u8], lawful: bool) {
    let Some((&[fragments, pieces], message)) = script.split_first_chunk::<2>() else { return };
    if message.len() as u64 > LIMIT {
        return;
    }
    let truth = reference(message);
    let whole = frame(Side::Client, 0xc2, message);
    let (end, passed) = relay(&whole, usize::MAX);
    if message.len() as u64 <= LIMIT / 1032 {
        assert_eq!((end, passed.len()), (None, whole.len()), "too short to be too large");
    } else {
        check(&truth, end, lawful);
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
        check(&truth, end, lawful);
        assert!(all.starts_with(&passed));
        assert_eq!(passed.len() == all.len(), end.is_none(), "{truth:?}");
    }
}

/// What is in a message.
#[derive(Debug)]
struct Truth {
    size: u64,
    /// There is a fault in it, behind so much.
    faulty: bool,
}

/// Its size is never in doubt. Of what is a fault, and how soon it shows, decompressors think
/// differently.
fn check(truth: &Truth, end: Option<End>, lawful: bool) {
    let over = Some(End::Over(Side::Client, Rule::Inflated));
    let breach = Some(End::Breach(Side::Client, Breach::Inflate));
    let right = if truth.size > LIMIT { over } else { None };
    assert!(end == right || (end == breach && !lawful), "{truth:?} {end:?}");
    assert!(!(lawful && truth.faulty), "{truth:?}");
}

fn reference(message: &[u8]) -> Truth {
    let all = [message, &[0, 0, 0xff, 0xff]].concat();
    let mut input = &all[..];
    // As much as can come out of it, in one piece: only so are references to nothing noticed.
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
            return Truth { size, faulty: !whole };
        }
    }
}

/// What passes when it comes in pieces of this size, and how the session stands then.
fn relay(bytes: &[u8], piece: usize) -> (Option<End>, Vec<u8>) {
    let limits = Limits { message: Some(Cap::close(LIMIT)), ..Limits::default() };
    let terms = Terms { from_client: limits, ..Terms::default() };
    let mut session = Session::new(Arc::new(terms), Deflate::Inspect, &mut Zeroes);
    let (mut passed, mut unread) = (Vec::new(), Vec::new());
    for more in bytes.chunks(piece.min(bytes.len())) {
        unread.extend(more);
        while !unread.is_empty() {
            match session.intake(Side::Client, &unread, Moment::START, &mut Sizes::default()) {
                Intake::Forward(len) => passed.extend(unread.drain(..len)),
                Intake::Discard(len) => drop(unread.drain(..len)),
                Intake::Starved | Intake::Paused => break,
            }
        }
    }
    (session.end(), passed)
}

struct Zeroes;

impl Entropy for Zeroes {
    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

/// Small, so that little is needed to pass it.
const LIMIT: u64 = 20_000;
