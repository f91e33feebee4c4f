//! Which frames pass and which end the session: mostly frames of the client, in the order of RFC 6455
//! section 5, and the Close frames of both sides.

use super::*;

#[test]
fn session_and_heartbeat_stay_small() {
    assert!(size_of::<Session>() <= 400, "{}", size_of::<Session>());
    assert!(size_of::<Heartbeat>() <= 64, "{}", size_of::<Heartbeat>());
}

// Requirements: FC01.
#[test]
fn unmasked_client_frame_is_a_protocol_error() {
    let bytes = frame(Backend, 0x81, b"hi");
    assert_eq!(protocol_error(Client, false, &bytes), (ProtocolError::Unmasked, 1002));
}

// Requirements: FC02.
#[test]
fn reserved_bits_are_a_protocol_error() {
    for (first, deflate) in
        [(0xc1, false), (0xa1, false), (0x91, false), (0xa1, true), (0x91, true)]
    {
        let bytes = frame(Client, first, b"hi");
        assert_eq!(protocol_error(Client, deflate, &bytes), (ProtocolError::Rsv, 1002));
    }
}

// Requirements: FC03.
#[test]
fn reserved_opcodes_are_a_protocol_error() {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        let bytes = frame(Client, 0x80 | opcode, b"hi");
        assert_eq!(protocol_error(Client, false, &bytes), (ProtocolError::Opcode, 1002));
    }
}

// Requirements: FC04.
#[test]
fn length_must_use_the_shortest_form() {
    for bytes in [
        &[0x82, 0xfe, 0, 10, 0, 0, 0, 0][..],
        &[0x82, 0xfe, 0, 125],
        &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0x03, 0xe8],
        &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
    ] {
        assert_eq!(protocol_error(Client, false, bytes), (ProtocolError::Length, 1002));
    }
}

// Requirements: FC05.
#[test]
fn length_must_not_set_the_top_bit() {
    let bytes = header(Client, 0x82, 1 << 63);
    assert_eq!(protocol_error(Client, false, &bytes), (ProtocolError::Length, 1002));
}

// Requirements: FC06.
#[test]
fn huge_length_is_rejected_at_its_header() {
    let mut harness = Harness::new();
    assert_eq!(harness.feed_from(Client, &header(Client, 0x82, 1 << 62)), 0);
    assert_eq!(
        harness.session.termination(),
        Some(TerminationReason::LimitExceeded(Client, LimitKind::Message))
    );
    harness.answer_close(Backend);
    assert_eq!(harness.close_codes(), CloseCodes { to_client: Some(1009), to_backend: Some(1001) });
    assert_eq!(
        harness.to_backend.len(),
        harness.to_backend[1] as usize % 128 + 6,
        "only the proxy's Close"
    );
}

// Requirements: FC07.
#[test]
fn message_passes_at_limit_and_closes_above() {
    for (len, valid) in [(1 << 20, true), ((1 << 20) + 1, false)] {
        let mut harness = Harness::new();
        let message = frame(Client, 0x82, &vec![1; len]);
        assert_eq!(harness.feed_from(Client, &message), 0);
        assert_eq!(harness.to_backend == message, valid);
        assert_eq!(harness.session.termination().is_none(), valid);
    }
}

// Requirements: FC08.
#[test]
fn fragments_count_together_towards_message_size() {
    let mut harness = Harness::new();
    let begin = frame(Client, 0x02, &vec![1; (1 << 20) - 10]);
    let ping = frame(Client, 0x89, b"between");
    let exact = frame(Client, 0x00, &[1; 10]);
    harness.feed_from(Client, &[begin, ping, exact].concat());
    assert_eq!(harness.session.termination(), None, "exactly the limit");
    let relayed = harness.to_backend.len();
    harness.feed_from(Client, &header(Client, 0x80, 1));
    assert_eq!(
        harness.session.termination(),
        Some(TerminationReason::LimitExceeded(Client, LimitKind::Message))
    );
    assert_eq!(harness.to_backend[relayed], 0x88);
    // The next message is counted from zero.
    let mut harness = Harness::new();
    let message = frame(Client, 0x82, &vec![1; 1 << 20]);
    harness.feed_from(Client, &message.repeat(3));
    assert_eq!(harness.session.stats().up.messages, 3);
}

#[test]
fn oversized_message_is_discarded_until_the_peer_closes() {
    let mut harness = Harness::new();
    let message = frame(Client, 0x82, &vec![1; (1 << 20) + 1]);
    for part in message.chunks(5000) {
        harness.feed_from(Client, part);
        assert_eq!(harness.shutdowns(), Shutdowns { client: KeepOpen, backend: KeepOpen });
    }
    harness.feed_from(Client, &close(Client, 1009, ""));
    assert_eq!(harness.shutdowns(), Shutdowns { client: KeepOpen, backend: KeepOpen });
    harness.answer_close(Backend);
    assert_eq!(harness.shutdowns(), Shutdowns { client: CloseWrite, backend: KeepOpen });
}

// Requirements: FC11.
#[test]
fn continuation_without_start_is_a_protocol_error() {
    let bytes = frame(Client, 0x80, b"hi");
    assert_eq!(protocol_error(Client, false, &bytes), (ProtocolError::StrayContinuation, 1002));
}

// Requirements: FC12.
#[test]
fn new_message_inside_fragmented_one_is_rejected() {
    let bytes = [frame(Client, 0x01, b"a"), frame(Client, 0x81, b"b")].concat();
    let mut harness = Harness::new();
    harness.feed_from(Client, &bytes);
    assert_eq!(
        harness.session.termination(),
        Some(TerminationReason::ProtocolError(Client, ProtocolError::InterleavedMessage))
    );
    harness.answer_close(Backend);
    assert_eq!(harness.close_codes(), CloseCodes { to_client: Some(1002), to_backend: Some(1001) });
}

// Requirements: FC13.
#[test]
fn control_frames_must_be_short_and_whole() {
    for (bytes, expected) in [
        (frame(Client, 0x89, &[0; 126]), ProtocolError::ControlTooLong),
        (frame(Client, 0x09, b"a"), ProtocolError::ControlFragmented),
        (frame(Client, 0x08, b""), ProtocolError::ControlFragmented),
    ] {
        assert_eq!(protocol_error(Client, false, &bytes), (expected, 1002));
    }
}

// Requirements: FC16.
#[test]
fn unsolicited_pong_passes() {
    let mut harness = Harness::new();
    let payload = harness.next_ping();
    let pong = frame(Client, 0x8a, &payload);
    harness.feed_from(Client, &pong);
    assert!(harness.to_backend.is_empty(), "it answers the proxy's ping");
    harness.feed_from(Client, &pong);
    assert_eq!(harness.to_backend, pong, "the second one is unsolicited");
}

// Requirements: FC19.
#[test]
fn close_without_code_passes() {
    let mut harness = Harness::new();
    let empty = frame(Client, 0x88, b"");
    harness.feed_from(Client, &empty);
    assert_eq!(harness.to_backend, empty);
    assert_eq!(harness.close_codes(), CloseCodes { to_client: None, to_backend: Some(1005) });
    assert_eq!(harness.session.termination(), Some(TerminationReason::ClientClosed));
}

// Requirements: FC20.
#[test]
fn one_byte_close_is_a_protocol_error() {
    let bytes = frame(Client, 0x88, b"1");
    assert_eq!(protocol_error(Client, false, &bytes), (ProtocolError::CloseLength, 1002));
}

// Requirements: FC21.
#[test]
fn invalid_close_codes_are_a_protocol_error() {
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535] {
        let bytes = close(Client, code, "");
        assert_eq!(protocol_error(Client, false, &bytes), (ProtocolError::CloseCode, 1002));
    }
}

// Requirements: FC22.
#[test]
fn close_reason_must_be_utf8() {
    let bytes = frame(Client, 0x88, b"\x03\xe8\xc3\x28");
    assert_eq!(protocol_error(Client, false, &bytes), (ProtocolError::CloseReason, 1007));
}

// Requirements: FC23, FB06.
#[test]
fn valid_closes_pass_verbatim() {
    let reason = "é".repeat(61) + "!";
    for from in Side::BOTH {
        for code in [1000, 1001, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 4001, 4999] {
            let mut harness = Harness::new();
            let close = close(from, code, &reason);
            harness.feed_from(from, &close);
            assert_eq!(harness.received(from.other()), &close);
        }
    }
}

// Requirements: FC24, FB13.
#[test]
fn nothing_passes_after_a_close() {
    for from in Side::BOTH {
        let mut harness = Harness::new();
        let first_close = close(from, 1000, "");
        let after =
            [frame(from, 0x81, b"late"), first_close.clone(), b"\xff\xff".to_vec()].concat();
        assert_eq!(harness.feed_from(from, &[first_close.clone(), after].concat()), 0);
        assert_eq!(harness.received(from.other()), &first_close);
        // The other side may still send (RFC 6455 5.5.1).
        let rest = frame(from.other(), 0x81, b"still here");
        harness.feed_from(from.other(), &rest);
        assert_eq!(harness.received(from), &rest);
    }
}

// Requirements: FC25.
#[test]
fn peer_without_eof_is_aborted_after_close_grace() {
    let mut harness = Harness::new();
    harness.feed_from(Client, &close(Client, 1000, ""));
    harness.feed_from(Backend, &close(Backend, 1000, ""));
    harness.eof(Backend);
    assert_eq!(harness.shutdowns(), Shutdowns { client: CloseWrite, backend: CloseWrite });
    harness.advance(seconds(4));
    assert!(!harness.session.is_finished());
    harness.advance(seconds(1));
    assert!(harness.session.is_finished());
    assert_eq!(harness.shutdowns(), Shutdowns { client: Abort, backend: CloseWrite });
}

// Requirements: FC26, F28.
#[test]
fn crossing_closes_end_without_deadlock() {
    let mut harness = Harness::new();
    harness.feed_from(Client, &close(Client, 1000, "a"));
    harness.feed_from(Backend, &close(Backend, 4000, "b"));
    assert_eq!(
        harness.session.termination(),
        Some(TerminationReason::ClientClosed),
        "the first reason"
    );
    assert_eq!(harness.close_codes(), CloseCodes { to_client: Some(4000), to_backend: Some(1000) });
    assert_eq!(harness.shutdowns(), Shutdowns { client: CloseWrite, backend: KeepOpen });
    harness.eof(Client);
    harness.eof(Backend);
    assert!(harness.session.is_finished());
}

// Requirements: FC27.
#[test]
fn header_may_be_split_anywhere() {
    for payload in [0, 5, 126, 70_000] {
        let message = frame(Client, 0x82, &vec![9; payload]);
        for at in 1..14.min(message.len()) {
            let mut harness = Harness::new();
            let left = harness.feed_from(Client, &message[..at]);
            harness.feed_from(Client, &message[at - left..]);
            assert_eq!(harness.to_backend, message);
            assert_eq!(harness.session.stats().up.messages, 1);
        }
    }
}

// Requirements: FC30.
#[test]
fn client_eof_inside_a_frame_is_a_disconnect() {
    let mut harness = Harness::new();
    let message = frame(Client, 0x82, &[1; 100]);
    harness.feed_from(Client, &message[..50]);
    harness.eof(Client);
    assert_eq!(harness.session.termination(), Some(TerminationReason::ClientDisconnected));
    assert_eq!(harness.to_backend, message[..50], "no valid Close can follow");
    assert_eq!(harness.close_codes(), CloseCodes { to_client: None, to_backend: None });
    assert_eq!(harness.session.shutdown(Backend), CloseWrite);
    harness.eof(Backend);
    assert!(harness.session.is_finished());
}

// Requirements: FC31.
#[test]
fn http_request_in_tunnel_is_a_protocol_error() {
    assert_eq!(
        protocol_error(Client, false, b"GET / HTTP/1.1\r\n\r\n"),
        (ProtocolError::Opcode, 1002)
    );
}

// Requirements: FC35.
#[test]
fn zero_mask_key_is_accepted() {
    let mut harness = Harness::new();
    let message = [0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
    harness.feed_from(Client, &message);
    assert_eq!(harness.to_backend, message);
}

/// The driver looks at the clock between two steps.
#[test]
fn step_ends_after_many_fragments() {
    for (utf8, most) in [(false, 520), (true, 110)] {
        for payload in [&b""[..], b"x"] {
            let mut policy = SessionPolicy { utf8, ..policy() };
            policy.from_client.fragments = None;
            let mut harness = Harness::with_policy(policy);
            let begin = frame(Client, 0x01, payload);
            let stream = [begin.clone(), frame(Client, 0x00, payload).repeat(9000)].concat();
            let RecvAction::Forward(len) = harness.handle_recv(Client, &stream) else {
                panic!("{:?}", harness.session.termination());
            };
            assert!(len <= most * begin.len(), "{} frames", len / begin.len());
            assert_eq!(harness.feed_from(Client, &stream[len..]), 0);
            assert_eq!(harness.session.stats().up.bytes, stream.len() as u64);
        }
    }
}
