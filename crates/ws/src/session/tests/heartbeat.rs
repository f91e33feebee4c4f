//! Idle timeout and heartbeats.

use super::*;

// Requirements: FC36.
#[test]
fn idle_timeout_counts_data_frames_only() {
    let mut harness = Harness::with_policy(SessionPolicy { idle: Some(seconds(60)), ..policy() });
    let mut pinged = 0;
    harness.advance(seconds(1));
    harness.send(Client, &frame(Client, 0x82, b"data"));
    for _ in 0..59 {
        harness.advance(seconds(1));
        if let Some(payload) = harness.to_client.strip_prefix(&[0x89, 8]) {
            pinged += 1;
            let payload = payload.to_vec();
            harness.send(Client, &frame(Client, 0x8a, &payload));
        }
        harness.send(Client, &frame(Client, 0x89, b"app"));
        harness.send(Backend, &frame(Backend, 0x8a, b"app"));
        harness.to_client.clear();
    }
    assert!(pinged > 0);
    assert_eq!(harness.session.termination(), None);
    harness.advance(seconds(1));
    assert_eq!(harness.session.termination(), Some(TerminationReason::Idle));
    assert_eq!(harness.close_codes(), (Some(1001), Some(1001)));
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
        harness.send(Client, part);
        harness.advance(seconds(59));
    }
    harness.send(Backend, &frame(Backend, 0x82, b""));
    harness.advance(seconds(59));
    assert_eq!(harness.session.termination(), None);
    harness.advance(seconds(1));
    assert_eq!(harness.session.termination(), Some(TerminationReason::Idle));
    assert_eq!(harness.close_codes(), (Some(1001), None), "the client's frame is incomplete");
}

// Requirements: FC37.
#[test]
fn missing_pong_closes_both_sides() {
    let mut harness = Harness::new();
    let pinged = harness.now;
    harness.next_ping();
    let first = harness.now - pinged;
    assert!(first >= seconds(15) && first < seconds(30), "{first:?}");
    harness.advance(seconds(10) - Duration::from_nanos(1));
    harness.send(Client, &frame(Client, 0x82, b"data, but no pong"));
    assert_eq!(harness.session.termination(), None);
    harness.advance(Duration::from_nanos(1));
    assert_eq!(
        harness.session.termination(),
        Some(TerminationReason::HeartbeatTimeout(Side::Client))
    );
    assert_eq!(harness.close_codes(), (Some(1001), Some(1001)));
}

#[test]
fn next_ping_follows_the_pong_by_the_interval() {
    let mut harness = Harness::new();
    for _ in 0..5 {
        let payload = harness.next_ping();
        harness.advance(seconds(9));
        harness.send(Client, &frame(Client, 0x8a, &payload));
        let wait = harness.session.poll_timeout().expect("a heartbeat") - harness.now;
        assert!(wait > Duration::from_millis(26_250) && wait <= seconds(30), "{wait:?}");
        assert_eq!(harness.session.rtt(Client).map(|rtt| rtt.last), Some(seconds(9)));
    }
    assert!(harness.to_backend.is_empty());
    assert_eq!(harness.session.stats().up, DirectionStats::default());
}

#[test]
fn timeout_starts_when_the_ping_is_sent() {
    let mut harness = Harness::new();
    let message = frame(Backend, 0x82, &[0; 100]);
    harness.send(Backend, &message[..50]);
    harness.now += seconds(30);
    harness.session.handle_timeout(harness.now);
    assert!(harness.poll_control(Client).is_none(), "RFC 6455 5.4: not inside a frame");
    harness.advance(seconds(300));
    assert_eq!(harness.session.termination(), None);
    harness.send(Backend, &[&message[50..], &message].concat());
    let ping = harness.to_client[message.len()..][..2].to_vec();
    assert_eq!(ping, [0x89, 8], "at the boundary, although more input was available");
    assert_eq!(harness.to_client.len(), 2 * message.len() + 10);
    assert_eq!(harness.session.poll_timeout(), Some(harness.now + seconds(10)));
}

#[test]
fn no_pong_is_expected_inside_a_frame() {
    let mut harness = Harness::with_policy(without_message_age());
    harness.next_ping();
    let long = frame(Client, 0x82, &[0; 1000]);
    for part in long.chunks(100) {
        harness.send(Client, part);
        harness.advance(seconds(10));
    }
    assert_eq!(
        harness.session.termination(),
        Some(TerminationReason::HeartbeatTimeout(Side::Client)),
        "it could answer after the last part"
    );
    let mut harness = Harness::new();
    harness.next_ping();
    harness.send(Client, &long[..100]);
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
        harness.send(Client, &frame(Client, 0x8a, &pinged));
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
    harness.send(Client, &frame(Client, 0x8a, &payload));
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
        heartbeat_client: Some(HeartbeatPolicy { interval: forever, timeout: forever }),
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

/// A policy without a message age limit.
fn without_message_age() -> SessionPolicy {
    let mut policy = policy();
    policy.from_client.message_age = None;
    policy
}
