use super::*;
use crate::{AgeLimit, LimitAction, Strictness, Violation};

fn limited(from: Side, limits: Limits) -> Conversation {
    let mut terms = SessionPolicy { heartbeat_client: None, ..terms() };
    match from {
        Client => terms.from_client = limits,
        Backend => terms.from_backend = limits,
    }
    Conversation::under(terms)
}

/// What passes until a rule stops it, and what it stops with.
fn stopped(
    talk: &mut Conversation,
    from: Side,
    frames: &[Vec<u8>],
) -> (usize, Option<TerminationReason>) {
    for (at, frame) in frames.iter().enumerate() {
        let before = talk.received(from.other()).len();
        talk.say(from, frame);
        let whole = talk.received(from.other())[before..].starts_with(frame);
        if talk.session.end().is_some() {
            assert!(!whole, "the frame at fault has passed");
            return (at, talk.session.end());
        }
        assert!(whole);
    }
    (frames.len(), None)
}

/// Frames that one limit stops, and how many of them pass.
fn offences(from: Side) -> [(LimitKind, Limits, Vec<Vec<u8>>, usize); 4] {
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
            LimitKind::Controls,
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
        for (rule, limits, frames, passing) in offences(from) {
            let mut talk = limited(from, limits);
            let stopped = stopped(&mut talk, from, &frames);
            assert_eq!(stopped, (passing, Some(TerminationReason::Over(from, rule))));
            let code = rule.close_code().get();
            let codes = if from == Client { (code, 1001) } else { (1011, code) };
            assert_eq!(talk.codes(), (Some(codes.0), Some(codes.1)), "{rule:?} {from:?}");
        }
    }
}

#[test]
fn a_limit_that_only_reports_lets_all_pass_and_says_so_once() {
    for from in Side::BOTH {
        for (rule, mut limits, frames, _) in offences(from) {
            for cap in [&mut limits.message, &mut limits.frame, &mut limits.fragments] {
                *cap = cap.map(|cap| Limit { action: LimitAction::Report, ..cap });
            }
            limits.control_frames =
                limits.control_frames.map(|rate| RateLimit { action: LimitAction::Report, ..rate });
            let mut talk = limited(from, limits);
            for _ in 0..2 {
                talk.say(from, &frames.concat());
                if rule == LimitKind::Fragments {
                    talk.say(from, &frame(from, 0x80, b""));
                }
            }
            assert_eq!(talk.session.end(), None);
            let reported: Vec<_> = talk.session.reported(from).since(Default::default()).collect();
            assert_eq!(reported, [Violation::Over(rule)], "{from:?}");
            assert!(talk.session.reported(from.other()).is_empty());
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
        let mut talk = limited(from, age(LimitAction::Close));
        talk.say(from, &frame(from, 0x02, b"a"));
        talk.pass(seconds(59));
        talk.say(from, &frame(from, 0x80, b"b"));
        talk.pass(seconds(600));
        assert_eq!(talk.session.end(), None, "it was whole in time");
        // Many messages, the last of which has only begun.
        talk.say(from, &frame(from, 0x82, b"whole").repeat(3));
        talk.say(from, &frame(from, 0x02, b"begun"));
        for _ in 0..5 {
            talk.pass(seconds(11));
            talk.say(from, &frame(from, 0x00, b"more"));
        }
        assert_eq!(talk.session.end(), None);
        talk.pass(seconds(5));
        assert_eq!(talk.session.end(), Some(TerminationReason::Over(from, LimitKind::MessageAge)));
        assert_eq!(talk.codes().0, Some(if from == Client { 1008 } else { 1011 }));

        let mut talk = limited(from, age(LimitAction::Report));
        talk.say(from, &frame(from, 0x02, b"a"));
        talk.pass(seconds(61));
        assert_eq!(talk.session.end(), None);
        let reported = talk.session.reported(from).since(Default::default());
        assert_eq!(reported.collect::<Vec<_>>(), [Violation::Over(LimitKind::MessageAge)]);
    }
}

#[test]
fn a_message_that_we_hold_up_does_not_age() {
    let age = Some(AgeLimit { max: seconds(60), action: LimitAction::Close });
    let mut talk = limited(Client, Limits { message_age: age, ..Limits::default() });
    let rest = header(Client, 0x82, 500);
    assert_eq!(talk.intake(Client, &rest), crate::RecvAction::Forward(rest.len()));
    for left in (1..10_usize).rev() {
        talk.now += seconds(20);
        talk.session.written(Backend, left * 3000, talk.now);
        talk.session.tick(talk.now);
        assert_eq!(talk.session.end(), None, "the backend is what it waits for");
    }
    talk.round();
    talk.pass(seconds(61));
    assert_eq!(talk.session.end(), Some(TerminationReason::Over(Client, LimitKind::MessageAge)));
    assert_eq!(talk.codes(), (Some(1008), None), "nothing can be said inside a frame");
}

#[test]
fn the_lifetime_ends_at_a_quiet_moment() {
    let mut terms = SessionPolicy { heartbeat_client: None, ..terms() };
    terms.lifetime = Some(seconds(1000));
    let mut talk = Conversation::under(terms.clone());
    // Somebody speaks twice a second until the last fifth, then never.
    while talk.now < Timestamp::START + seconds(700) {
        talk.pass(Duration::from_millis(500));
        talk.say(Backend, &frame(Backend, 0x81, b"tick"));
    }
    talk.pass(seconds(300));
    assert_eq!(talk.session.end(), Some(TerminationReason::Lifetime));
    assert_eq!(talk.codes(), (Some(1012), Some(1001)));

    // Somebody never stops: at the very last it ends all the same, between two frames.
    let mut talk = Conversation::under(terms.clone());
    let begin = talk.now;
    let mut ended = None;
    while ended.is_none() && talk.now < begin + seconds(1001) {
        talk.pass(Duration::from_millis(500));
        talk.say(Backend, &frame(Backend, 0x81, b"tick"));
        ended = talk.session.end().map(|end| (end, talk.now - begin));
    }
    let (end, age) = ended.expect("an end");
    assert_eq!(end, TerminationReason::Lifetime);
    assert!((800..=1000).contains(&age.as_secs()), "{age:?}");

    // Inside a message it waits, too.
    let mut talk = Conversation::under(terms);
    talk.say(Client, &frame(Client, 0x01, b"begun"));
    let begin = talk.now;
    talk.pass(seconds(959));
    while talk.session.end().is_none() && talk.now < begin + seconds(1001) {
        talk.pass(seconds(1));
    }
    assert!(talk.now - begin >= seconds(840), "{:?}", talk.now - begin);
    assert_eq!(
        talk.session.end(),
        Some(TerminationReason::Over(Client, LimitKind::MessageAge))
            .or(Some(TerminationReason::Lifetime))
    );
}

#[test]
fn a_reader_slower_than_a_trickle_runs_out_of_time() {
    let terms = SessionPolicy { heartbeat_client: None, idle: None, ..terms() };
    assert_eq!(terms.min_write_rate, NonZeroU64::new(100));
    for (taken, survives) in [(10, false), (99, false), (101, true), (5000, true)] {
        let mut talk = Conversation::under(terms.clone());
        let much = frame(Backend, 0x82, &vec![0; 1 << 20]);
        talk.intake(Backend, &much);
        let mut left = much.len();
        talk.session.written(Client, left, talk.now);
        // A hundred seconds; the first thirty are everybody's.
        let mut ended = None;
        for second in 0..10_000 {
            talk.now += seconds(1);
            left -= taken;
            talk.session.written(Client, left, talk.now);
            talk.session.tick(talk.now);
            if talk.session.end().is_some() || left < taken || second > 5000 {
                ended = talk.session.end();
                break;
            }
        }
        assert_eq!(ended.is_none(), survives, "{taken} B/s");
        if !survives {
            assert_eq!(ended, Some(TerminationReason::WriteTrickle(Client)));
        }
    }
}

#[test]
fn a_gate_that_only_reports_lets_broken_rules_pass() {
    let terms = SessionPolicy { strict: Strictness::Report, ..terms() };
    for (from, first, payload, breach) in [
        (Client, 0x83, &b"opcode"[..], ProtocolError::Opcode),
        (Client, 0xc1, b"rsv", ProtocolError::Rsv),
        (Client, 0x80, b"stray", ProtocolError::ContinuationStray),
        (Client, 0x09, b"ping", ProtocolError::ControlFragmented),
        (Client, 0x8a, &[b'p'; 200], ProtocolError::ControlTooLong),
        (Client, 0x8b, b"", ProtocolError::Opcode),
    ] {
        let mut talk = Conversation::under(terms.clone());
        let unlawful = frame(from, first, payload);
        let lawful = frame(from, 0x82, b"after it");
        for step in [1, 3, usize::MAX] {
            let all = [&unlawful[..], &lawful[..]].concat();
            let mut rest = Vec::new();
            for piece in all.chunks(step.min(all.len())) {
                rest.extend(piece);
                let left = talk.say(from, &rest);
                rest = rest.split_off(rest.len() - left);
            }
            assert_eq!(talk.session.end(), None);
            assert_eq!(std::mem::take(&mut talk.to_backend), all, "{breach:?}");
        }
        let reported = talk.session.reported(from).since(Default::default());
        assert_eq!(reported.collect::<Vec<_>>(), [Violation::Breach(breach)]);
        assert_eq!(
            talk.session.tally().up.messages,
            3 * if first == 0x80 || first == 0xc1 { 2 } else { 1 }
        );
    }
    // An unmasked frame, a length in a longer form, a Close that says too much.
    let mut talk = Conversation::under(terms.clone());
    let unmasked = [0x81, 1, b'a'];
    let long = [0x82, 0xfe, 0, 1, 9, 9, 9, 9, b'x'];
    let close = frame(Client, 0x88, &[3]);
    let all = [&unmasked[..], &long, &close].concat();
    talk.say(Client, &all);
    assert_eq!(talk.to_backend, all);
    assert_eq!(talk.session.end(), Some(TerminationReason::ClientClosed));
    // A frame that never ends is the end even so.
    let mut talk = Conversation::under(terms);
    talk.say(Client, &[0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(talk.session.end(), Some(TerminationReason::Breach(Client, ProtocolError::Length)));
}

#[test]
fn a_reporting_gate_forgives_rules_and_no_limits() {
    let mut terms = SessionPolicy { strict: Strictness::Report, ..terms() };
    terms.from_client.message = Some(Limit::close(1000));
    terms.from_client.messages = Some(RateLimit::new(5, LimitAction::Close));
    terms.from_client.control_frames = Some(RateLimit::new(5, LimitAction::Close));
    let begun_again = frame(Client, 0x01, &[b'x'; 90]).repeat(20);
    let pings = frame(Client, 0x09, b"ping").repeat(20);
    let reserved = frame(Client, 0x83, b"data").repeat(20);
    for (frames, rule) in [
        (begun_again, LimitKind::Messages),
        (pings, LimitKind::Controls),
        (reserved, LimitKind::Messages),
    ] {
        let mut talk = Conversation::under(terms.clone());
        talk.say(Client, &frames);
        assert_eq!(talk.session.end(), Some(TerminationReason::Over(Client, rule)));
        talk.pass(seconds(1));
    }
    terms.from_client.messages = None;
    let mut talk = Conversation::under(terms);
    talk.say(Client, &frame(Client, 0x01, &[b'x'; 90]).repeat(20));
    assert_eq!(talk.session.end(), Some(TerminationReason::Over(Client, LimitKind::Message)));
    assert!(talk.to_backend.len() <= 11 * 96 + 40, "{}", talk.to_backend.len());
}

#[test]
fn a_reporting_gate_still_holds_sizes() {
    let mut terms = SessionPolicy { strict: Strictness::Report, ..terms() };
    terms.from_client.message = Some(Limit::close(100));
    for first in [0x83, 0x09, 0x82] {
        let mut talk = Conversation::under(terms.clone());
        talk.say(Client, &header(Client, first, 101));
        assert_eq!(
            talk.session.end(),
            Some(TerminationReason::Over(Client, LimitKind::Message)),
            "{first:x}"
        );
    }
}
