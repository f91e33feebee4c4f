//! Peers that do not accept queued data.

use super::*;

// Requirements: F26.
#[test]
fn stalled_client_is_closed_with_1013() {
    let mut harness = Harness::with_policy(SessionPolicy {
        heartbeat_client: None,
        min_write_rate: None,
        ..policy()
    });
    harness.session.handle_written(Client, 1000, harness.now);
    harness.now += seconds(29);
    harness.session.handle_written(Client, 999, harness.now);
    assert_eq!(harness.session.poll_timeout(), Some(harness.now + seconds(30)), "it made progress");
    harness.now += seconds(29);
    harness.session.handle_written(Client, 999, harness.now);
    harness.now += seconds(1);
    harness.session.handle_timeout(harness.now);
    assert_eq!(harness.session.termination(), Some(TerminationReason::WriteTimeout(Client)));
    assert_eq!(harness.shutdowns(), Shutdowns { client: KeepOpen, backend: KeepOpen });
    harness.flush();
    assert_eq!(harness.close_codes(), CloseCodes { to_client: Some(1013), to_backend: Some(1001) });
    harness.feed_from(Backend, &close(Backend, 1001, ""));
    harness.eof(Backend);
    // The Close is queued after data it has not accepted.
    harness.session.handle_written(Client, 1009, harness.now);
    harness.advance(seconds(4));
    assert!(!harness.session.is_finished());
    harness.advance(seconds(1));
    assert_eq!(harness.shutdowns().client, Abort);
    assert!(harness.session.is_finished());
}

#[test]
fn reader_that_resumes_within_the_grace_closes() {
    let mut harness = Harness::with_policy(SessionPolicy { heartbeat_client: None, ..policy() });
    harness.session.handle_written(Client, 1000, harness.now);
    harness.advance(seconds(30));
    assert_eq!(harness.session.termination(), Some(TerminationReason::WriteTimeout(Client)));
    harness.flush();
    harness.session.handle_written(Client, 0, harness.now);
    harness.feed_from(Client, &close(Client, 1013, ""));
    assert_eq!(harness.shutdowns().client, CloseWrite);
    harness.eof(Client);
    harness.feed_from(Backend, &close(Backend, 1001, ""));
    harness.eof(Backend);
    assert!(harness.session.is_finished());
}

#[test]
fn stalled_backend_is_reset() {
    let mut harness = Harness::with_policy(SessionPolicy { heartbeat_client: None, ..policy() });
    harness.session.handle_written(Backend, 1000, harness.now);
    // Bytes forwarded in the meantime are not progress.
    harness.now += seconds(20);
    let more = frame(Client, 0x82, &[0; 100]);
    assert_eq!(harness.handle_recv(Client, &more[..50]), RecvAction::Forward(50));
    harness.session.handle_written(Backend, 1060, harness.now);
    harness.now += seconds(10);
    harness.session.handle_timeout(harness.now);
    assert_eq!(harness.session.termination(), Some(TerminationReason::WriteTimeout(Backend)));
    assert_eq!(harness.shutdowns(), Shutdowns { client: KeepOpen, backend: Abort });
    harness.flush();
    assert_eq!(
        harness.close_codes(),
        CloseCodes { to_client: Some(1013), to_backend: None },
        "no Close fits inside a frame"
    );
    let mut harness = Harness::with_policy(SessionPolicy { heartbeat_client: None, ..policy() });
    harness.session.handle_written(Backend, 1000, harness.now);
    harness.session.handle_written(Backend, 0, harness.now);
    harness.advance(seconds(100));
    assert_eq!(harness.session.termination(), None);
}

#[test]
fn queued_data_is_awaited() {
    let mut harness = Harness::new();
    harness.feed_from(Client, &close(Client, 1000, ""));
    let answer = close(Backend, 1000, "");
    let len = answer.len();
    assert_eq!(harness.handle_recv(Backend, &answer), RecvAction::Forward(len));
    harness.session.handle_eof(Backend, harness.now);
    harness.session.handle_eof(Client, harness.now);
    assert!(!harness.session.is_finished(), "the answer has not been written");
    harness.session.handle_written(Client, 1, harness.now);
    assert!(!harness.session.is_finished());
    harness.session.handle_written(Client, 0, harness.now);
    assert!(harness.session.is_finished());
}
