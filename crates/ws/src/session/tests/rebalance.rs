//! The end of a session whose client moves to another backend: no message is cut off.

use super::*;

/// Both sides after the exchange of Closes.
const CLOSED: CloseCodes = CloseCodes { to_client: Some(1012), to_backend: Some(1001) };

fn rebalance(harness: &mut Harness) {
    harness.session.close(&SessionClose::new(TerminationReason::Rebalanced), harness.now);
    harness.flush();
}

#[test]
fn session_between_messages_closes_at_once() {
    let mut harness = Harness::new();
    harness.feed_from(Client, &frame(Client, 0x81, b"done"));
    rebalance(&mut harness);
    assert_eq!(harness.close_codes(), CLOSED);
}

#[test]
fn message_in_progress_is_completed_first() {
    for from in Side::BOTH {
        let mut harness = Harness::new();
        let [first, ping, last] = [(0x01, "first"), (0x89, "ping"), (0x80, "last")]
            .map(|(byte, text)| frame(from, byte, text.as_bytes()));
        let next = frame(from, 0x81, b"next");
        harness.feed_from(from, &first);
        rebalance(&mut harness);
        // Within a fragmented message, and within a frame of it.
        harness.feed_from(from, &ping);
        harness.feed_from(from, &last[..last.len() - 1]);
        // The other direction goes on meanwhile.
        let other = frame(from.other(), 0x81, b"other");
        harness.feed_from(from.other(), &other);
        let open = CloseCodes { to_client: None, to_backend: None };
        assert_eq!(harness.close_codes(), open);
        let rest = [&last[last.len() - 1..], &next].concat();
        harness.feed_from(from, &rest);
        assert_eq!(harness.close_codes(), CLOSED);
        let relayed = [first, ping, last].concat();
        let received = harness.received(from.other()).clone();
        assert!(received.starts_with(&relayed));
        assert_eq!(received[relayed.len()], 0x88, "nothing of the next message");
        assert!(harness.received(from).starts_with(&other));
        harness.answer_close(Client);
        harness.answer_close(Backend);
        harness.eof(Client);
        harness.eof(Backend);
        assert!(harness.session.is_finished());
        assert_eq!(harness.session.termination(), Some(TerminationReason::Rebalanced));
    }
}

#[test]
fn endless_message_ends_with_the_grace() {
    let mut harness = Harness::new();
    harness.feed_from(Client, &frame(Client, 0x01, b"first"));
    rebalance(&mut harness);
    harness.advance(seconds(5) - Duration::from_nanos(1));
    harness.feed_from(Client, &frame(Client, 0x00, b"more"));
    assert_eq!(harness.close_codes(), CloseCodes { to_client: None, to_backend: None });
    harness.advance(Duration::from_nanos(1));
    assert_eq!(harness.close_codes(), CLOSED);
    harness.advance(seconds(5));
    assert!(harness.session.is_finished());
}

#[test]
fn close_of_a_side_meanwhile_is_relayed() {
    let mut harness = Harness::new();
    harness.feed_from(Backend, &frame(Backend, 0x01, b"first"));
    rebalance(&mut harness);
    harness.feed_from(Client, &close(Client, 1001, ""));
    let last = frame(Backend, 0x80, b"last");
    harness.feed_from(Backend, &[last, close(Backend, 1001, "")].concat());
    assert_eq!(harness.close_codes(), CloseCodes { to_client: Some(1001), to_backend: Some(1001) });
    harness.eof(Backend);
    harness.eof(Client);
    assert!(harness.session.is_finished());
}

#[test]
fn end_of_the_backend_closes_the_client() {
    let mut harness = Harness::new();
    harness.feed_from(Client, &frame(Client, 0x01, b"first"));
    rebalance(&mut harness);
    harness.eof(Backend);
    assert_eq!(harness.close_codes().to_client, Some(1012));
    harness.eof(Client);
    harness.advance(seconds(5));
    assert!(harness.session.is_finished());
}
