//! Idle timeout and heartbeats.

use std::collections::BTreeMap;

use super::*;
use crate::test_support::CountingEntropy;

// Requirements: FC36.
#[test]
fn idle_timeout_counts_data_frames_only() {
    let mut harness = Harness::with_policy(SessionPolicy { idle: Some(seconds(60)), ..policy() });
    let mut pinged = 0;
    harness.advance(seconds(1));
    harness.feed_from(Client, &frame(Client, 0x82, b"data"));
    for _ in 0..59 {
        harness.advance(seconds(1));
        if let Some(payload) = harness.to_client.strip_prefix(&[0x89, 8]) {
            pinged += 1;
            let payload = payload.to_vec();
            harness.feed_from(Client, &frame(Client, 0x8a, &payload));
        }
        harness.feed_from(Client, &frame(Client, 0x89, b"app"));
        harness.feed_from(Backend, &frame(Backend, 0x8a, b"app"));
        harness.to_client.clear();
    }
    assert!(pinged > 0);
    assert_eq!(harness.session.termination(), None);
    harness.advance(seconds(1));
    assert_eq!(harness.session.termination(), Some(TerminationReason::Idle));
    assert_eq!(harness.close_codes(), CloseCodes { to_client: Some(1001), to_backend: Some(1001) });
}

#[test]
fn idle_counts_from_the_last_data_byte() {
    let mut harness = Harness::with_policy(SessionPolicy {
        idle: Some(seconds(60)),
        heartbeat_client: None,
        ..without_message_age()
    });
    let long = frame(Client, 0x82, &[0; 100]);
    for part in [&long[..20], &long[20..21]] {
        harness.feed_from(Client, part);
        harness.advance(seconds(59));
    }
    harness.feed_from(Backend, &frame(Backend, 0x82, b""));
    harness.advance(seconds(59));
    assert_eq!(harness.session.termination(), None);
    harness.advance(seconds(1));
    assert_eq!(harness.session.termination(), Some(TerminationReason::Idle));
    assert_eq!(
        harness.close_codes(),
        CloseCodes { to_client: Some(1001), to_backend: None },
        "the client's frame is incomplete"
    );
}

// Requirements: FC37.
#[test]
fn missing_pong_closes_both_sides() {
    let mut harness = Harness::new();
    let pinged = harness.now;
    harness.feed_from(Client, &frame(Client, 0x82, b"data before the ping"));
    harness.next_ping();
    let first = harness.now - pinged;
    assert!(first >= seconds(15) && first < seconds(30), "{first:?}");
    harness.advance(seconds(10) - Duration::from_nanos(1));
    harness.feed_from(Backend, &frame(Backend, 0x82, b"data of the other side"));
    assert_eq!(harness.session.termination(), None);
    harness.advance(Duration::from_nanos(1));
    assert_eq!(
        harness.session.termination(),
        Some(TerminationReason::HeartbeatTimeout(Side::Client))
    );
    assert_eq!(harness.close_codes(), CloseCodes { to_client: Some(1001), to_backend: Some(1001) });
}

// Requirements: FC37.
#[test]
fn only_the_pong_counts_if_required() {
    let mut harness = Harness::with_policy(pong_required());
    let payload = harness.next_ping();
    harness.feed_from(Client, &frame(Client, 0x8a, b"another pong"));
    harness.advance(seconds(10) - Duration::from_nanos(1));
    harness.feed_from(Client, &frame(Client, 0x82, b"data, but no pong"));
    assert_eq!(harness.session.termination(), None);
    harness.advance(Duration::from_nanos(1));
    let lost = Some(TerminationReason::HeartbeatTimeout(Side::Client));
    assert_eq!(harness.session.termination(), lost);
    let mut harness = Harness::with_policy(pong_required());
    assert_eq!(harness.next_ping(), payload);
    harness.feed_from(Client, &frame(Client, 0x8a, &payload));
    harness.advance(seconds(10));
    assert_eq!(harness.session.termination(), None);
}

// Requirements: FC39.
#[test]
fn any_byte_after_a_ping_is_life() {
    let data = frame(Client, 0x82, b"data");
    let start_of_a_frame = vec![0x82];
    for bytes in [data, frame(Client, 0x8a, b"another pong"), start_of_a_frame] {
        let mut harness = Harness::new();
        let payload = harness.next_ping();
        let pinged = harness.now;
        harness.feed_from(Client, &bytes);
        harness.advance(seconds(10));
        assert_eq!(harness.next_ping(), payload, "sent again, as it has no pong");
        let wait = harness.now - pinged;
        assert!(wait > Duration::from_millis(26_250) && wait <= seconds(30), "{wait:?}");
        harness.advance(seconds(10) - Duration::from_nanos(1));
        assert_eq!(harness.session.termination(), None);
        harness.advance(Duration::from_nanos(1));
        let lost = Some(TerminationReason::HeartbeatTimeout(Side::Client));
        assert_eq!(harness.session.termination(), lost, "each ping needs its own proof");
    }
}

// Requirements: F20, FC39.
#[test]
fn late_pongs_are_not_relayed() {
    let mut harness = Harness::new();
    let data = frame(Client, 0x82, b"data");
    let payload = harness.next_ping();
    for _ in 0..5 {
        harness.feed_from(Client, &data);
        harness.advance(seconds(10));
        assert_eq!(harness.next_ping(), payload);
    }
    let pong = frame(Client, 0x8a, &payload);
    harness.feed_from(Client, &pong.repeat(6));
    assert_eq!(harness.to_backend, data.repeat(5));
    assert_eq!(harness.session.rtt(Client), None, "which ping is answered is unknown");
    harness.feed_from(Client, &pong);
    assert_eq!(harness.to_backend, [data.repeat(5), pong].concat(), "one more is unsolicited");
    let next = harness.next_ping();
    assert_ne!(next, payload);
    harness.feed_from(Client, &data);
    harness.advance(seconds(10));
    harness.to_backend.clear();
    harness.feed_from(Client, &frame(Client, 0x8a, &next));
    assert!(harness.to_backend.is_empty());
    assert_ne!(harness.next_ping(), next, "its pong came, if late");
}

#[test]
fn live_peer_is_pinged_at_most_once_per_timeout() {
    let heartbeat =
        HeartbeatPolicy { interval: seconds(1), timeout: seconds(10), proof: PingProof::Any };
    let policy = SessionPolicy { heartbeat_client: Some(heartbeat), ..without_message_age() };
    let mut harness = Harness::with_policy(policy);
    harness.next_ping();
    harness.to_client.clear();
    for _ in 0..50 {
        harness.feed_from(Client, &frame(Client, 0x82, b"data"));
        harness.advance(seconds(1));
    }
    assert_eq!(harness.to_client.len(), 5 * 10, "five pings");
    assert_eq!(harness.session.termination(), None);
}

#[test]
fn next_ping_follows_the_pong_by_the_interval() {
    let mut harness = Harness::new();
    for _ in 0..5 {
        let payload = harness.next_ping();
        harness.advance(seconds(9));
        harness.feed_from(Client, &frame(Client, 0x8a, &payload));
        let wait = harness.session.poll_timeout().expect("a heartbeat") - harness.now;
        assert!(wait > Duration::from_millis(26_250) && wait <= seconds(30), "{wait:?}");
        assert_eq!(harness.session.rtt(Client).map(|rtt| rtt.last), Some(seconds(9)));
    }
    assert!(harness.to_backend.is_empty());
    assert_eq!(harness.session.stats().up, DirectionStats::default());
}

#[test]
fn sessions_send_pings_at_common_times() {
    let millis = Duration::from_millis;
    for interval in [millis(1600), seconds(30), seconds(3601)] {
        for since_origin in [0, 1, 99_999_999, 100_000_000, 86_412_345_678_901] {
            let since_origin = Duration::from_nanos(since_origin);
            let mut harness = Harness::with_policy(pinged_every(interval));
            let policy = Arc::new(pinged_every(interval));
            harness.session =
                Session::new(policy, DeflateMode::Off, since_origin, &mut harness.entropy);
            let (mut last, mut shortest) = (harness.now, interval / 2);
            for _ in 0..20 {
                let payload = harness.next_ping();
                let wait = harness.now - last;
                assert!(wait >= shortest && wait <= interval, "{wait:?} of {interval:?}");
                let time = since_origin + (harness.now - Timestamp::START);
                assert_eq!(time.as_nanos() % millis(100).as_nanos(), 0, "{time:?}");
                harness.advance(Duration::from_micros(12_345));
                harness.feed_from(Client, &frame(Client, 0x8a, &payload));
                (last, shortest) = (harness.now, interval * 7 / 8);
            }
        }
    }
}

#[test]
fn pings_of_simultaneous_sessions_are_spread() {
    for interval in [Duration::from_millis(300), seconds(30)] {
        let policy = Arc::new(pinged_every(interval));
        let mut entropy = CountingEntropy::default();
        let mut pings = BTreeMap::<Duration, usize>::new();
        for _ in 0..3000 {
            let since_origin = Duration::ZERO;
            let session =
                Session::new(policy.clone(), DeflateMode::Off, since_origin, &mut entropy);
            let at = session.poll_timeout().expect("a heartbeat") - Timestamp::START;
            *pings.entry(at).or_default() += 1;
        }
        assert!(pings.len() > 140, "{} times", pings.len());
        let most = pings.values().max();
        assert!(most < Some(&60), "{most:?} at once");
    }
}

#[test]
fn timeout_starts_when_the_ping_is_sent() {
    let mut harness = Harness::new();
    let message = frame(Backend, 0x82, &[0; 100]);
    harness.feed_from(Backend, &message[..50]);
    harness.now += seconds(30);
    harness.session.handle_timeout(harness.now);
    assert!(harness.poll_control(Client).is_none(), "RFC 6455 5.4: not inside a frame");
    harness.advance(seconds(300));
    assert_eq!(harness.session.termination(), None);
    harness.feed_from(Backend, &[&message[50..], &message].concat());
    let ping = harness.to_client[message.len()..][..2].to_vec();
    assert_eq!(ping, [0x89, 8], "at the boundary, although more input was available");
    assert_eq!(harness.to_client.len(), 2 * message.len() + 10);
    assert_eq!(harness.session.poll_timeout(), Some(harness.now + seconds(10)));
}

#[test]
fn no_pong_is_expected_inside_a_frame() {
    let mut harness = Harness::with_policy(pong_required());
    harness.next_ping();
    let long = frame(Client, 0x82, &[0; 1000]);
    for part in long.chunks(100) {
        harness.feed_from(Client, part);
        harness.advance(seconds(10));
    }
    assert_eq!(
        harness.session.termination(),
        Some(TerminationReason::HeartbeatTimeout(Side::Client)),
        "it could answer after the last part"
    );
    let mut harness = Harness::with_policy(pong_required());
    harness.next_ping();
    harness.feed_from(Client, &long[..100]);
    harness.advance(seconds(20) - Duration::from_nanos(1));
    assert_eq!(harness.session.termination(), None);
    harness.advance(Duration::from_nanos(1));
    assert_eq!(
        harness.session.termination(),
        Some(TerminationReason::HeartbeatTimeout(Side::Client)),
        "the frame makes no progress"
    );
}

#[test]
fn only_one_frame_in_progress_excuses_a_missing_pong() {
    let mut harness = Harness::with_policy(pong_required());
    harness.next_ping();
    // Ends within a frame at each timeout, but the pong could have preceded each of these frames.
    let message = frame(Client, 0x82, &[0; 100]);
    let mut stream = message.repeat(3).into_iter();
    harness.feed_from(Client, &stream.by_ref().take(50).collect::<Vec<_>>());
    harness.advance(seconds(10));
    assert_eq!(harness.session.termination(), None, "the pong may follow this frame");
    harness.feed_from(Client, &stream.by_ref().take(message.len()).collect::<Vec<_>>());
    harness.advance(seconds(10));
    assert_eq!(
        harness.session.termination(),
        Some(TerminationReason::HeartbeatTimeout(Side::Client))
    );
}

#[test]
fn pong_may_follow_the_frame_in_progress() {
    let mut harness = Harness::with_policy(pong_required());
    let payload = harness.next_ping();
    let message = frame(Client, 0x82, &[0; 100]);
    harness.feed_from(Client, &message[..50]);
    harness.advance(seconds(10));
    harness.feed_from(Client, &[&message[50..], &frame(Client, 0x8a, &payload)].concat());
    harness.advance(seconds(10));
    assert_eq!(harness.session.termination(), None);
}

#[test]
fn blocked_peer_is_not_lost() {
    for blocked in Side::BOTH {
        let mut harness = Harness::with_policy(SessionPolicy { min_write_rate: None, ..policy() });
        let pinged = harness.next_ping();
        for left in (1..5).rev() {
            harness.session.handle_written(blocked, left, harness.now);
            harness.now += seconds(10);
            harness.session.handle_timeout(harness.now);
            assert_eq!(harness.session.termination(), None);
        }
        harness.session.handle_written(blocked, 0, harness.now);
        harness.now += seconds(9);
        harness.feed_from(Client, &frame(Client, 0x8a, &pinged));
        harness.next_ping();
        harness.advance(seconds(10));
        assert_eq!(
            harness.session.termination(),
            Some(TerminationReason::HeartbeatTimeout(Side::Client))
        );
    }
}

// Requirements: CL03.
#[test]
fn suspended_process_grants_one_more_timeout() {
    let mut harness = Harness::new();
    let payload = harness.next_ping();
    harness.now += seconds(60);
    harness.session.handle_timeout(harness.now);
    assert_eq!(harness.session.termination(), None);
    assert_eq!(harness.session.poll_timeout(), Some(harness.now + seconds(10)));
    harness.feed_from(Client, &frame(Client, 0x8a, &payload));
    harness.next_ping();
    harness.now += seconds(60);
    harness.session.handle_timeout(harness.now);
    harness.now += seconds(60);
    harness.session.handle_timeout(harness.now);
    assert_eq!(
        harness.session.termination(),
        Some(TerminationReason::HeartbeatTimeout(Side::Client)),
        "once, not twice"
    );
}

#[test]
fn unrepresentable_durations_never_expire() {
    let forever = Duration::MAX;
    let mut harness = Harness::with_policy(SessionPolicy {
        heartbeat_client: Some(HeartbeatPolicy {
            interval: forever,
            timeout: forever,
            proof: PingProof::Any,
        }),
        idle: Some(forever),
        close_grace: forever,
        write_timeout: forever,
        ..policy()
    });
    harness.session.handle_written(Client, 1, harness.now);
    assert_eq!(harness.session.poll_timeout(), None);
    harness.session.close(&DRAIN, harness.now);
    assert_eq!(harness.session.poll_timeout(), None);
}

/// A policy whose client is pinged at this interval.
fn pinged_every(interval: Duration) -> SessionPolicy {
    let heartbeat = HeartbeatPolicy { interval, timeout: seconds(10), proof: PingProof::Any };
    SessionPolicy { heartbeat_client: Some(heartbeat), idle: None, ..policy() }
}

/// A policy with a heartbeat that requires pongs, and without a message age limit.
fn pong_required() -> SessionPolicy {
    let mut policy = without_message_age();
    policy.heartbeat_client = policy
        .heartbeat_client
        .map(|heartbeat| HeartbeatPolicy { proof: PingProof::Pong, ..heartbeat });
    policy
}

/// A policy without a message age limit.
fn without_message_age() -> SessionPolicy {
    let mut policy = policy();
    policy.from_client.message_age = None;
    policy
}
