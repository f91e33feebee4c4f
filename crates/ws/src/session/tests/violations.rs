//! The order in which both sides are closed after a violation.

use super::*;
use crate::Strictness;

/// A harness after a violation by this side, and what it was sent before.
fn violation(from: Side) -> Harness {
    let mut harness = Harness::new();
    harness
        .feed_from(from, &[frame(from, 0x82, b"question"), frame(from, 0x83, b"invalid")].concat());
    let error = TerminationReason::ProtocolError(from, ProtocolError::Opcode);
    assert_eq!(harness.session.termination(), Some(error));
    harness
}

fn code(harness: &Harness, to: Side) -> Option<u16> {
    let CloseCodes { to_client, to_backend } = harness.close_codes();
    if to == Client { to_client } else { to_backend }
}

// Requirements: F32.
#[test]
fn answers_precede_the_close_to_the_violator() {
    for from in Side::BOTH {
        let other = from.other();
        let mut harness = violation(from);
        let answers = frame(other, 0x82, b"answer").repeat(3);
        harness.feed_from(other, &answers);
        harness.advance(seconds(4));
        harness.feed_from(other, &answers);
        assert_eq!(*harness.received(from), answers.repeat(2));
        assert_eq!(code(&harness, from), None);
        harness.feed_from(
            other,
            &[answers.clone(), close(other, 4000, "bye"), answers.clone()].concat(),
        );
        assert!(harness.received(from).starts_with(&answers.repeat(3)));
        assert_eq!(harness.received(from)[answers.len() * 3], 0x88);
        assert_eq!(code(&harness, from), Some(1002), "the first cause, not the answer's code");
    }
}

#[test]
fn grace_ends_the_relay_to_the_violator() {
    for from in Side::BOTH {
        let other = from.other();
        let mut harness = violation(from);
        let answer = frame(other, 0x82, b"answer");
        harness.feed_from(other, &answer);
        harness.advance(seconds(5));
        assert!(harness.received(from).starts_with(&answer));
        assert_eq!(code(&harness, from), Some(1002));
        assert_eq!(harness.session.shutdown(other), Abort);
        assert!(!harness.session.is_finished(), "it may read its Close");
        harness.advance(seconds(5));
        assert!(harness.session.is_finished());
    }
}

#[test]
fn grace_inside_an_answer_ends_without_close() {
    for from in Side::BOTH {
        let other = from.other();
        let mut harness = violation(from);
        let answer = frame(other, 0x82, &[7; 1000]);
        harness.feed_from(other, &answer[..500]);
        harness.advance(seconds(5));
        assert_eq!(*harness.received(from), answer[..500]);
        assert_eq!(code(&harness, from), None);
        assert_eq!(harness.shutdowns(), Shutdowns { client: Abort, backend: Abort });
    }
}

#[test]
fn end_of_the_other_side_ends_the_relay() {
    for from in Side::BOTH {
        let other = from.other();
        let mut harness = violation(from);
        let answer = frame(other, 0x82, b"answer");
        harness.feed_from(other, &answer);
        harness.eof(other);
        assert!(harness.received(from).starts_with(&answer));
        assert_eq!(code(&harness, from), Some(1002));
    }
}

#[test]
fn second_violation_ends_the_relay() {
    for from in Side::BOTH {
        let other = from.other();
        let mut harness = violation(from);
        let first = harness.session.termination();
        let answer = frame(other, 0x82, b"answer");
        harness.feed_from(other, &[answer.clone(), frame(other, 0x83, b"invalid")].concat());
        assert!(harness.received(from).starts_with(&answer));
        assert_eq!(code(&harness, from), Some(1002));
        assert_eq!(harness.session.termination(), first, "the first cause is final");
    }
}

#[test]
fn input_of_the_violator_is_discarded() {
    for from in Side::BOTH {
        let mut harness = violation(from);
        let relayed = harness.received(from.other()).len();
        for _ in 0..100 {
            assert_eq!(harness.feed_from(from, &[0x55; 10_000]), 0);
        }
        assert_eq!(harness.received(from.other()).len(), relayed);
        harness.answer_close(from.other());
        assert_eq!(code(&harness, from), Some(1002));
    }
}

#[test]
fn half_closed_violator_receives_answer_and_close() {
    let mut harness = Harness::new();
    harness.feed_from(Client, &header(Client, 0x82, 1 << 40));
    harness.eof(Client);
    let answer = frame(Backend, 0x82, b"answer");
    harness.feed_from(Backend, &answer);
    harness.answer_close(Backend);
    assert!(harness.to_client.starts_with(&answer));
    assert_eq!(code(&harness, Client), Some(1009));
}

/// A Close that is too long or fragmented passes under report. Its sender waits for the end after the answer,
/// as after a valid one.
#[test]
fn invalid_close_that_was_reported_is_a_close() {
    for from in Side::BOTH {
        let other = from.other();
        let end_after = |sent: &[u8]| {
            let policy = SessionPolicy { strict: Strictness::Report, ..policy() };
            let mut harness = Harness::with_policy(policy);
            harness.feed_from(from, sent);
            assert_eq!(*harness.received(other), sent);
            harness.feed_from(other, &close(other, 1002, ""));
            let state = |side| (harness.session.shutdown(side), harness.session.wants_read(side));
            Side::BOTH.map(state)
        };
        let valid = end_after(&close(from, 1000, ""));
        assert_eq!(valid[0].0, CloseWrite);
        assert_eq!(end_after(&frame(from, 0x88, &[3; 126])), valid);
        assert_eq!(end_after(&frame(from, 0x08, &1000u16.to_be_bytes())), valid);
    }
}
