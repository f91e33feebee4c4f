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

/// Sends a valid frame followed by invalid bytes. Checks that only the former is relayed, and that
/// both sides are closed. Returns the error and the close code sent to the side at fault.
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
    let (to_fault, to_other) = match from {
        Client => (harness.close_codes().to_client, harness.close_codes().to_backend),
        Backend => (harness.close_codes().to_backend, harness.close_codes().to_client),
    };
    assert_eq!(to_other, Some(if from == Client { 1001 } else { 1013 }));
    let close = harness.received(from.other()).split_off(before.len());
    assert_eq!(close[0], 0x88, "only a Close follows the valid frame");
    assert_eq!(harness.session.shutdown(from), CloseWrite, "its write half ends after the Close");
    assert_eq!(harness.session.shutdown(from.other()), KeepOpen);
    assert!(harness.session.wants_read(from), "unread data would cause a reset");
    harness.advance(seconds(5));
    assert!(harness.session.is_finished());
    assert_eq!(harness.shutdowns(), Shutdowns { client: Abort, backend: Abort });
    (error, to_fault.expect("a Close"))
}

mod closing;
mod context_takeover;
mod deflate;
mod frames;
mod heartbeat;
mod policies;
mod rates;
mod write_timeout;
