use super::*;
use crate::{AgeLimit, LimitAction, Strictness, Violation};

fn limited(from: Side, limits: Limits) -> Harness {
    let mut policy = SessionPolicy { heartbeat_client: None, ..policy() };
    match from {
        Client => policy.from_client = limits,
        Backend => policy.from_backend = limits,
    }
    Harness::with_policy(policy)
}

/// Sends frames until the session terminates. Returns how many passed, and the reason.
fn stopped(
    harness: &mut Harness,
    from: Side,
    frames: &[Vec<u8>],
) -> (usize, Option<TerminationReason>) {
    for (at, frame) in frames.iter().enumerate() {
        let before = harness.received(from.other()).len();
        harness.feed_from(from, frame);
        let whole = harness.received(from.other())[before..].starts_with(frame);
        if harness.session.termination().is_some() {
            assert!(!whole, "the frame at fault was relayed");
            return (at, harness.session.termination());
        }
        assert!(whole);
    }
    (frames.len(), None)
}

/// For each limit: frames that exceed it, and how many of them pass.
fn violations(from: Side) -> [(LimitKind, Limits, Vec<Vec<u8>>, usize); 4] {
    let cap = |max, action| Some(Limit { max, action });
    let close = LimitAction::Close;
    let none = Limits::default();
    let whole = |len| frame(from, 0x82, &vec![b'x'; len]);
    let part = |first, len| frame(from, first, &vec![b'x'; len]);
    [
        (
            LimitKind::Message,
            Limits { message: cap(300, close), ..none },
            vec![whole(300), part(0x02, 200), part(0x00, 100), part(0x80, 1)],
            3,
        ),
        (
            LimitKind::Frame,
            Limits { frame: cap(200, close), ..none },
            vec![whole(200), part(0x02, 200), part(0x80, 200), whole(201)],
            3,
        ),
        (
            LimitKind::Fragments,
            Limits { fragments: cap(3, close), ..none },
            vec![
                part(0x02, 1),
                part(0x00, 0),
                part(0x80, 1),
                part(0x02, 1),
                part(0x00, 0),
                part(0x00, 0),
                part(0x00, 0),
            ],
            6,
        ),
        (
            LimitKind::ControlFrames,
            Limits { control_frames: Some(RateLimit::new(2, close)), ..none },
            vec![
                part(0x89, 5),
                part(0x8a, 5),
                whole(5),
                part(0x89, 0),
                part(0x8a, 0),
                part(0x89, 1),
            ],
            5,
        ),
    ]
}

// Requirements: FC07, FC09, FC10, FC14, FC15, FB03, FB04.
#[test]
fn each_limit_closes_at_the_crossing_frame() {
    for from in Side::BOTH {
        for (limit, limits, frames, passing) in violations(from) {
            let mut harness = limited(from, limits);
            let stopped = stopped(&mut harness, from, &frames);
            assert_eq!(stopped, (passing, Some(TerminationReason::LimitExceeded(from, limit))));
            harness.answer_close(from.other());
            let code = limit.close_code().get();
            let codes = if from == Client { (code, 1001) } else { (1013, code) };
            assert_eq!(
                harness.close_codes(),
                CloseCodes { to_client: Some(codes.0), to_backend: Some(codes.1) },
                "{limit:?} {from:?}"
            );
        }
    }
}

#[test]
fn report_action_passes_frames_and_reports_once() {
    for from in Side::BOTH {
        for (limit, mut limits, frames, _) in violations(from) {
            for cap in [&mut limits.message, &mut limits.frame, &mut limits.fragments] {
                *cap = cap.map(|cap| Limit { action: LimitAction::Report, ..cap });
            }
            limits.control_frames =
                limits.control_frames.map(|rate| RateLimit { action: LimitAction::Report, ..rate });
            let mut harness = limited(from, limits);
            for _ in 0..2 {
                harness.feed_from(from, &frames.concat());
                if limit == LimitKind::Fragments {
                    harness.feed_from(from, &frame(from, 0x80, b""));
                }
            }
            assert_eq!(harness.session.termination(), None);
            let reported: Vec<_> = harness.session.reported(from).iter().collect();
            assert_eq!(reported, [Violation::LimitExceeded(limit)], "{from:?}");
            assert!(harness.session.reported(from.other()).is_empty());
        }
    }
}

// Requirements: FC09.
#[test]
fn unfinished_message_exceeds_its_maximum_age() {
    let age = |action| Limits {
        message_age: Some(AgeLimit { max: seconds(60), action }),
        ..Limits::default()
    };
    for from in Side::BOTH {
        let mut harness = limited(from, age(LimitAction::Close));
        harness.feed_from(from, &frame(from, 0x02, b"a"));
        harness.advance(seconds(59));
        harness.feed_from(from, &frame(from, 0x80, b"b"));
        harness.advance(seconds(600));
        assert_eq!(harness.session.termination(), None, "it was complete in time");
        // Many messages, the last of which is incomplete.
        harness.feed_from(from, &frame(from, 0x82, b"whole").repeat(3));
        harness.feed_from(from, &frame(from, 0x02, b"start"));
        for _ in 0..5 {
            harness.advance(seconds(11));
            harness.feed_from(from, &frame(from, 0x00, b"more"));
        }
        assert_eq!(harness.session.termination(), None);
        harness.advance(seconds(5));
        assert_eq!(
            harness.session.termination(),
            Some(TerminationReason::LimitExceeded(from, LimitKind::MessageAge))
        );
        harness.answer_close(from.other());
        assert_eq!(harness.close_codes().to_client, Some(if from == Client { 1008 } else { 1013 }));

        let mut harness = limited(from, age(LimitAction::Report));
        harness.feed_from(from, &frame(from, 0x02, b"a"));
        harness.advance(seconds(61));
        assert_eq!(harness.session.termination(), None);
        let reported = harness.session.reported(from).iter();
        assert_eq!(reported.collect::<Vec<_>>(), [Violation::LimitExceeded(LimitKind::MessageAge)]);
    }
}

#[test]
fn message_delayed_by_the_proxy_does_not_age() {
    let age = Some(AgeLimit { max: seconds(60), action: LimitAction::Close });
    let mut harness = limited(Client, Limits { message_age: age, ..Limits::default() });
    let rest = header(Client, 0x82, 500);
    assert_eq!(harness.handle_recv(Client, &rest), crate::RecvAction::Forward(rest.len()));
    for left in (1..10_usize).rev() {
        harness.now += seconds(20);
        harness.session.handle_written(Backend, left * 3000, harness.now);
        harness.session.handle_timeout(harness.now);
        assert_eq!(harness.session.termination(), None, "it waits for the backend");
    }
    harness.flush();
    harness.advance(seconds(61));
    assert_eq!(
        harness.session.termination(),
        Some(TerminationReason::LimitExceeded(Client, LimitKind::MessageAge))
    );
    harness.eof(Backend);
    assert_eq!(
        harness.close_codes(),
        CloseCodes { to_client: Some(1008), to_backend: None },
        "no Close fits inside a frame"
    );
}

#[test]
fn lifetime_ends_during_a_pause() {
    let mut policy = SessionPolicy { heartbeat_client: None, ..policy() };
    policy.lifetime = Some(seconds(1000));
    let mut harness = Harness::with_policy(policy.clone());
    // The backend sends twice a second until the last fifth, then not at all.
    while harness.now < Timestamp::START + seconds(700) {
        harness.advance(Duration::from_millis(500));
        harness.feed_from(Backend, &frame(Backend, 0x81, b"tick"));
    }
    harness.advance(seconds(300));
    assert_eq!(harness.session.termination(), Some(TerminationReason::Lifetime));
    assert_eq!(harness.close_codes(), CloseCodes { to_client: Some(1012), to_backend: Some(1001) });

    // The backend never stops: the session ends at its maximum age, between two frames.
    let mut harness = Harness::with_policy(policy.clone());
    let begin = harness.now;
    let mut ended = None;
    while ended.is_none() && harness.now < begin + seconds(1001) {
        harness.advance(Duration::from_millis(500));
        harness.feed_from(Backend, &frame(Backend, 0x81, b"tick"));
        ended = harness.session.termination().map(|end| (end, harness.now - begin));
    }
    let (end, age) = ended.expect("an end");
    assert_eq!(end, TerminationReason::Lifetime);
    assert!((800..=1000).contains(&age.as_secs()), "{age:?}");

    // The session is not closed inside a message.
    let mut harness = Harness::with_policy(policy);
    harness.feed_from(Client, &frame(Client, 0x01, b"start"));
    let begin = harness.now;
    harness.advance(seconds(959));
    while harness.session.termination().is_none() && harness.now < begin + seconds(1001) {
        harness.advance(seconds(1));
    }
    assert!(harness.now - begin >= seconds(840), "{:?}", harness.now - begin);
    assert_eq!(
        harness.session.termination(),
        Some(TerminationReason::LimitExceeded(Client, LimitKind::MessageAge))
            .or(Some(TerminationReason::Lifetime))
    );
}

#[test]
fn reader_below_the_minimum_rate_is_closed() {
    let policy = SessionPolicy { heartbeat_client: None, idle: None, ..policy() };
    assert_eq!(policy.min_write_rate, NonZeroU64::new(100));
    for (taken, survives) in [(10, false), (99, false), (101, true), (5000, true)] {
        let mut harness = Harness::with_policy(policy.clone());
        let much = frame(Backend, 0x82, &vec![0; 1 << 20]);
        harness.handle_recv(Backend, &much);
        let mut left = much.len();
        harness.session.handle_written(Client, left, harness.now);
        // The first thirty seconds are granted to every reader.
        let mut ended = None;
        for second in 0..10_000 {
            harness.now += seconds(1);
            left -= taken;
            harness.session.handle_written(Client, left, harness.now);
            harness.session.handle_timeout(harness.now);
            if harness.session.termination().is_some() || left < taken || second > 5000 {
                ended = harness.session.termination();
                break;
            }
        }
        assert_eq!(ended.is_none(), survives, "{taken} B/s");
        if !survives {
            assert_eq!(ended, Some(TerminationReason::WriteTooSlow(Client)));
        }
    }
}

#[test]
fn reported_protocol_errors_pass() {
    let policy = SessionPolicy { strict: Strictness::Report, ..policy() };
    for (from, first, payload, error) in [
        (Client, 0x83, &b"opcode"[..], ProtocolError::Opcode),
        (Client, 0xc1, b"rsv", ProtocolError::Rsv),
        (Client, 0x80, b"stray", ProtocolError::StrayContinuation),
        (Client, 0x09, b"ping", ProtocolError::ControlFragmented),
        (Client, 0x8a, &[b'p'; 200], ProtocolError::ControlTooLong),
        (Client, 0x8b, b"", ProtocolError::Opcode),
    ] {
        let mut harness = Harness::with_policy(policy.clone());
        let invalid = frame(from, first, payload);
        let valid = frame(from, 0x82, b"after it");
        for step in [1, 3, usize::MAX] {
            let all = [&invalid[..], &valid[..]].concat();
            let mut rest = Vec::new();
            for chunk in all.chunks(step.min(all.len())) {
                rest.extend(chunk);
                let left = harness.feed_from(from, &rest);
                rest = rest.split_off(rest.len() - left);
            }
            assert_eq!(harness.session.termination(), None);
            assert_eq!(std::mem::take(&mut harness.to_backend), all, "{error:?}");
        }
        let reported = harness.session.reported(from).iter();
        assert_eq!(reported.collect::<Vec<_>>(), [Violation::ProtocolError(error)]);
        assert_eq!(
            harness.session.stats().up.messages,
            3 * if first == 0x80 || first == 0xc1 { 2 } else { 1 }
        );
    }
    // An unmasked frame, a longer length encoding, and an invalid Close payload.
    let mut harness = Harness::with_policy(policy.clone());
    let unmasked = [0x81, 1, b'a'];
    let long = [0x82, 0xfe, 0, 1, 9, 9, 9, 9, b'x'];
    let close = frame(Client, 0x88, &[3]);
    let all = [&unmasked[..], &long, &close].concat();
    harness.feed_from(Client, &all);
    assert_eq!(harness.to_backend, all);
    assert_eq!(harness.session.termination(), Some(TerminationReason::ClientClosed));
    // A frame without an end closes the session even so.
    let mut harness = Harness::with_policy(policy);
    harness.feed_from(Client, &[0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(
        harness.session.termination(),
        Some(TerminationReason::ProtocolError(Client, ProtocolError::Length))
    );
}

#[test]
fn strict_report_does_not_relax_rates() {
    let mut policy = SessionPolicy { strict: Strictness::Report, ..policy() };
    policy.from_client.message = Some(Limit::close(1000));
    policy.from_client.messages = Some(RateLimit::new(5, LimitAction::Close));
    policy.from_client.control_frames = Some(RateLimit::new(5, LimitAction::Close));
    let begun_again = frame(Client, 0x01, &[b'x'; 90]).repeat(20);
    let pings = frame(Client, 0x09, b"ping").repeat(20);
    let reserved = frame(Client, 0x83, b"data").repeat(20);
    for (frames, limit) in [
        (begun_again, LimitKind::Messages),
        (pings, LimitKind::ControlFrames),
        (reserved, LimitKind::Messages),
    ] {
        let mut harness = Harness::with_policy(policy.clone());
        harness.feed_from(Client, &frames);
        assert_eq!(
            harness.session.termination(),
            Some(TerminationReason::LimitExceeded(Client, limit))
        );
        harness.advance(seconds(1));
    }
    policy.from_client.messages = None;
    let mut harness = Harness::with_policy(policy);
    harness.feed_from(Client, &frame(Client, 0x01, &[b'x'; 90]).repeat(20));
    assert_eq!(
        harness.session.termination(),
        Some(TerminationReason::LimitExceeded(Client, LimitKind::Message))
    );
    assert!(harness.to_backend.len() <= 11 * 96 + 40, "{}", harness.to_backend.len());
}

#[test]
fn strict_report_does_not_relax_sizes() {
    let mut policy = SessionPolicy { strict: Strictness::Report, ..policy() };
    policy.from_client.message = Some(Limit::close(100));
    for first in [0x83, 0x09, 0x82] {
        let mut harness = Harness::with_policy(policy.clone());
        harness.feed_from(Client, &header(Client, first, 101));
        assert_eq!(
            harness.session.termination(),
            Some(TerminationReason::LimitExceeded(Client, LimitKind::Message)),
            "{first:x}"
        );
    }
}
