//! Text messages that must be UTF-8.

use super::*;
use crate::policy::Strictness;
use crate::violation::Violation;

const ERROR: TerminationReason = TerminationReason::ProtocolError(Client, ProtocolError::Utf8);

fn checked() -> Harness {
    Harness::with_policy(SessionPolicy { utf8: true, ..policy() })
}

/// Sends bytes of the client that arrive in pieces of this size.
fn feed_in_pieces(harness: &mut Harness, bytes: &[u8], size: usize) {
    let mut rest = Vec::new();
    for piece in bytes.chunks(size) {
        rest.extend(piece);
        let left = harness.feed_from(Client, &rest);
        rest.drain(..rest.len() - left);
    }
}

// Requirements: FC40.
#[test]
fn invalid_text_does_not_pass() {
    let valid = frame(Client, 0x81, "valid \u{1f30a}".as_bytes());
    for invalid in [&b"\xff"[..], b"begin \xc3\x28 end", b"cut \xe2\x82", b"\xed\xa0\x80"] {
        let mut harness = checked();
        harness.feed_from(Client, &[&valid[..], &valid, &frame(Client, 0x81, invalid)].concat());
        assert_eq!(harness.session.termination(), Some(ERROR));
        assert_eq!(harness.to_backend[..2 * valid.len()], valid.repeat(2));
        assert_eq!(harness.to_backend[2 * valid.len()], 0x88, "no byte of the invalid frame");
        harness.answer_close(Backend);
        assert_eq!(
            harness.close_codes(),
            CloseCodes { to_client: Some(1007), to_backend: Some(1001) }
        );
    }
}

// Requirements: FC40.
#[test]
fn text_passes_however_fragmented_and_split() {
    let text = "\u{20ac}\u{1f30a}e\u{301} and so on".repeat(30);
    for part in [1, 2, 7, 1000] {
        let parts: Vec<&[u8]> = text.as_bytes().chunks(part).collect();
        let mut message = Vec::new();
        for (at, payload) in parts.iter().enumerate() {
            let first = if at == 0 { 0x01 } else { 0x00 };
            let fin = if at + 1 == parts.len() { 0x80 } else { 0x00 };
            message.extend(frame(Client, first | fin, payload));
            message.extend(frame(Client, 0x8a, b"\xff between"));
        }
        let message =
            [message, frame(Client, 0x82, b"\xff binary"), frame(Client, 0x81, b"")].concat();
        for size in [1, 3, 50, 10_000] {
            let mut policy = SessionPolicy { utf8: true, ..policy() };
            policy.from_client.control_frames = None;
            policy.from_client.fragments = None;
            let mut harness = Harness::with_policy(policy);
            feed_in_pieces(&mut harness, &message, size);
            assert_eq!((harness.session.termination(), &harness.to_backend), (None, &message));
        }
    }
}

// Requirements: FC40.
#[test]
fn first_invalid_byte_ends_a_long_frame() {
    let text = [&b"x".repeat(1000)[..], b"\xf0\x9f", &b"y".repeat(1000)].concat();
    let message = frame(Client, 0x81, &text);
    let bad = message.len() - 1000;
    let mut harness = checked();
    feed_in_pieces(&mut harness, &message, 1);
    // A Close does not fit inside the frame.
    assert!(harness.to_backend == message[..bad]);
    assert_eq!(harness.session.termination(), Some(ERROR));
    assert_eq!(harness.session.shutdown(Backend), CloseWrite);
    harness.eof(Backend);
    assert_eq!(harness.close_codes(), CloseCodes { to_client: Some(1007), to_backend: None });
}

#[test]
fn fragments_are_checked_together() {
    let begin = frame(Client, 0x01, b"\xe2\x82");
    for (last, valid) in [(b"\xac", true), (b"a", false), (b"\xff", false)] {
        let mut harness = checked();
        harness.feed_from(Client, &[begin.clone(), frame(Client, 0x80, last)].concat());
        assert_eq!(harness.session.termination(), (!valid).then_some(ERROR));
        assert!(harness.to_backend.starts_with(&begin));
    }
    let mut harness = checked();
    harness.feed_from(Client, &[begin, frame(Client, 0x80, b"")].concat());
    assert_eq!(harness.session.termination(), Some(ERROR), "the last character is incomplete");
}

#[test]
fn only_text_of_the_client_is_checked() {
    let invalid = b"\xff\xfe";
    let mut harness = checked();
    let binary = [frame(Client, 0x02, invalid), frame(Client, 0x80, invalid)].concat();
    harness.feed_from(Client, &binary);
    harness.feed_from(Backend, &frame(Backend, 0x81, invalid));
    assert_eq!((harness.session.termination(), harness.to_backend), (None, binary));
    let compressed = frame(Client, 0xc1, invalid);
    let policy = SessionPolicy { utf8: true, ..policy() };
    let mut harness = Harness::with_deflate(policy, DeflateMode::Pass);
    harness.feed_from(Client, &compressed);
    assert_eq!((harness.session.termination(), harness.to_backend), (None, compressed));
}

#[test]
fn invalid_text_can_be_reported() {
    let policy = SessionPolicy { utf8: true, strict: Strictness::Report, ..policy() };
    let mut harness = Harness::with_policy(policy);
    let messages = [
        frame(Client, 0x81, b"\xff"),
        frame(Client, 0x01, b"a\xff"),
        frame(Client, 0x00, b"\xff"),
        frame(Client, 0x80, b"\xc3"),
        frame(Client, 0x81, b"valid"),
    ]
    .concat();
    harness.feed_from(Client, &messages);
    assert_eq!((harness.session.termination(), &harness.to_backend), (None, &messages));
    let reported: Vec<_> = harness.session.reported(Client).iter().collect();
    assert_eq!(reported, [Violation::ProtocolError(ProtocolError::Utf8)]);
}

#[test]
fn message_after_an_invalid_text_is_discarded() {
    let mut harness = checked();
    harness.feed_from(Client, &frame(Client, 0x81, b"\xff"));
    assert_eq!(harness.feed_from(Client, &frame(Client, 0x81, b"more")), 0);
    assert_eq!(harness.session.stats().up.messages, 0);
}

/// A last fragment that is reported and passes ends the check of its message.
#[test]
fn reported_last_fragment_ends_its_message() {
    let policy = SessionPolicy { utf8: true, strict: Strictness::Report, ..policy() };
    let mut harness = Harness::with_policy(policy);
    harness.feed_from(Client, &frame(Client, 0x01, b"abc"));
    harness.feed_from(Client, &frame(Client, 0xa0, b"def"));
    let reported = harness.session.reported(Client);
    feed_in_pieces(&mut harness, &frame(Client, 0x82, &[0xff; 300]), 20);
    assert_eq!(harness.session.reported(Client), reported, "the binary message is valid");
    assert_eq!(harness.session.termination(), None);
}
