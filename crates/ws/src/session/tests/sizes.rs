use super::*;
use crate::{LimitAction, Summary};

fn limited(from: Side, limits: Limits) -> Harness {
    let mut policy = policy();
    match from {
        Client => policy.from_client = limits,
        Backend => policy.from_backend = limits,
    }
    Harness::with_policy(policy)
}

/// The declared size counts: the rest of the frame never arrives.
// Requirements: FC41.
#[test]
fn declared_size_of_a_refused_frame_is_kept() {
    for from in Side::BOTH {
        for action in [LimitAction::Close, LimitAction::Report] {
            let max = Some(Limit { max: 1000, action });
            let by_message = Limits { message: max, ..Limits::default() };
            let by_frame = Limits { frame: max, ..Limits::default() };
            for (limits, second, size) in [
                (by_message, 40 << 20, 600 + (40 << 20)),
                (by_frame, i64::MAX as u64, i64::MAX as u64),
            ] {
                let mut harness = limited(from, limits);
                harness.feed_from(from, &frame(from, 0x02, &[b'x'; 600]));
                let before = Summary::of(&harness.session);
                assert_eq!((before.size, before.sides[from].reported_size), (None, None));
                harness.feed_from(from, &header(from, 0x00, second));
                let summary = Summary::of(&harness.session);
                let sizes = [Some(size), None];
                let [closing, reported] =
                    if action == LimitAction::Close { sizes } else { [sizes[1], sizes[0]] };
                assert_eq!((summary.size, summary.sides[from].reported_size), (closing, reported));
                assert_eq!(summary.sides[from.other()].reported_size, None);
            }
        }
    }
}

#[test]
fn largest_reported_size_is_kept_until_one_closes() {
    let limits = Limits {
        message: Some(Limit { max: 100, action: LimitAction::Report }),
        frame: Some(Limit::close(500)),
        fragments: Some(Limit { max: 1, action: LimitAction::Report }),
        ..Limits::default()
    };
    let mut harness = limited(Client, limits);
    for size in [200, 300, 101] {
        harness.feed_from(Client, &frame(Client, 0x82, &vec![b'x'; size]));
    }
    assert_eq!(harness.session.reported_size(Client), Some(300));
    for first in [0x02, 0x00, 0x80] {
        harness.feed_from(Client, &frame(Client, first, &[b'x'; 400]));
    }
    assert_eq!(harness.session.reported_size(Client), Some(1200));
    harness.feed_from(Client, &header(Client, 0x82, 501));
    assert_eq!(harness.session.closing_size(), Some(501));
    assert_eq!(harness.session.reported_size(Client), None);
}
