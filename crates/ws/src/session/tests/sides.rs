//! What a backend may send, and how each side is let go of.

use super::*;

// Requirements: FB01.
#[test]
fn masked_backend_frame_is_a_protocol_error() {
    let bytes = frame(Client, 0x81, b"hi");
    assert_eq!(breach(Backend, false, &bytes), (ProtocolError::Masked, 1002));
}

// Requirements: FB02.
#[test]
fn backend_protocol_errors_close_both_sides() {
    for (bytes, expected) in [
        (frame(Backend, 0xc1, b""), ProtocolError::Rsv),
        (frame(Backend, 0x83, b""), ProtocolError::Opcode),
        (vec![0x82, 126, 0, 1, 0], ProtocolError::Length),
        (header(Backend, 0x82, 1 << 63), ProtocolError::Length),
        (frame(Backend, 0x8a, &[0; 126]), ProtocolError::ControlTooLong),
        (frame(Backend, 0x0a, b""), ProtocolError::ControlFragmented),
        (frame(Backend, 0x00, b""), ProtocolError::ContinuationStray),
    ] {
        assert_eq!(breach(Backend, false, &bytes), (expected, 1002));
    }
}

// Requirements: FB03.
#[test]
fn oversized_backend_message_closes_with_1009() {
    let mut talk = Conversation::under(SessionPolicy {
        from_backend: Limits { message: Some(Limit::close(10)), ..Limits::default() },
        ..terms()
    });
    talk.say(Backend, &frame(Backend, 0x82, &[0; 10]));
    talk.say(Backend, &frame(Backend, 0x82, &[0; 11]));
    assert_eq!(talk.session.end(), Some(TerminationReason::Over(Backend, LimitKind::Message)));
    assert_eq!(talk.codes(), (Some(1011), Some(1009)));
    let mut talk = Conversation::new();
    talk.say(Backend, &header(Backend, 0x82, u64::MAX >> 1));
    assert_eq!(talk.session.end(), None, "no limit by default");
}

// Requirements: FB07.
#[test]
fn backend_close_1006_is_a_protocol_error() {
    assert_eq!(breach(Backend, false, &close(Backend, 1006, "")), (ProtocolError::CloseCode, 1002));
}

// Requirements: FB08, FB09.
#[test]
fn backend_eof_or_reset_closes_with_1011() {
    let mut talk = Conversation::new();
    let last = frame(Backend, 0x81, b"last words");
    let half = &frame(Backend, 0x81, b"never finished")[..1];
    assert_eq!(talk.say(Backend, &[&last, half].concat()), 1);
    talk.hang_up(Backend);
    assert_eq!(talk.session.end(), Some(TerminationReason::BackendGone));
    assert_eq!(talk.codes(), (Some(1011), None));
    assert!(talk.to_client.starts_with(&last), "whole frames are delivered first");
    assert_eq!(talk.partings(), (Stay, Finish));
    talk.say(Client, &frame(Client, 0x81, b"to nobody"));
    assert!(talk.to_backend.is_empty());
    talk.say(Client, &close(Client, 1011, ""));
    assert_eq!(talk.partings(), (Finish, Finish));
    talk.hang_up(Client);
    assert!(talk.session.is_over());
}

// Requirements: FB10.
#[test]
fn backend_eof_inside_a_frame_aborts() {
    let mut talk = Conversation::new();
    talk.say(Backend, &frame(Backend, 0x82, &[1; 100])[..50]);
    talk.hang_up(Backend);
    assert_eq!(talk.session.end(), Some(TerminationReason::BackendGone));
    assert_eq!(talk.codes(), (None, None));
    assert_eq!(talk.to_client.len(), 50);
    assert_eq!(talk.partings(), (Finish, Finish));
}

// Requirements: FB12, F18.
#[test]
fn unanswered_close_is_answered_after_the_grace() {
    for from in Side::BOTH {
        let mut talk = Conversation::new();
        talk.say(from, &close(from, 4321, "why"));
        talk.pass(seconds(5) - Duration::from_nanos(1));
        assert!(talk.received(from).is_empty());
        talk.pass(Duration::from_nanos(1));
        let answer = talk.received(from).clone();
        assert_eq!(answer.len(), if from == Client { 4 } else { 8 }, "the code, no reason");
        assert_eq!(talk.codes(), (Some(4321), Some(4321)));
        assert_eq!(talk.session.parting(from.other()), Abort);
        assert!(!talk.session.is_over(), "it may take the answer");
        assert_eq!(talk.session.deadline(), Some(talk.now + seconds(5)), "and no longer");
        talk.hang_up(from);
        assert_eq!(talk.session.parting(from), Finish);
        assert!(talk.session.is_over());
    }
}

#[test]
fn a_peer_that_leaves_instead_of_answering_lets_us_answer_at_once() {
    for from in Side::BOTH {
        let mut talk = Conversation::new();
        talk.say(from, &frame(from, 0x88, b""));
        talk.hang_up(from.other());
        assert_eq!(talk.codes(), (Some(1005), Some(1005)), "empty as it was");
        talk.hang_up(from);
        assert!(talk.session.is_over());
        assert_eq!(talk.partings(), (Finish, Finish));
    }
}

#[test]
fn a_broken_answer_is_replaced_by_ours() {
    let mut talk = Conversation::new();
    talk.say(Client, &close(Client, 1000, ""));
    talk.say(Backend, b"\xff\xff");
    assert_eq!(talk.session.end(), Some(TerminationReason::ClientClosed));
    assert_eq!(talk.codes(), (Some(1000), Some(1000)));
    assert_eq!(talk.partings(), (Finish, Finish));
}

// Requirements: F3.
#[test]
fn own_frames_use_fresh_mask_keys() {
    let mut keys = std::collections::HashSet::new();
    let mut entropy = crate::sample::CountingEntropy::default();
    for _ in 0..10_000 {
        let code = Some(CloseCode::GOING_AWAY);
        let close = ControlFrame::close(Backend, code, "idle", &mut entropy);
        let bytes = close.as_bytes();
        assert_eq!((bytes[0], bytes[1]), (0x88, 0x80 | 6));
        assert!(keys.insert(bytes[2..6].to_vec()));
        let clear: Vec<u8> = (0..6).map(|i| bytes[6 + i] ^ bytes[2 + i % 4]).collect();
        assert_eq!(clear, b"\x03\xe9idle");
    }
    let close = ControlFrame::close(Client, Some(CloseCode::TOO_BIG), "big", &mut entropy);
    assert_eq!(close.as_bytes(), b"\x88\x05\x03\xf1big");
}

// Requirements: F4, F9, F11, F12.
#[test]
fn valid_frames_pass_verbatim() {
    let mut talk = Conversation::new();
    let both = |from: Side| {
        [
            frame(from, 0x01, b"frag"),
            frame(from, 0x89, b"ping between"),
            frame(from, 0x00, b""),
            frame(from, 0x8a, &[0; 125]),
            frame(from, 0x80, b"ment"),
            frame(from, 0x82, b""),
        ]
        .concat()
    };
    let (up, down) = (both(Client), both(Backend));
    talk.say(Client, &up);
    talk.say(Backend, &down);
    assert_eq!(talk.to_backend, up);
    assert_eq!(talk.to_client, down);
    let flow = |bytes: &[u8]| DirectionStats {
        bytes: bytes.len() as u64,
        messages: 2,
        compressed: 0,
        largest: 8,
    };
    assert_eq!(*talk.session.tally(), Stats { up: flow(&up), down: flow(&down) });
}

// Requirements: F13.
#[test]
fn close_waits_for_the_frame_in_progress() {
    for from in Side::BOTH {
        let to = from.other();
        let mut talk = Conversation::new();
        let long = frame(from, 0x82, &vec![0; 1 << 20]);
        talk.say(from, &long[..1000]);
        talk.session.leave(TerminationReason::Drained, None, talk.now);
        talk.round();
        talk.say(from, &long[1000..2000]);
        assert_eq!(talk.session.end(), Some(TerminationReason::Drained));
        assert_eq!(talk.received(to), &long[..2000]);
        assert!(!talk.received(from).is_empty(), "the other direction is told at once");
        let rest = [&long[2000..], &frame(from, 0x81, b"not any more")].concat();
        talk.say(from, &rest);
        assert_eq!(talk.codes(), (Some(1012), Some(1001)));
        assert_eq!(talk.received(to)[..long.len()], long);
        let close = talk.received(to).split_off(long.len());
        assert_eq!(close.len(), (close[1] & 0x7f) as usize + if to == Client { 2 } else { 6 });
    }
}

#[test]
fn a_close_that_nobody_takes_is_not_waited_for() {
    let mut talk = Conversation::new();
    talk.session.leave(TerminationReason::Drained, None, talk.now);
    talk.now += seconds(5);
    talk.session.tick(talk.now);
    assert!(talk.session.is_over());
    assert_eq!(talk.codes(), (None, None));
}

#[test]
fn a_frame_that_does_not_end_in_time_ends_without_a_close() {
    let mut talk = Conversation::new();
    talk.say(Backend, &frame(Backend, 0x82, &[0; 100])[..50]);
    talk.session.leave(TerminationReason::Drained, None, talk.now);
    talk.round();
    talk.pass(seconds(5));
    assert_eq!(talk.codes(), (None, Some(1001)));
    assert_eq!(talk.partings(), (Abort, Abort));
    assert!(talk.session.is_over());
}

// Requirements: F19.
#[test]
fn client_tcp_is_closed_before_the_backend() {
    let mut talk = Conversation::new();
    talk.say(Backend, &close(Backend, 1000, ""));
    assert_eq!(talk.partings(), (Stay, Stay));
    talk.say(Client, &close(Client, 1000, ""));
    assert_eq!(talk.partings(), (Finish, Stay));
    talk.hang_up(Client);
    talk.pass(seconds(4));
    assert_eq!(talk.partings(), (Finish, Stay));
    talk.pass(seconds(1));
    assert_eq!(talk.partings(), (Finish, Finish), "its FIN is not waited for longer");
    assert!(talk.session.is_over());
}

// Requirements: F20, F21.
#[test]
fn peer_pings_and_pongs_pass() {
    let mut talk = Conversation::new();
    let token = talk.ping();
    let mut other = token;
    other[7] ^= 1;
    for pong in [&other[..], &token[..7], b"", b"unasked for"] {
        talk.to_backend.clear();
        let pong = frame(Client, 0x8a, pong);
        talk.say(Client, &pong);
        assert_eq!(talk.to_backend, pong);
    }
    talk.to_client.clear();
    let pong = frame(Backend, 0x8a, &token);
    talk.say(Backend, &pong);
    assert_eq!(talk.to_client, pong, "only the client is asked");
    let ping = frame(Client, 0x89, &token);
    talk.to_backend.clear();
    talk.say(Client, &ping);
    assert_eq!(talk.to_backend, ping);
}

// Requirements: F29.
#[test]
fn rsv1_only_on_first_frame_of_message() {
    let lawful = [frame(Client, 0x41, b"a"), frame(Client, 0x80, b"b")].concat();
    let mut talk = Conversation::compressed(terms(), DeflateMode::Pass);
    talk.say(Client, &lawful);
    assert_eq!(talk.to_backend, lawful);
    for first in [0xc0, 0xc8, 0xc9, 0xca] {
        assert_eq!(breach(Client, true, &frame(Client, first, b"")), (ProtocolError::Rsv, 1002));
    }
}

#[test]
fn a_client_that_only_half_closed_gets_the_rest() {
    let mut talk = Conversation::new();
    talk.hang_up(Client);
    assert_eq!(talk.session.end(), Some(TerminationReason::ClientGone));
    assert_eq!(talk.codes(), (None, Some(1001)));
    assert_eq!(talk.partings(), (Stay, Stay));
    let rest = frame(Backend, 0x81, b"the answer");
    talk.say(Backend, &[rest.clone(), close(Backend, 1001, "")].concat());
    assert_eq!(talk.to_client, rest, "but no Close: it sent none");
    assert_eq!(talk.codes(), (None, Some(1001)));
    assert_eq!(talk.session.parting(Client), Finish);
    talk.hang_up(Backend);
    assert!(talk.session.is_over());
}

#[test]
fn a_side_that_can_not_be_written_to_is_not_waited_for() {
    let mut talk = Conversation::new();
    talk.session.hangup(Client, talk.now);
    talk.session.hangup(Client, talk.now);
    assert_eq!(talk.session.parting(Client), Abort);
    talk.say(Backend, &[frame(Backend, 0x81, b"?"), close(Backend, 1001, "")].concat());
    assert!(talk.to_client.is_empty());
    talk.hang_up(Backend);
    assert!(talk.session.is_over());
}

#[test]
fn a_client_that_is_reset_inside_a_frame_leaves_it_unfinished() {
    let mut talk = Conversation::under(SessionPolicy { heartbeat_client: None, ..terms() });
    talk.say(Client, &frame(Client, 0x82, &[0; 100])[..50]);
    talk.session.written(Client, 1000, talk.now);
    talk.now += seconds(30);
    talk.session.tick(talk.now);
    talk.session.written(Client, 1000, talk.now);
    talk.pass(seconds(5));
    assert_eq!(talk.partings(), (Abort, Abort), "nothing lawful can be said to the backend");
}

#[test]
fn drain_takes_the_configured_code_and_ends_early_when_answered() {
    let drain_code = CloseCode::new(4500).expect("lawful");
    let mut talk = Conversation::under(SessionPolicy { drain_code, ..terms() });
    talk.session.leave(TerminationReason::Drained, None, talk.now);
    talk.round();
    assert_eq!(talk.codes(), (Some(4500), Some(1001)));
    talk.say(Client, &frame(Client, 0x81, b"too late"));
    talk.say(Client, &close(Client, 4500, ""));
    talk.say(Backend, &close(Backend, 1001, ""));
    assert_eq!(talk.partings(), (Finish, Stay));
    talk.hang_up(Backend);
    talk.hang_up(Client);
    assert!(talk.session.is_over());
    assert_eq!(talk.session.tally().up, DirectionStats::default());
}

#[test]
fn abort_is_at_once_and_keeps_an_earlier_name() {
    let mut talk = Conversation::new();
    talk.session.abort(talk.now);
    assert_eq!(talk.session.end(), Some(TerminationReason::Aborted));
    assert!(talk.session.is_over());
    assert_eq!(talk.partings(), (Abort, Abort));
    assert!(talk.inject(Client).is_none() && talk.inject(Backend).is_none());
    let mut talk = Conversation::new();
    talk.session.leave(TerminationReason::Drained, None, talk.now);
    talk.session.abort(talk.now);
    assert_eq!(talk.session.end(), Some(TerminationReason::Drained));
    assert!(talk.session.is_over());
}

#[test]
fn many_small_frames_are_one_run() {
    let mut talk = Conversation::new();
    let many = frame(Client, 0x82, b"16 bytes payload").repeat(1000);
    let run = talk.intake(Client, &many);
    assert_eq!(run, RecvAction::Forward(many.len()));
    assert_eq!(talk.session.tally().up.messages, 1000);
}
