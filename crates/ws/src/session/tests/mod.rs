use std::num::NonZeroU64;
use std::time::Duration;

use super::*;
use crate::sample::{Conversation, close, frame, header, seconds, terms};
use crate::{
    CloseCode, ControlFrame, DirectionStats, HeartbeatPolicy, Limit, LimitKind, Limits,
    ProtocolError, RateLimit,
};

use Shutdown::{Abort, Finish, Stay};
use Side::{Backend, Client};

/// The bytes at fault are not relayed, the side at fault is told what it did and let go, the
/// other side is told that it is over.
fn breach(from: Side, deflate: bool, bytes: &[u8]) -> (ProtocolError, u16) {
    let deflate = if deflate { DeflateMode::Pass } else { DeflateMode::Off };
    let mut talk = Conversation::compressed(terms(), deflate);
    let before = frame(from, 0x82, b"lawful");
    assert_eq!(talk.say(from, &[&before, bytes].concat()), 0);
    assert!(talk.received(from.other()).starts_with(&before));
    let Some(TerminationReason::Breach(at_fault, breach)) = talk.session.end() else {
        panic!("{:?}", talk.session.end());
    };
    assert_eq!(at_fault, from);
    assert_eq!(talk.say(from, b"more of it"), 0, "nothing is kept");
    let (to_fault, to_other) = match from {
        Client => (talk.codes().0, talk.codes().1),
        Backend => (talk.codes().1, talk.codes().0),
    };
    assert_eq!(to_other, Some(if from == Client { 1001 } else { 1011 }));
    let close = talk.received(from.other()).split_off(before.len());
    assert_eq!(close[0], 0x88, "nothing but a Close follows the lawful frame");
    assert_eq!(talk.session.parting(from), Finish, "its write half ends with our Close");
    assert_eq!(talk.session.parting(from.other()), Stay);
    assert!(talk.session.wants(from), "so that no reset eats our Close");
    talk.pass(seconds(5));
    assert!(talk.session.is_over());
    assert_eq!(talk.partings(), (Abort, Abort));
    (breach, to_fault.expect("a Close"))
}

mod clocks;
mod deflate;
mod frames;
mod policies;
mod rates;
mod sides;
mod stalls;
