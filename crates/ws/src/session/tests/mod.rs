use std::num::NonZeroU64;
use std::time::Duration;

use super::*;
use crate::close_code::CloseCode;
use crate::limit_kind::LimitKind;
use crate::policy::{HeartbeatPolicy, Limit, Limits, PingProof, RateLimit};
use crate::protocol_error::ProtocolError;
use crate::session_close::SessionClose;
use crate::stats::DirectionStats;
use crate::test_support::{Harness, Shutdowns, close, frame, header, policy, seconds};

use Shutdown::{Abort, CloseWrite, KeepOpen};
use Side::{Backend, Client};

/// The request of a drain, with code and text from the policy.
const DRAIN: SessionClose = SessionClose::new(TerminationReason::Drained);

/// Sends a valid frame followed by invalid bytes. Checks that only the former is relayed, that the
/// other side is closed and its answer relayed, and that the side at fault is closed after that.
/// Returns the error and the close code sent to the side at fault.
fn protocol_error(from: Side, deflate: bool, bytes: &[u8]) -> (ProtocolError, u16) {
    let deflate = if deflate { DeflateMode::Pass } else { DeflateMode::Off };
    let mut harness = Harness::with_deflate(policy(), deflate);
    let before = frame(from, 0x82, b"valid");
    assert_eq!(harness.feed_from(from, &[&before, bytes].concat()), 0);
    assert!(harness.received(from.other()).starts_with(&before));
    let Some(TerminationReason::ProtocolError(at_fault, error)) = harness.session.termination()
    else {
        panic!("{:?}", harness.session.termination());
    };
    assert_eq!(at_fault, from);
    assert_eq!(harness.feed_from(from, b"more of it"), 0, "nothing is kept");
    let close = harness.received(from.other()).split_off(before.len());
    assert_eq!(close[0], 0x88, "only a Close follows the valid frame");
    assert!(harness.received(from).is_empty());
    assert_eq!(harness.shutdowns(), Shutdowns { client: KeepOpen, backend: KeepOpen });
    let answer = frame(from.other(), 0x82, b"answer");
    harness.feed_from(from.other(), &answer);
    assert_eq!(*harness.received(from), answer);
    harness.answer_close(from.other());
    let (to_fault, to_other) = match from {
        Client => (harness.close_codes().to_client, harness.close_codes().to_backend),
        Backend => (harness.close_codes().to_backend, harness.close_codes().to_client),
    };
    assert_eq!(to_other, Some(if from == Client { 1001 } else { 1013 }));
    assert_eq!(harness.received(from)[answer.len()], 0x88);
    assert_eq!(harness.session.shutdown(from), CloseWrite, "its write half ends after the Close");
    assert!(harness.session.wants_read(from), "unread data would cause a reset");
    harness.advance(seconds(5));
    assert!(harness.session.is_finished());
    assert_eq!(harness.session.shutdown(from), Abort);
    (error, to_fault.expect("a Close"))
}

mod closing;
mod context_takeover;
mod deflate;
mod frames;
mod heartbeat;
mod policies;
mod rates;
mod rebalance;
mod sizes;
mod text;
mod violations;
mod write_timeout;
