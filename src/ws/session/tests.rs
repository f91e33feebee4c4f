use std::time::Duration;

use super::*;
use crate::ws::sample::{Talk, close, frame, header, seconds, terms};
use crate::ws::{Breach, ControlFrame, Flow, Heartbeat};

use Parting::{Abort, Finish, Stay};
use Side::{Backend, Client};

/// The bytes at fault are not relayed, the side at fault is told what it did and let go, the
/// other side is told that it is over.
fn breach(from: Side, deflate: bool, bytes: &[u8]) -> (Breach, u16) {
    let mut talk = Talk::new();
    let mut entropy = crate::ws::sample::Counted::default();
    talk.session = Session::new(Arc::new(terms()), deflate, talk.now, &mut entropy);
    let before = frame(from, 0x82, b"lawful");
    assert_eq!(talk.say(from, &[&before, bytes].concat()), 0);
    assert!(talk.received(from.other()).starts_with(&before));
    let Some(End::Breach(at_fault, breach)) = talk.session.end() else {
        panic!("{:?}", talk.session.end());
    };
    assert_eq!(at_fault, from);
    assert_eq!(talk.say(from, b"more of it"), 0, "nothing is kept");
    let (to_fault, to_other) = match from {
        Client => (talk.codes().0, talk.codes().1),
        Backend => (talk.codes().1, talk.codes().0),
    };
    assert_eq!(to_other, Some(if from == Client { 1001 } else { 1011 }));
    let close = talk.received(from.other()).split_off(before.len());
    assert_eq!(close[0], 0x88, "nothing but a Close follows the lawful frame");
    assert_eq!(talk.session.parting(from), Finish, "its write half ends with our Close");
    assert_eq!(talk.session.parting(from.other()), Stay);
    assert!(talk.session.wants(from), "so that no reset eats our Close");
    talk.pass(seconds(5));
    assert!(talk.session.is_over());
    assert_eq!(talk.partings(), (Abort, Abort));
    (breach, to_fault.expect("a Close"))
}

#[test]
fn fits_in_300_bytes() {
    assert!(size_of::<Session>() <= 300, "{}", size_of::<Session>());
}

#[test]
fn fc01_unmasked() {
    let bytes = frame(Backend, 0x81, b"hi");
    assert_eq!(breach(Client, false, &bytes), (Breach::Unmasked, 1002));
}

#[test]
fn fc02_rsv() {
    for (first, deflate) in
        [(0xc1, false), (0xa1, false), (0x91, false), (0xa1, true), (0x91, true)]
    {
        let bytes = frame(Client, first, b"hi");
        assert_eq!(breach(Client, deflate, &bytes), (Breach::Rsv, 1002));
    }
}

#[test]
fn fc03_opcode() {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        let bytes = frame(Client, 0x80 | opcode, b"hi");
        assert_eq!(breach(Client, false, &bytes), (Breach::Opcode, 1002));
    }
}

#[test]
fn fc04_length_not_shortest() {
    for bytes in [
        &[0x82, 0xfe, 0, 10, 0, 0, 0, 0][..],
        &[0x82, 0xfe, 0, 125],
        &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0x03, 0xe8],
        &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
    ] {
        assert_eq!(breach(Client, false, bytes), (Breach::Length, 1002));
    }
}

#[test]
fn fc05_length_of_64_bits() {
    let bytes = header(Client, 0x82, 1 << 63);
    assert_eq!(breach(Client, false, &bytes), (Breach::Length, 1002));
}

#[test]
fn fc06_a_huge_length_is_refused_at_its_header() {
    let mut talk = Talk::new();
    assert_eq!(talk.say(Client, &header(Client, 0x82, 1 << 62)), 0);
    assert_eq!(talk.session.end(), Some(End::MessageTooBig(Client)));
    assert_eq!(talk.codes(), (Some(1009), Some(1001)));
    assert_eq!(talk.to_backend.len(), talk.to_backend[1] as usize % 128 + 6, "only our Close");
}

#[test]
fn fc07_message_at_the_limit_and_one_over() {
    for (len, lawful) in [(1 << 20, true), ((1 << 20) + 1, false)] {
        let mut talk = Talk::new();
        let message = frame(Client, 0x82, &vec![1; len]);
        assert_eq!(talk.say(Client, &message), 0);
        assert_eq!(talk.to_backend == message, lawful);
        assert_eq!(talk.session.end().is_none(), lawful);
    }
}

#[test]
fn fc08_fragments_are_summed_and_refused_at_the_header_that_crosses() {
    let mut talk = Talk::new();
    let begin = frame(Client, 0x02, &vec![1; (1 << 20) - 10]);
    let ping = frame(Client, 0x89, b"between");
    let exact = frame(Client, 0x00, &[1; 10]);
    talk.say(Client, &[begin, ping, exact].concat());
    assert_eq!(talk.session.end(), None, "exactly the limit");
    let relayed = talk.to_backend.len();
    talk.say(Client, &header(Client, 0x80, 1));
    assert_eq!(talk.session.end(), Some(End::MessageTooBig(Client)));
    assert_eq!(talk.to_backend[relayed], 0x88);
    // The next message starts from nothing.
    let mut talk = Talk::new();
    let message = frame(Client, 0x82, &vec![1; 1 << 20]);
    talk.say(Client, &message.repeat(3));
    assert_eq!(talk.session.tally().up.messages, 3);
}

#[test]
fn a_message_too_big_is_read_to_its_end_for_the_answer_behind_it() {
    let mut talk = Talk::new();
    let message = frame(Client, 0x82, &vec![1; (1 << 20) + 1]);
    for part in message.chunks(5000) {
        talk.say(Client, part);
        assert_eq!(talk.partings(), (Stay, Stay));
    }
    talk.say(Client, &close(Client, 1009, ""));
    assert_eq!(talk.partings(), (Finish, Stay));
}

#[test]
fn fc11_continuation_without_start() {
    let bytes = frame(Client, 0x80, b"hi");
    assert_eq!(breach(Client, false, &bytes), (Breach::ContinuationStray, 1002));
}

#[test]
fn fc12_new_message_inside_a_fragmented_one() {
    let bytes = [frame(Client, 0x01, b"a"), frame(Client, 0x81, b"b")].concat();
    let mut talk = Talk::new();
    talk.say(Client, &bytes);
    assert_eq!(talk.session.end(), Some(End::Breach(Client, Breach::MessageInterleaved)));
    assert_eq!(talk.codes(), (Some(1002), Some(1001)));
}

#[test]
fn fc13_control_frames() {
    for (bytes, expected) in [
        (frame(Client, 0x89, &[0; 126]), Breach::ControlTooLong),
        (frame(Client, 0x09, b"a"), Breach::ControlFragmented),
        (frame(Client, 0x08, b""), Breach::ControlFragmented),
    ] {
        assert_eq!(breach(Client, false, &bytes), (expected, 1002));
    }
}

#[test]
fn fc16_a_pong_that_is_not_awaited_passes() {
    let mut talk = Talk::new();
    let token = talk.ping();
    let pong = frame(Client, 0x8a, &token);
    talk.say(Client, &pong);
    assert!(talk.to_backend.is_empty(), "the backend never asked");
    talk.say(Client, &pong);
    assert_eq!(talk.to_backend, pong, "a second time it is not ours");
}

#[test]
fn fc19_close_without_a_code() {
    let mut talk = Talk::new();
    let empty = frame(Client, 0x88, b"");
    talk.say(Client, &empty);
    assert_eq!(talk.to_backend, empty);
    assert_eq!(talk.codes(), (None, Some(1005)));
    assert_eq!(talk.session.end(), Some(End::ClientClosed));
}

#[test]
fn fc20_close_of_one_byte() {
    let bytes = frame(Client, 0x88, b"1");
    assert_eq!(breach(Client, false, &bytes), (Breach::CloseLength, 1002));
}

#[test]
fn fc21_close_codes_that_may_not_be_sent() {
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535] {
        let bytes = close(Client, code, "");
        assert_eq!(breach(Client, false, &bytes), (Breach::CloseCode, 1002));
    }
}

#[test]
fn fc22_close_reason_not_utf8() {
    let bytes = frame(Client, 0x88, b"\x03\xe8\xc3\x28");
    assert_eq!(breach(Client, false, &bytes), (Breach::CloseReason, 1007));
}

#[test]
fn fc23_fb06_lawful_closes_pass_identically() {
    let reason = "é".repeat(61) + "!";
    for from in Side::BOTH {
        for code in [1000, 1001, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 4001, 4999] {
            let mut talk = Talk::new();
            let close = close(from, code, &reason);
            talk.say(from, &close);
            assert_eq!(talk.received(from.other()), &close);
        }
    }
}

#[test]
fn fc24_fb13_nothing_passes_after_a_close() {
    for from in Side::BOTH {
        let mut talk = Talk::new();
        let bye = close(from, 1000, "");
        let after = [frame(from, 0x81, b"late"), bye.clone(), b"\xff\xff".to_vec()].concat();
        assert_eq!(talk.say(from, &[bye.clone(), after].concat()), 0);
        assert_eq!(talk.received(from.other()), &bye);
        // The other side may finish what it was saying (RFC 6455 5.5.1).
        let rest = frame(from.other(), 0x81, b"still here");
        talk.say(from.other(), &rest);
        assert_eq!(talk.received(from), &rest);
    }
}

#[test]
fn fc25_closed_but_never_gone() {
    let mut talk = Talk::new();
    talk.say(Client, &close(Client, 1000, ""));
    talk.say(Backend, &close(Backend, 1000, ""));
    talk.hang_up(Backend);
    assert_eq!(talk.partings(), (Finish, Finish));
    talk.pass(seconds(4));
    assert!(!talk.session.is_over());
    talk.pass(seconds(1));
    assert!(talk.session.is_over());
    assert_eq!(talk.partings(), (Abort, Finish));
}

#[test]
fn fc26_rfc_f28_closes_that_cross() {
    let mut talk = Talk::new();
    talk.say(Client, &close(Client, 1000, "a"));
    talk.say(Backend, &close(Backend, 4000, "b"));
    assert_eq!(talk.session.end(), Some(End::ClientClosed), "the first cause");
    assert_eq!(talk.codes(), (Some(4000), Some(1000)));
    assert_eq!(talk.partings(), (Finish, Stay));
    talk.hang_up(Client);
    talk.hang_up(Backend);
    assert!(talk.session.is_over());
}

#[test]
fn fc27_a_header_split_anywhere() {
    for payload in [0, 5, 126, 70_000] {
        let message = frame(Client, 0x82, &vec![9; payload]);
        for at in 1..14.min(message.len()) {
            let mut talk = Talk::new();
            let left = talk.say(Client, &message[..at]);
            talk.say(Client, &message[at - left..]);
            assert_eq!(talk.to_backend, message);
            assert_eq!(talk.session.tally().up.messages, 1);
        }
    }
}

#[test]
fn fc30_client_ends_inside_a_frame() {
    let mut talk = Talk::new();
    let message = frame(Client, 0x82, &[1; 100]);
    talk.say(Client, &message[..50]);
    talk.hang_up(Client);
    assert_eq!(talk.session.end(), Some(End::ClientGone));
    assert_eq!(talk.to_backend, message[..50], "no lawful Close can follow");
    assert_eq!(talk.codes(), (None, None));
    assert_eq!(talk.session.parting(Backend), Finish);
    talk.hang_up(Backend);
    assert!(talk.session.is_over());
}

#[test]
fn fc31_http_in_the_tunnel() {
    assert_eq!(breach(Client, false, b"GET / HTTP/1.1\r\n\r\n"), (Breach::Opcode, 1002));
}

#[test]
fn fc35_mask_key_zero() {
    let mut talk = Talk::new();
    let message = [0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
    talk.say(Client, &message);
    assert_eq!(talk.to_backend, message);
}

#[test]
fn fc36_idle_counts_data_only() {
    let mut talk = Talk::under(Terms { idle: Some(seconds(60)), ..terms() });
    let mut pinged = 0;
    talk.pass(seconds(1));
    talk.say(Client, &frame(Client, 0x82, b"data"));
    for _ in 0..59 {
        talk.pass(seconds(1));
        if let Some(token) = talk.to_client.strip_prefix(&[0x89, 8]) {
            pinged += 1;
            let token = token.to_vec();
            talk.say(Client, &frame(Client, 0x8a, &token));
        }
        talk.say(Client, &frame(Client, 0x89, b"app"));
        talk.say(Backend, &frame(Backend, 0x8a, b"app"));
        talk.to_client.clear();
    }
    assert!(pinged > 0);
    assert_eq!(talk.session.end(), None);
    talk.pass(seconds(1));
    assert_eq!(talk.session.end(), Some(End::Idle));
    assert_eq!(talk.codes(), (Some(1001), Some(1001)));
}

#[test]
fn idle_counts_from_the_last_byte_of_data_in_either_direction() {
    let mut talk = Talk::under(Terms { idle: Some(seconds(60)), heartbeat: None, ..terms() });
    let long = frame(Client, 0x82, &[0; 100]);
    for part in [&long[..20], &long[20..21]] {
        talk.say(Client, part);
        talk.pass(seconds(59));
    }
    talk.say(Backend, &frame(Backend, 0x82, b""));
    talk.pass(seconds(59));
    assert_eq!(talk.session.end(), None);
    talk.pass(seconds(1));
    assert_eq!(talk.session.end(), Some(End::Idle));
    assert_eq!(talk.codes(), (Some(1001), None), "the client's frame is not finished");
}

#[test]
fn fc37_no_pong() {
    let mut talk = Talk::new();
    let pinged = talk.now;
    talk.ping();
    let first = talk.now - pinged;
    assert!(first >= seconds(15) && first < seconds(30), "{first:?}");
    talk.pass(seconds(10) - Duration::from_nanos(1));
    talk.say(Client, &frame(Client, 0x82, b"alive, but no pong"));
    assert_eq!(talk.session.end(), None);
    talk.pass(Duration::from_nanos(1));
    assert_eq!(talk.session.end(), Some(End::HeartbeatLost));
    assert_eq!(talk.codes(), (Some(1001), Some(1001)));
}

#[test]
fn the_next_ping_comes_an_interval_after_the_pong() {
    let mut talk = Talk::new();
    for _ in 0..5 {
        let token = talk.ping();
        talk.pass(seconds(9));
        talk.say(Client, &frame(Client, 0x8a, &token));
        assert_eq!(talk.session.deadline(), Some(talk.now + seconds(30)));
    }
    assert!(talk.to_backend.is_empty());
    assert_eq!(talk.session.tally().up, Flow::default());
}

#[test]
fn patience_starts_when_the_ping_is_handed_out() {
    let mut talk = Talk::new();
    let message = frame(Backend, 0x82, &[0; 100]);
    talk.say(Backend, &message[..50]);
    talk.now += seconds(30);
    talk.session.tick(talk.now);
    assert!(talk.inject(Client).is_none(), "RFC 6455 5.4: not inside a frame");
    talk.pass(seconds(300));
    assert_eq!(talk.session.end(), None);
    talk.say(Backend, &[&message[50..], &message].concat());
    let ping = talk.to_client[message.len()..][..2].to_vec();
    assert_eq!(ping, [0x89, 8], "at the boundary, though more was there");
    assert_eq!(talk.to_client.len(), 2 * message.len() + 10);
    assert_eq!(talk.session.deadline(), Some(talk.now + seconds(10)));
}

#[test]
fn a_client_cannot_answer_inside_a_frame() {
    let mut talk = Talk::new();
    talk.ping();
    let long = frame(Client, 0x82, &[0; 1000]);
    for part in long.chunks(100) {
        talk.say(Client, part);
        talk.pass(seconds(10));
    }
    assert_eq!(talk.session.end(), Some(End::HeartbeatLost), "it could after the last part");
    let mut talk = Talk::new();
    talk.ping();
    talk.say(Client, &long[..100]);
    talk.pass(seconds(20) - Duration::from_nanos(1));
    assert_eq!(talk.session.end(), None);
    talk.pass(Duration::from_nanos(1));
    assert_eq!(talk.session.end(), Some(End::HeartbeatLost), "the frame does not move");
}

#[test]
fn a_pong_that_cannot_come_through_is_not_missed() {
    for blocked in Side::BOTH {
        let mut talk = Talk::new();
        let pinged = talk.ping();
        for left in (1..5).rev() {
            talk.session.written(blocked, left, talk.now);
            talk.now += seconds(10);
            talk.session.tick(talk.now);
            assert_eq!(talk.session.end(), None);
        }
        talk.session.written(blocked, 0, talk.now);
        talk.now += seconds(9);
        talk.say(Client, &frame(Client, 0x8a, &pinged));
        talk.ping();
        talk.pass(seconds(10));
        assert_eq!(talk.session.end(), Some(End::HeartbeatLost));
    }
}

#[test]
fn cl03_a_process_that_slept_grants_one_more_patience() {
    let mut talk = Talk::new();
    let token = talk.ping();
    talk.now += seconds(60);
    talk.session.tick(talk.now);
    assert_eq!(talk.session.end(), None);
    assert_eq!(talk.session.deadline(), Some(talk.now + seconds(10)));
    talk.say(Client, &frame(Client, 0x8a, &token));
    talk.ping();
    talk.now += seconds(60);
    talk.session.tick(talk.now);
    talk.now += seconds(60);
    talk.session.tick(talk.now);
    assert_eq!(talk.session.end(), Some(End::HeartbeatLost), "one, not more");
}

#[test]
fn fb01_masked() {
    let bytes = frame(Client, 0x81, b"hi");
    assert_eq!(breach(Backend, false, &bytes), (Breach::Masked, 1002));
}

#[test]
fn fb02_violations() {
    for (bytes, expected) in [
        (frame(Backend, 0xc1, b""), Breach::Rsv),
        (frame(Backend, 0x83, b""), Breach::Opcode),
        (vec![0x82, 126, 0, 1, 0], Breach::Length),
        (header(Backend, 0x82, 1 << 63), Breach::Length),
        (frame(Backend, 0x8a, &[0; 126]), Breach::ControlTooLong),
        (frame(Backend, 0x0a, b""), Breach::ControlFragmented),
        (frame(Backend, 0x00, b""), Breach::ContinuationStray),
    ] {
        assert_eq!(breach(Backend, false, &bytes), (expected, 1002));
    }
}

#[test]
fn fb03_backend_over_its_limit() {
    let mut talk = Talk::under(Terms { message_from_backend_max: Some(10), ..terms() });
    talk.say(Backend, &frame(Backend, 0x82, &[0; 10]));
    talk.say(Backend, &frame(Backend, 0x82, &[0; 11]));
    assert_eq!(talk.session.end(), Some(End::MessageTooBig(Backend)));
    assert_eq!(talk.codes(), (Some(1011), Some(1009)));
    let mut talk = Talk::new();
    talk.say(Backend, &header(Backend, 0x82, u64::MAX >> 1));
    assert_eq!(talk.session.end(), None, "no limit by default");
}

#[test]
fn fb07_close_1006_on_the_wire() {
    assert_eq!(breach(Backend, false, &close(Backend, 1006, "")), (Breach::CloseCode, 1002));
}

#[test]
fn fb08_fb09_backend_gone_without_close() {
    let mut talk = Talk::new();
    let last = frame(Backend, 0x81, b"last words");
    let half = &frame(Backend, 0x81, b"never finished")[..1];
    assert_eq!(talk.say(Backend, &[&last, half].concat()), 1);
    talk.hang_up(Backend);
    assert_eq!(talk.session.end(), Some(End::BackendGone));
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

#[test]
fn fb10_backend_ends_inside_a_frame() {
    let mut talk = Talk::new();
    talk.say(Backend, &frame(Backend, 0x82, &[1; 100])[..50]);
    talk.hang_up(Backend);
    assert_eq!(talk.session.end(), Some(End::BackendGone));
    assert_eq!(talk.codes(), (None, None));
    assert_eq!(talk.to_client.len(), 50);
    assert_eq!(talk.partings(), (Finish, Finish));
}

#[test]
fn fb12_rfc_f18_a_close_that_is_not_answered_is_answered_by_us() {
    for from in Side::BOTH {
        let mut talk = Talk::new();
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
        let mut talk = Talk::new();
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
    let mut talk = Talk::new();
    talk.say(Client, &close(Client, 1000, ""));
    talk.say(Backend, b"\xff\xff");
    assert_eq!(talk.session.end(), Some(End::ClientClosed));
    assert_eq!(talk.codes(), (Some(1000), Some(1000)));
    assert_eq!(talk.partings(), (Finish, Finish));
}

#[test]
fn rfc_f3_frames_to_the_backend_are_masked_with_fresh_keys() {
    let mut keys = std::collections::HashSet::new();
    let mut entropy = crate::ws::sample::Counted::default();
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

#[test]
fn rfc_f4_f9_f11_f12_everything_lawful_passes_verbatim() {
    let mut talk = Talk::new();
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
    let flow = |bytes: &[u8]| Flow { bytes: bytes.len() as u64, messages: 2 };
    assert_eq!(*talk.session.tally(), Tally { up: flow(&up), down: flow(&down) });
}

#[test]
fn rfc_f13_our_close_waits_for_the_frame_in_progress() {
    for from in Side::BOTH {
        let to = from.other();
        let mut talk = Talk::new();
        let long = frame(from, 0x82, &vec![0; 1 << 20]);
        talk.say(from, &long[..1000]);
        talk.session.drain(talk.now);
        talk.round();
        talk.say(from, &long[1000..2000]);
        assert_eq!(talk.session.end(), Some(End::Drained));
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
    let mut talk = Talk::new();
    talk.session.drain(talk.now);
    talk.now += seconds(5);
    talk.session.tick(talk.now);
    assert!(talk.session.is_over());
    assert_eq!(talk.codes(), (None, None));
}

#[test]
fn a_frame_that_does_not_end_in_time_ends_without_a_close() {
    let mut talk = Talk::new();
    talk.say(Backend, &frame(Backend, 0x82, &[0; 100])[..50]);
    talk.session.drain(talk.now);
    talk.round();
    talk.pass(seconds(5));
    assert_eq!(talk.codes(), (None, Some(1001)));
    assert_eq!(talk.partings(), (Abort, Abort));
    assert!(talk.session.is_over());
}

#[test]
fn rfc_f19_we_close_the_client_first_and_wait_for_the_backend() {
    let mut talk = Talk::new();
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

#[test]
fn rfc_f20_f21_pings_and_pongs_of_the_peers_pass() {
    let mut talk = Talk::new();
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

#[test]
fn rfc_f29_rsv1_on_the_first_frame_of_a_compressed_message_only() {
    let lawful = [frame(Client, 0x41, b"a"), frame(Client, 0x80, b"b")].concat();
    let mut talk = Talk::new();
    let mut entropy = crate::ws::sample::Counted::default();
    talk.session = Session::new(Arc::new(terms()), true, talk.now, &mut entropy);
    talk.say(Client, &lawful);
    assert_eq!(talk.to_backend, lawful);
    for first in [0xc0, 0xc8, 0xc9, 0xca] {
        assert_eq!(breach(Client, true, &frame(Client, first, b"")), (Breach::Rsv, 1002));
    }
}

#[test]
fn a_client_that_only_half_closed_gets_the_rest() {
    let mut talk = Talk::new();
    talk.hang_up(Client);
    assert_eq!(talk.session.end(), Some(End::ClientGone));
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
    let mut talk = Talk::new();
    talk.session.hangup(Client, talk.now);
    talk.session.hangup(Client, talk.now);
    assert_eq!(talk.session.parting(Client), Abort);
    talk.say(Backend, &[frame(Backend, 0x81, b"?"), close(Backend, 1001, "")].concat());
    assert!(talk.to_client.is_empty());
    talk.hang_up(Backend);
    assert!(talk.session.is_over());
}

#[test]
fn rfc_f26_write_stall_of_the_client() {
    let mut talk = Talk::under(Terms { heartbeat: None, ..terms() });
    talk.session.written(Client, 1000, talk.now);
    talk.now += seconds(29);
    talk.session.written(Client, 999, talk.now);
    assert_eq!(talk.session.deadline(), Some(talk.now + seconds(30)), "it moved");
    talk.now += seconds(29);
    talk.session.written(Client, 999, talk.now);
    talk.now += seconds(1);
    talk.session.tick(talk.now);
    assert_eq!(talk.session.end(), Some(End::WriteStall(Client)));
    assert_eq!(talk.partings(), (Abort, Stay));
    talk.round();
    assert_eq!(talk.codes(), (Some(1013), Some(1001)));
    talk.say(Backend, &close(Backend, 1001, ""));
    talk.hang_up(Backend);
    assert!(talk.session.is_over());
}

#[test]
fn a_client_that_is_reset_inside_a_frame_leaves_it_unfinished() {
    let mut talk = Talk::under(Terms { heartbeat: None, ..terms() });
    talk.say(Client, &frame(Client, 0x82, &[0; 100])[..50]);
    talk.session.written(Client, 1000, talk.now);
    talk.now += seconds(30);
    talk.session.tick(talk.now);
    assert_eq!(talk.partings(), (Abort, Finish), "nothing lawful can be said to the backend");
}

#[test]
fn write_stall_of_the_backend() {
    let mut talk = Talk::under(Terms { heartbeat: None, ..terms() });
    talk.session.written(Backend, 1000, talk.now);
    // What is let through in the meantime is no progress.
    talk.now += seconds(20);
    let more = frame(Client, 0x82, &[0; 100]);
    assert_eq!(talk.session.intake(Client, &more[..50], talk.now), Intake::Forward(50));
    talk.session.written(Backend, 1060, talk.now);
    talk.now += seconds(10);
    talk.session.tick(talk.now);
    assert_eq!(talk.session.end(), Some(End::WriteStall(Backend)));
    assert_eq!(talk.partings(), (Stay, Abort));
    talk.round();
    assert_eq!(talk.codes(), (Some(1011), None), "inside a frame nothing can be said");
    let mut talk = Talk::under(Terms { heartbeat: None, ..terms() });
    talk.session.written(Backend, 1000, talk.now);
    talk.session.written(Backend, 0, talk.now);
    talk.pass(seconds(100));
    assert_eq!(talk.session.end(), None);
}

#[test]
fn what_is_pending_is_waited_for() {
    let mut talk = Talk::new();
    talk.say(Client, &close(Client, 1000, ""));
    let answer = close(Backend, 1000, "");
    let len = answer.len();
    assert_eq!(talk.session.intake(Backend, &answer, talk.now), Intake::Forward(len));
    talk.session.hangup(Backend, talk.now);
    talk.session.hangup(Client, talk.now);
    assert!(!talk.session.is_over(), "the answer is not written");
    talk.session.written(Client, 1, talk.now);
    assert!(!talk.session.is_over());
    talk.session.written(Client, 0, talk.now);
    assert!(talk.session.is_over());
}

#[test]
fn drain_takes_the_configured_code_and_ends_early_when_answered() {
    let drain_code = CloseCode::new(4500).expect("lawful");
    let mut talk = Talk::under(Terms { drain_code, ..terms() });
    talk.session.drain(talk.now);
    talk.round();
    assert_eq!(talk.codes(), (Some(4500), Some(1001)));
    talk.say(Client, &frame(Client, 0x81, b"too late"));
    talk.say(Client, &close(Client, 4500, ""));
    talk.say(Backend, &close(Backend, 1001, ""));
    assert_eq!(talk.partings(), (Finish, Stay));
    talk.hang_up(Backend);
    talk.hang_up(Client);
    assert!(talk.session.is_over());
    assert_eq!(talk.session.tally().up, Flow::default());
}

#[test]
fn abort_is_at_once_and_keeps_an_earlier_name() {
    let mut talk = Talk::new();
    talk.session.abort(talk.now);
    assert_eq!(talk.session.end(), Some(End::Aborted));
    assert!(talk.session.is_over());
    assert_eq!(talk.partings(), (Abort, Abort));
    assert!(talk.inject(Client).is_none() && talk.inject(Backend).is_none());
    let mut talk = Talk::new();
    talk.session.drain(talk.now);
    talk.session.abort(talk.now);
    assert_eq!(talk.session.end(), Some(End::Drained));
    assert!(talk.session.is_over());
}

#[test]
fn many_small_frames_are_one_run() {
    let mut talk = Talk::new();
    let many = frame(Client, 0x82, b"16 bytes payload").repeat(1000);
    let run = talk.session.intake(Client, &many, talk.now);
    assert_eq!(run, Intake::Forward(many.len()));
    assert_eq!(talk.session.tally().up.messages, 1000);
}

#[test]
fn times_beyond_the_clock_are_never() {
    let forever = Duration::MAX;
    let mut talk = Talk::under(Terms {
        heartbeat: Some(Heartbeat { interval: forever, patience: forever }),
        idle: Some(forever),
        close_grace: forever,
        write_stall: forever,
        ..terms()
    });
    talk.session.written(Client, 1, talk.now);
    assert_eq!(talk.session.deadline(), None);
    talk.session.drain(talk.now);
    assert_eq!(talk.session.deadline(), None);
}
