use proptest::prelude::*;

use super::*;
use crate::{LimitAction, RecvAction, Violation};

fn paced(from: Side, messages: Option<RateLimit>, bytes: Option<RateLimit>) -> Harness {
    let mut policy = SessionPolicy { heartbeat_client: None, idle: None, ..policy() };
    let limits = match from {
        Client => &mut policy.from_client,
        Backend => &mut policy.from_backend,
    };
    (limits.messages, limits.bytes, limits.message_age) = (messages, bytes, None);
    Harness::with_policy(policy)
}

/// Says it all, waiting whenever that is asked for; when each byte has passed, in order.
fn speak(harness: &mut Harness, from: Side, bytes: &[u8], chop: usize) -> Vec<(Duration, usize)> {
    let begin = harness.now;
    let mut passed = Vec::new();
    let mut unread = Vec::new();
    let mut pieces = bytes.chunks(chop);
    loop {
        let more = if harness.session.is_paused(from, harness.now) { None } else { pieces.next() };
        unread.extend(more.unwrap_or_default());
        let before = harness.received(from.other()).len();
        let left = harness.send(from, &unread);
        unread = unread.split_off(unread.len() - left);
        let now = harness.received(from.other()).len();
        if now > before {
            passed.push((harness.now - begin, now - before));
        }
        if harness.session.is_paused(from, harness.now) {
            assert!(!unread.is_empty(), "a pause without a reason");
            let until = harness.session.poll_timeout().expect("a pause ends");
            assert!(until > harness.now);
            harness.now = until;
            harness.session.handle_timeout(until);
            assert!(!harness.session.is_paused(from, harness.now));
        } else if more.is_none() || harness.session.termination().is_some() {
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
        let mut harness = paced(from, Some(rate), None);
        let frames: Vec<Vec<u8>> =
            sizes.iter().map(|len| frame(from, 0x82, &vec![7; *len])).collect();
        let passed = speak(&mut harness, from, &frames.concat(), chop);
        prop_assert_eq!(harness.received(from.other()), &frames.concat());
        prop_assert_eq!(harness.session.termination(), None);
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
        let mut harness = paced(from, None, Some(rate));
        let stream: Vec<u8> =
            sizes.iter().flat_map(|len| frame(from, 0x82, &vec![7; *len])).collect();
        let passed = speak(&mut harness, from, &stream, chop);
        prop_assert_eq!(harness.received(from.other()), &stream);
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
                let mut harness = paced(from, messages, bytes);
                harness.send(from, &message.repeat(10));
                assert_eq!(harness.session.termination(), None, "the burst is lawful");
                assert!(harness.session.reported(from).is_empty());
                harness.send(from, &message);
                let end = (action == LimitAction::Close)
                    .then_some(TerminationReason::LimitExceeded(from, rule));
                assert_eq!(harness.session.termination(), end);
                if action == LimitAction::Report {
                    let told = harness.session.reported(from).iter();
                    assert_eq!(told.collect::<Vec<_>>(), [Violation::LimitExceeded(rule)]);
                    assert_eq!(*harness.received(from.other()), message.repeat(11));
                } else {
                    let codes = if from == Client { (1008, 1001) } else { (1011, 1008) };
                    assert_eq!(harness.close_codes(), (Some(codes.0), Some(codes.1)), "{rule:?}");
                }
            }
        }
    }
}

#[test]
fn a_paused_side_hears_and_is_closed_all_the_same() {
    let mut harness = paced(Client, Some(RateLimit::new(1, LimitAction::Delay)), None);
    let message = frame(Client, 0x82, b"m");
    assert_eq!(harness.send(Client, &message.repeat(4)), 2 * message.len());
    assert!(harness.session.is_paused(Client, harness.now));
    assert_eq!(harness.handle_recv(Client, &message), RecvAction::Paused);
    let answer = frame(Backend, 0x82, b"for it");
    harness.send(Backend, &answer);
    assert_eq!(harness.to_client, answer);
    harness.session.close(&DRAIN, harness.now);
    harness.flush();
    assert_eq!(harness.close_codes(), (Some(1012), Some(1001)));
    assert!(!harness.session.is_paused(Client, harness.now), "its Close is waited for");
    harness.send(Client, &[message, close(Client, 1012, "")].concat());
    assert_eq!(harness.session.shutdown(Client), CloseWrite);
}

#[test]
fn a_side_that_waits_may_finish_when_the_other_one_closes() {
    for from in Side::BOTH {
        let mut harness = paced(from, Some(RateLimit::new(1, LimitAction::Delay)), None);
        let message = frame(from, 0x82, b"m");
        assert_eq!(harness.send(from, &message.repeat(9)), 7 * message.len());
        let to = from.other();
        harness.send(to, &close(to, 1000, ""));
        assert!(!harness.session.is_paused(from, harness.now));
        let rest = [message.repeat(7), close(from, 1000, "")].concat();
        assert_eq!(harness.send(from, &rest), 0);
        assert_eq!(harness.close_codes(), (Some(1000), Some(1000)));
        assert_eq!(*harness.received(to), [message.repeat(9), close(from, 1000, "")].concat());
    }
}

#[test]
fn a_pause_is_not_taken_for_death() {
    let heartbeat = HeartbeatPolicy { interval: seconds(30), timeout: seconds(10) };
    let mut policy = SessionPolicy { heartbeat_client: Some(heartbeat), idle: None, ..policy() };
    policy.from_client.bytes = Some(RateLimit::new(131, LimitAction::Delay));
    policy.from_client.message_age = None;
    let mut harness = Harness::with_policy(policy);
    let stream = frame(Client, 0x82, &vec![0; 131 * 200]);
    // Its pongs lie behind what may not come yet.
    let mut unread = stream.clone();
    let mut answered = 0;
    for _ in 0..800 {
        let left = harness.send(Client, &unread);
        unread = unread.split_off(unread.len() - left);
        harness.now = harness.session.poll_timeout().expect("a heartbeat");
        harness.session.handle_timeout(harness.now);
        harness.flush();
        if let Some(ping) = harness.to_client.chunks(10).nth(answered) {
            unread.extend(frame(Client, 0x8a, &ping[2..]));
            answered += 1;
        }
    }
    assert_eq!(harness.session.termination(), None);
    let pings: Vec<_> = harness.to_client.chunks(10).collect();
    assert!(pings.len() > 5 && pings[0] == pings[1], "the same goes out again");
    assert!(pings.windows(2).any(|two| two[0] != two[1]), "until it is answered");
    assert_eq!(harness.to_backend, stream, "no answer of ours passes");
    let rtt = harness.session.rtt(Client).expect("measured when nothing was held up any more");
    assert!(rtt.max < seconds(1), "{rtt:?}");
    let delayed = harness.session.read_delays(Client);
    assert!((180..=200).contains(&delayed.time.as_secs()), "{delayed:?}");
    let by: Vec<_> = delayed.by.iter().collect();
    assert_eq!(by, [Violation::LimitExceeded(LimitKind::Bytes)]);
    assert_eq!(harness.session.read_delays(Backend), Default::default());
}

/// Who was asked twice may answer twice, and the second time only when the next ping is out.
#[test]
fn a_pong_that_comes_behind_the_next_ping_is_ours() {
    let heartbeat = HeartbeatPolicy { interval: seconds(30), timeout: seconds(10) };
    let mut policy = SessionPolicy { heartbeat_client: Some(heartbeat), idle: None, ..policy() };
    policy.from_client.bytes = Some(RateLimit::new(30, LimitAction::Delay));
    policy.from_client.message_age = None;
    let mut harness = Harness::with_policy(policy);
    let first = harness.next_ping();
    let (some, more) = (frame(Client, 0x82, &[0; 500]), frame(Client, 0x82, &[0; 1200]));
    let pong = frame(Client, 0x8a, &first);
    let mut unread = [&some[..], &pong, &more, &pong].concat();
    loop {
        let left = harness.send(Client, &unread);
        unread = unread.split_off(unread.len() - left);
        if left == 0 {
            break;
        }
        harness.now = harness.session.poll_timeout().expect("a pause");
        harness.session.handle_timeout(harness.now);
        harness.flush();
    }
    let pings: Vec<_> = harness.to_client.chunks(10).map(|ping| ping[2..].to_vec()).collect();
    let next = pings.last().expect("a ping").clone();
    assert_eq!(pings[..2], [first, first], "it went out again");
    assert_ne!(next, first, "and the next one before it was answered twice");
    assert_eq!(harness.to_backend, [&some[..], &more].concat(), "no answer of ours passes");
    // The next one is still awaited, and for a third answer to the first nobody has asked.
    harness.send(Client, &[frame(Client, 0x8a, &next), pong.clone()].concat());
    assert_eq!(harness.to_backend, [&some[..], &more, &pong].concat());
    harness.advance(seconds(15));
    assert_eq!(harness.session.termination(), None);
}

#[test]
fn who_is_delayed_is_not_idle() {
    let mut policy = SessionPolicy { heartbeat_client: None, idle: Some(seconds(5)), ..policy() };
    policy.from_client.message_age = None;
    policy.from_client.bytes = Some(RateLimit::new(1, LimitAction::Delay));
    let mut harness = Harness::with_policy(policy);
    assert!(harness.send(Client, &frame(Client, 0x82, &[0; 300])) > 0);
    for _ in 0..20 {
        harness.now += seconds(1);
        harness.session.handle_timeout(harness.now);
    }
    assert_eq!(harness.session.termination(), None, "its bytes come in their time");
}
