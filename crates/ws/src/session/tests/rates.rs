use proptest::prelude::*;

use super::*;
use crate::{LimitAction, RecvAction, Violation};

fn paced(from: Side, messages: Option<RateLimit>, bytes: Option<RateLimit>) -> Conversation {
    let mut terms = SessionPolicy { heartbeat_client: None, idle: None, ..terms() };
    let limits = match from {
        Client => &mut terms.from_client,
        Backend => &mut terms.from_backend,
    };
    (limits.messages, limits.bytes, limits.message_age) = (messages, bytes, None);
    Conversation::under(terms)
}

/// Says it all, waiting whenever that is asked for; when each byte has passed, in order.
fn speak(talk: &mut Conversation, from: Side, bytes: &[u8], chop: usize) -> Vec<(Duration, usize)> {
    let begin = talk.now;
    let mut passed = Vec::new();
    let mut unread = Vec::new();
    let mut pieces = bytes.chunks(chop);
    loop {
        let more = if talk.session.is_paused(from, talk.now) { None } else { pieces.next() };
        unread.extend(more.unwrap_or_default());
        let before = talk.received(from.other()).len();
        let left = talk.say(from, &unread);
        unread = unread.split_off(unread.len() - left);
        let now = talk.received(from.other()).len();
        if now > before {
            passed.push((talk.now - begin, now - before));
        }
        if talk.session.is_paused(from, talk.now) {
            assert!(!unread.is_empty(), "a pause without a reason");
            let until = talk.session.deadline().expect("a pause ends");
            assert!(until > talk.now);
            talk.now = until;
            talk.session.tick(until);
            assert!(!talk.session.is_paused(from, talk.now));
        } else if more.is_none() || talk.session.end().is_some() {
            return passed;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Nothing is lost, and no stretch of time has more messages than it may, however the bytes
    /// are chopped.
    // Requirements: FC17.
    #[test]
    fn messages_over_the_rate_are_delayed(
        per_second in 1_u64..50,
        sizes in prop::collection::vec(0_usize..300, 1..200),
        chop in 1_usize..2000,
        from in prop::sample::select(Side::BOTH.to_vec()),
    ) {
        let rate = RateLimit::new(per_second, LimitAction::Delay);
        let mut talk = paced(from, Some(rate), None);
        let frames: Vec<Vec<u8>> =
            sizes.iter().map(|len| frame(from, 0x82, &vec![7; *len])).collect();
        let passed = speak(&mut talk, from, &frames.concat(), chop);
        prop_assert_eq!(talk.received(from.other()), &frames.concat());
        prop_assert_eq!(talk.session.end(), None);
        // When each message was whole.
        let mut whole = Vec::new();
        let (mut bytes, mut end) = (0, 0);
        let mut ends = frames.iter().map(|frame| { end += frame.len(); end }).peekable();
        for (at, len) in passed {
            bytes += len;
            while ends.next_if(|end| *end <= bytes).is_some() {
                whole.push(at.as_secs_f64());
            }
        }
        for (first, from) in whole.iter().enumerate() {
            for (count, until) in whole[first..].iter().enumerate() {
                let may = (2 * per_second) as f64 + (until - from) * per_second as f64;
                // One message may have begun before.
                prop_assert!(count as f64 <= may + 1.0, "{} > {}", count + 1, may);
            }
        }
    }

    // Requirements: FC18.
    #[test]
    fn bytes_over_the_rate_are_delayed(
        per_second in 70_u64..5000,
        sizes in prop::collection::vec(0_usize..3000, 1..60),
        chop in 1_usize..5000,
        from in prop::sample::select(Side::BOTH.to_vec()),
    ) {
        let rate = RateLimit::new(per_second, LimitAction::Delay);
        let mut talk = paced(from, None, Some(rate));
        let stream: Vec<u8> =
            sizes.iter().flat_map(|len| frame(from, 0x82, &vec![7; *len])).collect();
        let passed = speak(&mut talk, from, &stream, chop);
        prop_assert_eq!(talk.received(from.other()), &stream);
        for (first, (from, _)) in passed.iter().enumerate() {
            let mut bytes = 0;
            for (until, len) in &passed[first..] {
                bytes += len;
                let may = (2 * per_second).max(131) as f64
                    + (*until - *from).as_secs_f64() * per_second as f64;
                prop_assert!(bytes as f64 <= may + 1.0, "{bytes} > {may}");
            }
        }
    }
}

#[test]
fn a_rate_may_close_or_report_instead() {
    for from in Side::BOTH {
        let message = frame(from, 0x82, &[0; 40]);
        for rule in [LimitKind::Messages, LimitKind::Bytes] {
            for action in [LimitAction::Close, LimitAction::Report] {
                let (messages, bytes) = if rule == LimitKind::Messages {
                    (Some(RateLimit::new(5, action)), None)
                } else {
                    (None, Some(RateLimit::new(10 * message.len() as u64 / 2, action)))
                };
                let mut talk = paced(from, messages, bytes);
                talk.say(from, &message.repeat(10));
                assert_eq!(talk.session.end(), None, "the burst is lawful");
                assert!(talk.session.reported(from).is_empty());
                talk.say(from, &message);
                let end =
                    (action == LimitAction::Close).then_some(TerminationReason::Over(from, rule));
                assert_eq!(talk.session.end(), end);
                if action == LimitAction::Report {
                    let told = talk.session.reported(from).since(Default::default());
                    assert_eq!(told.collect::<Vec<_>>(), [Violation::Over(rule)]);
                    assert_eq!(*talk.received(from.other()), message.repeat(11));
                } else {
                    let codes = if from == Client { (1008, 1001) } else { (1011, 1008) };
                    assert_eq!(talk.codes(), (Some(codes.0), Some(codes.1)), "{rule:?}");
                }
            }
        }
    }
}

#[test]
fn a_paused_side_hears_and_is_closed_all_the_same() {
    let mut talk = paced(Client, Some(RateLimit::new(1, LimitAction::Delay)), None);
    let message = frame(Client, 0x82, b"m");
    assert_eq!(talk.say(Client, &message.repeat(4)), 2 * message.len());
    assert!(talk.session.is_paused(Client, talk.now));
    assert_eq!(talk.intake(Client, &message), RecvAction::Paused);
    let answer = frame(Backend, 0x82, b"for it");
    talk.say(Backend, &answer);
    assert_eq!(talk.to_client, answer);
    talk.session.leave(TerminationReason::Drained, None, talk.now);
    talk.round();
    assert_eq!(talk.codes(), (Some(1012), Some(1001)));
    assert!(!talk.session.is_paused(Client, talk.now), "its Close is waited for");
    talk.say(Client, &[message, close(Client, 1012, "")].concat());
    assert_eq!(talk.session.parting(Client), Finish);
}

#[test]
fn a_side_that_waits_may_finish_when_the_other_one_closes() {
    for from in Side::BOTH {
        let mut talk = paced(from, Some(RateLimit::new(1, LimitAction::Delay)), None);
        let message = frame(from, 0x82, b"m");
        assert_eq!(talk.say(from, &message.repeat(9)), 7 * message.len());
        let to = from.other();
        talk.say(to, &close(to, 1000, ""));
        assert!(!talk.session.is_paused(from, talk.now));
        let rest = [message.repeat(7), close(from, 1000, "")].concat();
        assert_eq!(talk.say(from, &rest), 0);
        assert_eq!(talk.codes(), (Some(1000), Some(1000)));
        assert_eq!(*talk.received(to), [message.repeat(9), close(from, 1000, "")].concat());
    }
}

#[test]
fn a_pause_is_not_taken_for_death() {
    let heartbeat = HeartbeatPolicy { interval: seconds(30), timeout: seconds(10) };
    let mut terms = SessionPolicy { heartbeat_client: Some(heartbeat), idle: None, ..terms() };
    terms.from_client.bytes = Some(RateLimit::new(131, LimitAction::Delay));
    terms.from_client.message_age = None;
    let mut talk = Conversation::under(terms);
    let stream = frame(Client, 0x82, &vec![0; 131 * 200]);
    // Its pongs lie behind what may not come yet.
    let mut unread = stream.clone();
    let mut answered = 0;
    for _ in 0..800 {
        let left = talk.say(Client, &unread);
        unread = unread.split_off(unread.len() - left);
        talk.now = talk.session.deadline().expect("a heartbeat");
        talk.session.tick(talk.now);
        talk.round();
        if let Some(ping) = talk.to_client.chunks(10).nth(answered) {
            unread.extend(frame(Client, 0x8a, &ping[2..]));
            answered += 1;
        }
    }
    assert_eq!(talk.session.end(), None);
    let pings: Vec<_> = talk.to_client.chunks(10).collect();
    assert!(pings.len() > 5 && pings[0] == pings[1], "the same goes out again");
    assert!(pings.windows(2).any(|two| two[0] != two[1]), "until it is answered");
    assert_eq!(talk.to_backend, stream, "no answer of ours passes");
    let rtt = talk.session.rtt(Client).expect("measured when nothing was held up any more");
    assert!(rtt.max < seconds(1), "{rtt:?}");
    let delayed = talk.session.delayed(Client);
    assert!((180..=200).contains(&delayed.time.as_secs()), "{delayed:?}");
    let by: Vec<_> = delayed.by.since(Default::default()).collect();
    assert_eq!(by, [Violation::Over(LimitKind::Bytes)]);
    assert_eq!(talk.session.delayed(Backend), Default::default());
}

/// Who was asked twice may answer twice, and the second time only when the next ping is out.
#[test]
fn a_pong_that_comes_behind_the_next_ping_is_ours() {
    let heartbeat = HeartbeatPolicy { interval: seconds(30), timeout: seconds(10) };
    let mut terms = SessionPolicy { heartbeat_client: Some(heartbeat), idle: None, ..terms() };
    terms.from_client.bytes = Some(RateLimit::new(30, LimitAction::Delay));
    terms.from_client.message_age = None;
    let mut talk = Conversation::under(terms);
    let first = talk.ping();
    let (some, more) = (frame(Client, 0x82, &[0; 500]), frame(Client, 0x82, &[0; 1200]));
    let pong = frame(Client, 0x8a, &first);
    let mut unread = [&some[..], &pong, &more, &pong].concat();
    loop {
        let left = talk.say(Client, &unread);
        unread = unread.split_off(unread.len() - left);
        if left == 0 {
            break;
        }
        talk.now = talk.session.deadline().expect("a pause");
        talk.session.tick(talk.now);
        talk.round();
    }
    let pings: Vec<_> = talk.to_client.chunks(10).map(|ping| ping[2..].to_vec()).collect();
    let next = pings.last().expect("a ping").clone();
    assert_eq!(pings[..2], [first, first], "it went out again");
    assert_ne!(next, first, "and the next one before it was answered twice");
    assert_eq!(talk.to_backend, [&some[..], &more].concat(), "no answer of ours passes");
    // The next one is still awaited, and for a third answer to the first nobody has asked.
    talk.say(Client, &[frame(Client, 0x8a, &next), pong.clone()].concat());
    assert_eq!(talk.to_backend, [&some[..], &more, &pong].concat());
    talk.pass(seconds(15));
    assert_eq!(talk.session.end(), None);
}

#[test]
fn who_is_delayed_is_not_idle() {
    let mut terms = SessionPolicy { heartbeat_client: None, idle: Some(seconds(5)), ..terms() };
    terms.from_client.message_age = None;
    terms.from_client.bytes = Some(RateLimit::new(1, LimitAction::Delay));
    let mut talk = Conversation::under(terms);
    assert!(talk.say(Client, &frame(Client, 0x82, &[0; 300])) > 0);
    for _ in 0..20 {
        talk.now += seconds(1);
        talk.session.tick(talk.now);
    }
    assert_eq!(talk.session.end(), None, "its bytes come in their time");
}
