//! Idle times and heartbeats.

use super::*;

// Requirements: FC36.
#[test]
fn idle_timeout_counts_data_frames_only() {
    let mut talk = Conversation::under(SessionPolicy { idle: Some(seconds(60)), ..terms() });
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
    assert_eq!(talk.session.end(), Some(TerminationReason::Idle));
    assert_eq!(talk.codes(), (Some(1001), Some(1001)));
}

#[test]
fn idle_counts_from_the_last_byte_of_data_in_either_direction() {
    let mut talk = Conversation::under(SessionPolicy {
        idle: Some(seconds(60)),
        heartbeat_client: None,
        ..ageless()
    });
    let long = frame(Client, 0x82, &[0; 100]);
    for part in [&long[..20], &long[20..21]] {
        talk.say(Client, part);
        talk.pass(seconds(59));
    }
    talk.say(Backend, &frame(Backend, 0x82, b""));
    talk.pass(seconds(59));
    assert_eq!(talk.session.end(), None);
    talk.pass(seconds(1));
    assert_eq!(talk.session.end(), Some(TerminationReason::Idle));
    assert_eq!(talk.codes(), (Some(1001), None), "the client's frame is not finished");
}

// Requirements: FC37.
#[test]
fn missing_pong_closes_both_sides() {
    let mut talk = Conversation::new();
    let pinged = talk.now;
    talk.ping();
    let first = talk.now - pinged;
    assert!(first >= seconds(15) && first < seconds(30), "{first:?}");
    talk.pass(seconds(10) - Duration::from_nanos(1));
    talk.say(Client, &frame(Client, 0x82, b"alive, but no pong"));
    assert_eq!(talk.session.end(), None);
    talk.pass(Duration::from_nanos(1));
    assert_eq!(talk.session.end(), Some(TerminationReason::HeartbeatLost(Side::Client)));
    assert_eq!(talk.codes(), (Some(1001), Some(1001)));
}

#[test]
fn the_next_ping_comes_an_interval_after_the_pong_or_up_to_an_eighth_sooner() {
    let mut talk = Conversation::new();
    for _ in 0..5 {
        let token = talk.ping();
        talk.pass(seconds(9));
        talk.say(Client, &frame(Client, 0x8a, &token));
        let rests = talk.session.deadline().expect("a heartbeat") - talk.now;
        assert!(rests > Duration::from_millis(26_250) && rests <= seconds(30), "{rests:?}");
        assert_eq!(talk.session.rtt(Client).map(|rtt| rtt.last), Some(seconds(9)));
    }
    assert!(talk.to_backend.is_empty());
    assert_eq!(talk.session.tally().up, DirectionStats::default());
}

#[test]
fn patience_starts_when_the_ping_is_handed_out() {
    let mut talk = Conversation::new();
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
    let mut talk = Conversation::under(ageless());
    talk.ping();
    let long = frame(Client, 0x82, &[0; 1000]);
    for part in long.chunks(100) {
        talk.say(Client, part);
        talk.pass(seconds(10));
    }
    assert_eq!(
        talk.session.end(),
        Some(TerminationReason::HeartbeatLost(Side::Client)),
        "it could after the last part"
    );
    let mut talk = Conversation::new();
    talk.ping();
    talk.say(Client, &long[..100]);
    talk.pass(seconds(20) - Duration::from_nanos(1));
    assert_eq!(talk.session.end(), None);
    talk.pass(Duration::from_nanos(1));
    assert_eq!(
        talk.session.end(),
        Some(TerminationReason::HeartbeatLost(Side::Client)),
        "the frame does not move"
    );
}

#[test]
fn a_pong_that_cannot_come_through_is_not_missed() {
    for blocked in Side::BOTH {
        let mut talk = Conversation::under(SessionPolicy { min_write_rate: None, ..terms() });
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
        assert_eq!(talk.session.end(), Some(TerminationReason::HeartbeatLost(Side::Client)));
    }
}

// Requirements: CL03.
#[test]
fn suspended_process_grants_one_more_timeout() {
    let mut talk = Conversation::new();
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
    assert_eq!(
        talk.session.end(),
        Some(TerminationReason::HeartbeatLost(Side::Client)),
        "one, not more"
    );
}

#[test]
fn times_beyond_the_clock_are_never() {
    let forever = Duration::MAX;
    let mut talk = Conversation::under(SessionPolicy {
        heartbeat_client: Some(HeartbeatPolicy { interval: forever, timeout: forever }),
        idle: Some(forever),
        close_grace: forever,
        write_timeout: forever,
        ..terms()
    });
    talk.session.written(Client, 1, talk.now);
    assert_eq!(talk.session.deadline(), None);
    talk.session.leave(TerminationReason::Drained, None, talk.now);
    assert_eq!(talk.session.deadline(), None);
}

/// Messages may take as long as they like.
fn ageless() -> SessionPolicy {
    let mut terms = terms();
    terms.from_client.message_age = None;
    terms
}
