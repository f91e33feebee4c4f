//! Frames from the backend, and how each side is closed.

use super::*;
use crate::session::recv::DISCARDED_BYTES_MAX;

// Requirements: FB01.
#[test]
fn masked_backend_frame_is_a_protocol_error() {
    let bytes = frame(Client, 0x81, b"hi");
    assert_eq!(protocol_error(Backend, false, &bytes), (ProtocolError::Masked, 1002));
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
        (frame(Backend, 0x00, b""), ProtocolError::StrayContinuation),
    ] {
        assert_eq!(protocol_error(Backend, false, &bytes), (expected, 1002));
    }
}

// Requirements: FB03.
#[test]
fn oversized_backend_message_closes_with_1009() {
    let mut harness = Harness::with_policy(SessionPolicy {
        from_backend: Limits { message: Some(Limit::close(10)), ..Limits::default() },
        ..policy()
    });
    harness.feed_from(Backend, &frame(Backend, 0x82, &[0; 10]));
    harness.feed_from(Backend, &frame(Backend, 0x82, &[0; 11]));
    assert_eq!(
        harness.session.termination(),
        Some(TerminationReason::LimitExceeded(Backend, LimitKind::Message))
    );
    harness.answer_close(Client);
    assert_eq!(harness.close_codes(), CloseCodes { to_client: Some(1013), to_backend: Some(1009) });
    let mut harness = Harness::new();
    harness.feed_from(Backend, &header(Backend, 0x82, u64::MAX >> 1));
    assert_eq!(harness.session.termination(), None, "no limit by default");
}

// Requirements: FB07.
#[test]
fn backend_close_1006_is_a_protocol_error() {
    assert_eq!(
        protocol_error(Backend, false, &close(Backend, 1006, "")),
        (ProtocolError::CloseCode, 1002)
    );
}

// Requirements: FB08, FB09.
#[test]
fn backend_eof_or_reset_closes_with_1012() {
    let mut harness = Harness::new();
    let last = frame(Backend, 0x81, b"last message");
    let half = &frame(Backend, 0x81, b"never finished")[..1];
    assert_eq!(harness.feed_from(Backend, &[&last, half].concat()), 1);
    harness.eof(Backend);
    assert_eq!(harness.session.termination(), Some(TerminationReason::BackendDisconnected));
    assert_eq!(harness.close_codes(), CloseCodes { to_client: Some(1012), to_backend: None });
    assert!(harness.to_client.starts_with(&last), "complete frames are delivered first");
    assert_eq!(harness.shutdowns(), Shutdowns { client: KeepOpen, backend: CloseWrite });
    harness.feed_from(Client, &frame(Client, 0x81, b"undeliverable"));
    assert!(harness.to_backend.is_empty());
    harness.feed_from(Client, &close(Client, 1012, ""));
    assert_eq!(harness.shutdowns(), Shutdowns { client: CloseWrite, backend: CloseWrite });
    harness.eof(Client);
    assert!(harness.session.is_finished());
}

// Requirements: FB10.
#[test]
fn backend_eof_inside_a_frame_aborts() {
    let mut harness = Harness::new();
    harness.feed_from(Backend, &frame(Backend, 0x82, &[1; 100])[..50]);
    harness.eof(Backend);
    assert_eq!(harness.session.termination(), Some(TerminationReason::BackendDisconnected));
    assert_eq!(harness.close_codes(), CloseCodes { to_client: None, to_backend: None });
    assert_eq!(harness.to_client.len(), 50);
    assert_eq!(harness.shutdowns(), Shutdowns { client: CloseWrite, backend: CloseWrite });
}

// Requirements: FB12, F18.
#[test]
fn unanswered_close_is_answered_after_the_grace() {
    for from in Side::BOTH {
        let mut harness = Harness::new();
        harness.feed_from(from, &close(from, 4321, "why"));
        harness.advance(seconds(5) - Duration::from_nanos(1));
        assert!(harness.received(from).is_empty());
        harness.advance(Duration::from_nanos(1));
        let answer = harness.received(from).clone();
        assert_eq!(answer.len(), if from == Client { 4 } else { 8 }, "the code, no reason");
        assert_eq!(
            harness.close_codes(),
            CloseCodes { to_client: Some(4321), to_backend: Some(4321) }
        );
        assert_eq!(harness.session.shutdown(from.other()), Abort);
        assert!(!harness.session.is_finished(), "it may read the answer");
        assert_eq!(harness.session.poll_timeout(), Some(harness.now + seconds(5)), "and no longer");
        harness.eof(from);
        assert_eq!(harness.session.shutdown(from), CloseWrite);
        assert!(harness.session.is_finished());
    }
}

#[test]
fn eof_instead_of_an_answer_is_answered_at_once() {
    for from in Side::BOTH {
        let mut harness = Harness::new();
        harness.feed_from(from, &frame(from, 0x88, b""));
        harness.eof(from.other());
        assert_eq!(
            harness.close_codes(),
            CloseCodes { to_client: Some(1005), to_backend: Some(1005) },
            "without a code, as received"
        );
        harness.eof(from);
        assert!(harness.session.is_finished());
        assert_eq!(harness.shutdowns(), Shutdowns { client: CloseWrite, backend: CloseWrite });
    }
}

#[test]
fn invalid_answer_is_replaced_by_the_proxy() {
    let mut harness = Harness::new();
    harness.feed_from(Client, &close(Client, 1000, ""));
    harness.feed_from(Backend, b"\xff\xff");
    assert_eq!(harness.session.termination(), Some(TerminationReason::ClientClosed));
    assert_eq!(harness.close_codes(), CloseCodes { to_client: Some(1000), to_backend: Some(1000) });
    assert_eq!(harness.shutdowns(), Shutdowns { client: CloseWrite, backend: CloseWrite });
}

// Requirements: F3.
#[test]
fn own_frames_use_fresh_mask_keys() {
    let mut keys = std::collections::HashSet::new();
    let mut entropy = crate::test_support::CountingEntropy::default();
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
    let mut harness = Harness::new();
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
    harness.feed_from(Client, &up);
    harness.feed_from(Backend, &down);
    assert_eq!(harness.to_backend, up);
    assert_eq!(harness.to_client, down);
    let flow = |bytes: &[u8]| DirectionStats {
        bytes: bytes.len() as u64,
        messages: 2,
        compressed: 0,
        largest: 8,
    };
    assert_eq!(*harness.session.stats(), Stats { up: flow(&up), down: flow(&down) });
}

// Requirements: F13.
#[test]
fn close_waits_for_the_frame_in_progress() {
    for from in Side::BOTH {
        let to = from.other();
        let mut harness = Harness::new();
        let long = frame(from, 0x82, &vec![0; 1 << 20]);
        harness.feed_from(from, &long[..1000]);
        harness.session.close(&DRAIN, harness.now);
        harness.flush();
        harness.feed_from(from, &long[1000..2000]);
        assert_eq!(harness.session.termination(), Some(TerminationReason::Drained));
        assert_eq!(harness.received(to), &long[..2000]);
        assert!(!harness.received(from).is_empty(), "the other direction is closed at once");
        let rest = [&long[2000..], &frame(from, 0x81, b"not relayed")].concat();
        harness.feed_from(from, &rest);
        assert_eq!(
            harness.close_codes(),
            CloseCodes { to_client: Some(1012), to_backend: Some(1001) }
        );
        assert_eq!(harness.received(to)[..long.len()], long);
        let close = harness.received(to).split_off(long.len());
        assert_eq!(close.len(), (close[1] & 0x7f) as usize + if to == Client { 2 } else { 6 });
    }
}

#[test]
fn unsent_close_ends_with_the_grace() {
    let mut harness = Harness::new();
    harness.session.close(&DRAIN, harness.now);
    harness.now += seconds(5);
    harness.session.handle_timeout(harness.now);
    assert!(harness.session.is_finished());
    assert_eq!(harness.close_codes(), CloseCodes { to_client: None, to_backend: None });
}

#[test]
fn frame_unfinished_after_grace_gets_no_close() {
    let mut harness = Harness::new();
    harness.feed_from(Backend, &frame(Backend, 0x82, &[0; 100])[..50]);
    harness.session.close(&DRAIN, harness.now);
    harness.flush();
    harness.advance(seconds(5));
    assert_eq!(harness.close_codes(), CloseCodes { to_client: None, to_backend: Some(1001) });
    assert_eq!(harness.shutdowns(), Shutdowns { client: Abort, backend: Abort });
    assert!(harness.session.is_finished());
}

// Requirements: F19.
#[test]
fn client_tcp_is_closed_before_the_backend() {
    let mut harness = Harness::new();
    harness.feed_from(Backend, &close(Backend, 1000, ""));
    assert_eq!(harness.shutdowns(), Shutdowns { client: KeepOpen, backend: KeepOpen });
    harness.feed_from(Client, &close(Client, 1000, ""));
    assert_eq!(harness.shutdowns(), Shutdowns { client: CloseWrite, backend: KeepOpen });
    harness.eof(Client);
    harness.advance(seconds(4));
    assert_eq!(harness.shutdowns(), Shutdowns { client: CloseWrite, backend: KeepOpen });
    harness.advance(seconds(1));
    assert_eq!(
        harness.shutdowns(),
        Shutdowns { client: CloseWrite, backend: CloseWrite },
        "its FIN is no longer awaited"
    );
    assert!(harness.session.is_finished());
}

// Requirements: F20, F21.
#[test]
fn peer_pings_and_pongs_pass() {
    let mut harness = Harness::new();
    let payload = harness.next_ping();
    let mut other = payload;
    other[7] ^= 1;
    for pong in [&other[..], &payload[..7], b"", b"unsolicited"] {
        harness.to_backend.clear();
        let pong = frame(Client, 0x8a, pong);
        harness.feed_from(Client, &pong);
        assert_eq!(harness.to_backend, pong);
    }
    harness.to_client.clear();
    let pong = frame(Backend, 0x8a, &payload);
    harness.feed_from(Backend, &pong);
    assert_eq!(harness.to_client, pong, "only the client is pinged");
    let ping = frame(Client, 0x89, &payload);
    harness.to_backend.clear();
    harness.feed_from(Client, &ping);
    assert_eq!(harness.to_backend, ping);
}

// Requirements: F29.
#[test]
fn rsv1_only_on_first_frame_of_message() {
    let valid = [frame(Client, 0x41, b"a"), frame(Client, 0x80, b"b")].concat();
    let mut harness = Harness::with_deflate(policy(), DeflateMode::Pass);
    harness.feed_from(Client, &valid);
    assert_eq!(harness.to_backend, valid);
    for first in [0xc0, 0xc8, 0xc9, 0xca] {
        assert_eq!(
            protocol_error(Client, true, &frame(Client, first, b"")),
            (ProtocolError::Rsv, 1002)
        );
    }
}

#[test]
fn half_closed_client_receives_the_rest() {
    let mut harness = Harness::new();
    harness.eof(Client);
    assert_eq!(harness.session.termination(), Some(TerminationReason::ClientDisconnected));
    assert_eq!(harness.close_codes(), CloseCodes { to_client: None, to_backend: Some(1001) });
    assert_eq!(harness.shutdowns(), Shutdowns { client: KeepOpen, backend: KeepOpen });
    let rest = frame(Backend, 0x81, b"the reply");
    harness.feed_from(Backend, &[rest.clone(), close(Backend, 1001, "")].concat());
    assert_eq!(harness.to_client, rest, "but no Close, as it sent none");
    assert_eq!(harness.close_codes(), CloseCodes { to_client: None, to_backend: Some(1001) });
    assert_eq!(harness.session.shutdown(Client), CloseWrite);
    harness.eof(Backend);
    assert!(harness.session.is_finished());
}

#[test]
fn unwritable_side_is_not_awaited() {
    let mut harness = Harness::new();
    harness.session.handle_eof(Client, harness.now);
    harness.session.handle_eof(Client, harness.now);
    assert_eq!(harness.session.shutdown(Client), Abort);
    harness.feed_from(Backend, &[frame(Backend, 0x81, b"?"), close(Backend, 1001, "")].concat());
    assert!(harness.to_client.is_empty());
    harness.eof(Backend);
    assert!(harness.session.is_finished());
}

#[test]
fn client_reset_inside_a_frame_sends_no_close() {
    let mut harness = Harness::with_policy(SessionPolicy { heartbeat_client: None, ..policy() });
    harness.feed_from(Client, &frame(Client, 0x82, &[0; 100])[..50]);
    harness.session.handle_written(Client, 1000, harness.now);
    harness.now += seconds(30);
    harness.session.handle_timeout(harness.now);
    harness.session.handle_written(Client, 1000, harness.now);
    harness.advance(seconds(5));
    assert_eq!(
        harness.shutdowns(),
        Shutdowns { client: Abort, backend: Abort },
        "the backend's frame is incomplete"
    );
}

#[test]
fn drain_uses_its_code_and_ends_when_answered() {
    let drain_code = CloseCode::new(4500).expect("a valid code");
    let mut harness = Harness::with_policy(SessionPolicy { drain_code, ..policy() });
    harness.session.close(&DRAIN, harness.now);
    harness.flush();
    assert_eq!(harness.close_codes(), CloseCodes { to_client: Some(4500), to_backend: Some(1001) });
    harness.feed_from(Client, &frame(Client, 0x81, b"too late"));
    harness.feed_from(Client, &close(Client, 4500, ""));
    harness.feed_from(Backend, &close(Backend, 1001, ""));
    assert_eq!(harness.shutdowns(), Shutdowns { client: CloseWrite, backend: KeepOpen });
    harness.eof(Backend);
    harness.eof(Client);
    assert!(harness.session.is_finished());
    assert_eq!(harness.session.stats().up, DirectionStats::default());
}

#[test]
fn abort_is_immediate_and_keeps_the_first_reason() {
    let mut harness = Harness::new();
    harness.session.abort(harness.now);
    assert_eq!(harness.session.termination(), Some(TerminationReason::Aborted));
    assert!(harness.session.is_finished());
    assert_eq!(harness.shutdowns(), Shutdowns { client: Abort, backend: Abort });
    assert!(harness.poll_control(Client).is_none() && harness.poll_control(Backend).is_none());
    let mut harness = Harness::new();
    harness.session.close(&DRAIN, harness.now);
    harness.session.abort(harness.now);
    assert_eq!(harness.session.termination(), Some(TerminationReason::Drained));
    assert!(harness.session.is_finished());
}

#[test]
fn many_small_frames_are_forwarded_together() {
    let mut harness = Harness::new();
    let many = frame(Client, 0x82, b"16 bytes payload").repeat(1000);
    let run = harness.handle_recv(Client, &many);
    assert_eq!(run, RecvAction::Forward(many.len()));
    assert_eq!(harness.session.stats().up.messages, 1000);
}

#[test]
fn side_that_sends_on_after_its_violation_is_reset() {
    let mut harness = Harness::new();
    harness.feed_from(Client, &frame(Client, 0x83, b""));
    assert!(harness.session.termination().is_some());
    let mib = vec![7; 1024 * 1024];
    let sent = (0..100).take_while(|_| {
        harness.feed_from(Client, &mib);
        harness.session.shutdown(Client) != Shutdown::Abort
    });
    assert_eq!(sent.count(), DISCARDED_BYTES_MAX as usize / mib.len());
}
