//! Peers that do not take what waits for them.

use super::*;

// Requirements: F26.
#[test]
fn stalled_client_is_closed_with_1013() {
    let mut talk = Conversation::under(SessionPolicy {
        heartbeat_client: None,
        min_write_rate: None,
        ..terms()
    });
    talk.session.written(Client, 1000, talk.now);
    talk.now += seconds(29);
    talk.session.written(Client, 999, talk.now);
    assert_eq!(talk.session.deadline(), Some(talk.now + seconds(30)), "it moved");
    talk.now += seconds(29);
    talk.session.written(Client, 999, talk.now);
    talk.now += seconds(1);
    talk.session.tick(talk.now);
    assert_eq!(talk.session.end(), Some(TerminationReason::WriteStall(Client)));
    assert_eq!(talk.partings(), (Stay, Stay));
    talk.round();
    assert_eq!(talk.codes(), (Some(1013), Some(1001)));
    talk.say(Backend, &close(Backend, 1001, ""));
    talk.hang_up(Backend);
    // Our Close waits behind what it has not taken.
    talk.session.written(Client, 1009, talk.now);
    talk.pass(seconds(4));
    assert!(!talk.session.is_over());
    talk.pass(seconds(1));
    assert_eq!(talk.partings().0, Abort);
    assert!(talk.session.is_over());
}

#[test]
fn a_reader_that_wakes_up_in_the_grace_says_goodbye() {
    let mut talk = Conversation::under(SessionPolicy { heartbeat_client: None, ..terms() });
    talk.session.written(Client, 1000, talk.now);
    talk.pass(seconds(30));
    assert_eq!(talk.session.end(), Some(TerminationReason::WriteStall(Client)));
    talk.round();
    talk.session.written(Client, 0, talk.now);
    talk.say(Client, &close(Client, 1013, ""));
    assert_eq!(talk.partings().0, Finish);
    talk.hang_up(Client);
    talk.say(Backend, &close(Backend, 1001, ""));
    talk.hang_up(Backend);
    assert!(talk.session.is_over());
}

#[test]
fn write_stall_of_the_backend() {
    let mut talk = Conversation::under(SessionPolicy { heartbeat_client: None, ..terms() });
    talk.session.written(Backend, 1000, talk.now);
    // What is let through in the meantime is no progress.
    talk.now += seconds(20);
    let more = frame(Client, 0x82, &[0; 100]);
    assert_eq!(talk.intake(Client, &more[..50]), RecvAction::Forward(50));
    talk.session.written(Backend, 1060, talk.now);
    talk.now += seconds(10);
    talk.session.tick(talk.now);
    assert_eq!(talk.session.end(), Some(TerminationReason::WriteStall(Backend)));
    assert_eq!(talk.partings(), (Stay, Abort));
    talk.round();
    assert_eq!(talk.codes(), (Some(1011), None), "inside a frame nothing can be said");
    let mut talk = Conversation::under(SessionPolicy { heartbeat_client: None, ..terms() });
    talk.session.written(Backend, 1000, talk.now);
    talk.session.written(Backend, 0, talk.now);
    talk.pass(seconds(100));
    assert_eq!(talk.session.end(), None);
}

#[test]
fn what_is_pending_is_waited_for() {
    let mut talk = Conversation::new();
    talk.say(Client, &close(Client, 1000, ""));
    let answer = close(Backend, 1000, "");
    let len = answer.len();
    assert_eq!(talk.intake(Backend, &answer), RecvAction::Forward(len));
    talk.session.hangup(Backend, talk.now);
    talk.session.hangup(Client, talk.now);
    assert!(!talk.session.is_over(), "the answer is not written");
    talk.session.written(Client, 1, talk.now);
    assert!(!talk.session.is_over());
    talk.session.written(Client, 0, talk.now);
    assert!(talk.session.is_over());
}
