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

/// Sends all bytes in chunks, waiting out each pause. Returns when how many bytes passed.
fn send_paced(
    harness: &mut Harness,
    from: Side,
    bytes: &[u8],
    chunk_len: usize,
) -> Vec<(Duration, usize)> {
    let begin = harness.now;
    let mut passed = Vec::new();
    let mut unread = Vec::new();
    let mut chunks = bytes.chunks(chunk_len);
    loop {
        let more = if harness.session.is_paused(from, harness.now) { None } else { chunks.next() };
        unread.extend(more.unwrap_or_default());
        let before = harness.received(from.other()).len();
        let left = harness.feed_from(from, &unread);
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

    /// Nothing is lost, and no interval contains more messages than the rate allows, however the
    /// bytes are split.
    // Requirements: FC17.
    #[test]
    fn messages_over_the_rate_are_delayed(
        per_second in 1_u64..50,
        sizes in prop::collection::vec(0_usize..300, 1..200),
        chunk_len in 1_usize..2000,
        from in prop::sample::select(Side::BOTH.to_vec()),
    ) {
        let rate = RateLimit::new(per_second, LimitAction::Delay);
        let mut harness = paced(from, Some(rate), None);
        let frames: Vec<Vec<u8>> =
            sizes.iter().map(|len| frame(from, 0x82, &vec![7; *len])).collect();
        let passed = send_paced(&mut harness, from, &frames.concat(), chunk_len);
        prop_assert_eq!(harness.received(from.other()), &frames.concat());
        prop_assert_eq!(harness.session.termination(), None);
        // When each message was complete.
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
                let allowed = (2 * per_second) as f64 + (until - from) * per_second as f64;
                // One message may have started earlier.
                prop_assert!(count as f64 <= allowed + 1.0, "{} > {}", count + 1, allowed);
            }
        }
    }

    // Requirements: FC18.
    #[test]
    fn bytes_over_the_rate_are_delayed(
        per_second in 70_u64..5000,
        sizes in prop::collection::vec(0_usize..3000, 1..60),
        chunk_len in 1_usize..5000,
        from in prop::sample::select(Side::BOTH.to_vec()),
    ) {
        let rate = RateLimit::new(per_second, LimitAction::Delay);
        let mut harness = paced(from, None, Some(rate));
        let stream: Vec<u8> =
            sizes.iter().flat_map(|len| frame(from, 0x82, &vec![7; *len])).collect();
        let passed = send_paced(&mut harness, from, &stream, chunk_len);
        prop_assert_eq!(harness.received(from.other()), &stream);
        for (first, (from, _)) in passed.iter().enumerate() {
            let mut bytes = 0;
            for (until, len) in &passed[first..] {
                bytes += len;
                let allowed = (2 * per_second).max(131) as f64
                    + (*until - *from).as_secs_f64() * per_second as f64;
                prop_assert!(bytes as f64 <= allowed + 1.0, "{bytes} > {allowed}");
            }
        }
    }
}

#[test]
fn rate_can_close_or_report_instead() {
    for from in Side::BOTH {
        let message = frame(from, 0x82, &[0; 40]);
        for limit in [LimitKind::Messages, LimitKind::Bytes] {
            for action in [LimitAction::Close, LimitAction::Report] {
                let (messages, bytes) = if limit == LimitKind::Messages {
                    (Some(RateLimit::new(5, action)), None)
                } else {
                    (None, Some(RateLimit::new(10 * message.len() as u64 / 2, action)))
                };
                let mut harness = paced(from, messages, bytes);
                harness.feed_from(from, &message.repeat(10));
                assert_eq!(harness.session.termination(), None, "the burst is allowed");
                assert!(harness.session.reported(from).is_empty());
                harness.feed_from(from, &message);
                let end = (action == LimitAction::Close)
                    .then_some(TerminationReason::LimitExceeded(from, limit));
                assert_eq!(harness.session.termination(), end);
                if action == LimitAction::Report {
                    let reported = harness.session.reported(from).iter();
                    assert_eq!(reported.collect::<Vec<_>>(), [Violation::LimitExceeded(limit)]);
                    assert_eq!(*harness.received(from.other()), message.repeat(11));
                } else {
                    harness.answer_close(from.other());
                    let codes = if from == Client { (1008, 1001) } else { (1013, 1008) };
                    assert_eq!(
                        harness.close_codes(),
                        CloseCodes { to_client: Some(codes.0), to_backend: Some(codes.1) },
                        "{limit:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn paused_side_receives_and_can_be_closed() {
    let mut harness = paced(Client, Some(RateLimit::new(1, LimitAction::Delay)), None);
    let message = frame(Client, 0x82, b"m");
    assert_eq!(harness.feed_from(Client, &message.repeat(4)), 2 * message.len());
    assert!(harness.session.is_paused(Client, harness.now));
    assert_eq!(harness.handle_recv(Client, &message), RecvAction::Paused);
    let answer = frame(Backend, 0x82, b"reply");
    harness.feed_from(Backend, &answer);
    assert_eq!(harness.to_client, answer);
    harness.session.close(&DRAIN, harness.now);
    harness.flush();
    assert_eq!(harness.close_codes(), CloseCodes { to_client: Some(1012), to_backend: Some(1001) });
    assert!(!harness.session.is_paused(Client, harness.now), "its Close is awaited");
    harness.feed_from(Client, &[message, close(Client, 1012, "")].concat());
    assert_eq!(harness.session.shutdown(Client), CloseWrite);
}

#[test]
fn delayed_side_finishes_after_the_other_closes() {
    for from in Side::BOTH {
        let mut harness = paced(from, Some(RateLimit::new(1, LimitAction::Delay)), None);
        let message = frame(from, 0x82, b"m");
        assert_eq!(harness.feed_from(from, &message.repeat(9)), 7 * message.len());
        let to = from.other();
        harness.feed_from(to, &close(to, 1000, ""));
        assert!(!harness.session.is_paused(from, harness.now));
        let rest = [message.repeat(7), close(from, 1000, "")].concat();
        assert_eq!(harness.feed_from(from, &rest), 0);
        assert_eq!(
            harness.close_codes(),
            CloseCodes { to_client: Some(1000), to_backend: Some(1000) }
        );
        assert_eq!(*harness.received(to), [message.repeat(9), close(from, 1000, "")].concat());
    }
}

#[test]
fn paused_peer_is_not_lost() {
    let mut policy = SessionPolicy { idle: None, ..policy() };
    policy.from_client.bytes = Some(RateLimit::new(131, LimitAction::Delay));
    policy.from_client.message_age = None;
    let mut harness = Harness::with_policy(policy);
    let stream = frame(Client, 0x82, &vec![0; 131 * 200]);
    // Its pongs follow data that is delayed.
    let mut unread = stream.clone();
    let mut answered = 0;
    for _ in 0..800 {
        let left = harness.feed_from(Client, &unread);
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
    assert!(pings.len() > 5 && pings[0] == pings[1], "the same ping is retransmitted");
    assert!(pings.windows(2).any(|two| two[0] != two[1]), "until it is answered");
    assert_eq!(harness.to_backend, stream, "answers to the proxy's pings do not pass");
    let rtt = harness.session.rtt(Client).expect("measured after the delay ended");
    assert!(rtt.max < seconds(1), "{rtt:?}");
    let delayed = harness.session.read_delays(Client);
    assert!((180..=200).contains(&delayed.time.as_secs()), "{delayed:?}");
    let by: Vec<_> = delayed.by.iter().collect();
    assert_eq!(by, [Violation::LimitExceeded(LimitKind::Bytes)]);
    assert_eq!(harness.session.read_delays(Backend), Default::default());
}

/// A peer may answer a retransmitted ping twice, the second time after the next ping was sent.
#[test]
fn late_pong_to_a_retransmitted_ping_is_recognized() {
    let mut policy = SessionPolicy { idle: None, ..policy() };
    policy.from_client.bytes = Some(RateLimit::new(30, LimitAction::Delay));
    policy.from_client.message_age = None;
    let mut harness = Harness::with_policy(policy);
    let first = harness.next_ping();
    let (some, more) = (frame(Client, 0x82, &[0; 500]), frame(Client, 0x82, &[0; 1200]));
    let pong = frame(Client, 0x8a, &first);
    let mut unread = [&some[..], &pong, &more, &pong].concat();
    loop {
        let left = harness.feed_from(Client, &unread);
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
    assert_eq!(pings[..2], [first, first], "it was retransmitted");
    assert_ne!(next, first, "the next one was sent before the second answer");
    assert_eq!(
        harness.to_backend,
        [&some[..], &more].concat(),
        "answers to the proxy's pings do not pass"
    );
    // The next pong is still expected; a third answer to the first ping is unsolicited.
    harness.feed_from(Client, &[frame(Client, 0x8a, &next), pong.clone()].concat());
    assert_eq!(harness.to_backend, [&some[..], &more, &pong].concat());
    harness.advance(seconds(15));
    assert_eq!(harness.session.termination(), None);
}

#[test]
fn delayed_side_is_not_idle() {
    let mut policy = SessionPolicy { heartbeat_client: None, idle: Some(seconds(5)), ..policy() };
    policy.from_client.message_age = None;
    policy.from_client.bytes = Some(RateLimit::new(1, LimitAction::Delay));
    let mut harness = Harness::with_policy(policy);
    assert!(harness.feed_from(Client, &frame(Client, 0x82, &[0; 300])) > 0);
    for _ in 0..20 {
        harness.now += seconds(1);
        harness.session.handle_timeout(harness.now);
    }
    assert_eq!(harness.session.termination(), None, "its bytes arrive later");
}
