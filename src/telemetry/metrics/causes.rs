//! Where each cause is counted: a place in a row for every name, and the labels of each place.
//! A cause that is new does not compile until it has a place here.

use ws::{LimitKind, ProtocolError, Side, TerminationReason, Violation};

use crate::reject::{ConnectionStage, DropReason, RejectReason};

/// Places of [`dropped`].
pub const DROPPED: usize = DROPS.len();
/// Places of [`refused`].
pub const REFUSED: usize = REFUSALS.len();
/// Places of [`ended`].
pub const ENDED: usize = PLAIN_ENDS.len() + 2 * OFFENCES;
/// Places of [`offence`].
pub const OFFENCES: usize = LimitKind::ALL.len() + ProtocolError::ALL.len();
/// Places of [`delay`].
pub const DELAYS: usize = RATES.len();
/// Places of [`code`].
pub const CODES: usize = CODE_LABELS.len();

/// The place of a drop.
pub fn dropped(why: &DropReason) -> usize {
    match why {
        DropReason::ClientFull => 0,
        DropReason::GateFull => 1,
        DropReason::TlsFailed(_) => 2,
        DropReason::TlsTimeout => 3,
        DropReason::HeadTimeout => 4,
        DropReason::HeadBad(_) => 5,
        DropReason::WriteStall => 6,
        DropReason::Gone(stage) => match stage {
            ConnectionStage::Accept => 7,
            ConnectionStage::Tls => 8,
            ConnectionStage::Head
            | ConnectionStage::Admit
            | ConnectionStage::Backend
            | ConnectionStage::Tunnel => 9,
        },
        DropReason::ProxyHeaderUntrusted => 10,
        DropReason::ProxyHeaderMissing => 11,
        DropReason::ProxyHeaderBad(_) => 12,
        DropReason::ProxyHeaderTimeout => 13,
    }
}

/// Stage and reason of each place of [`dropped`].
pub fn drops() -> impl Iterator<Item = (&'static str, &'static str)> {
    DROPS.iter().map(|why| (why.stage().slug(), why.slug()))
}

/// The place of a refusal.
pub fn refused(refusal: &RejectReason) -> usize {
    match refusal {
        RejectReason::RequestBad(_) => 0,
        RejectReason::UriTooLong => 1,
        RejectReason::Expect => 2,
        RejectReason::NotWebsocket => 3,
        RejectReason::Method => 4,
        RejectReason::HandshakeBad(_) => 5,
        RejectReason::Version => 6,
        RejectReason::NoRoute => 7,
        RejectReason::Misdirected => 8,
        RejectReason::Origin => 9,
        RejectReason::ClientFull => 10,
        RejectReason::ClientRate => 11,
        RejectReason::GateFull => 12,
        RejectReason::RouteFull => 13,
        RejectReason::Draining => 14,
        RejectReason::NoBackend => 15,
        RejectReason::BackendBad(_) => 16,
        RejectReason::DialTimeout => 17,
        RejectReason::BackendTimeout => 18,
        RejectReason::BackendSilent => 19,
        RejectReason::BodyTimeout => 20,
        RejectReason::NoDescriptors => 21,
        RejectReason::Loop => 22,
        RejectReason::ClientGone => 23,
        RejectReason::BackendRefused(_) => 24,
    }
}

/// Stage and reason of each place of [`refused`].
pub fn refusals() -> impl Iterator<Item = (&'static str, &'static str)> {
    REFUSALS.iter().map(|refusal| (refusal.stage().slug(), refusal.slug()))
}

/// The place of an end.
pub fn ended(end: TerminationReason) -> usize {
    let of = |side, offence_place| PLAIN_ENDS.len() + side_place(side) * OFFENCES + offence_place;
    match end {
        TerminationReason::ClientClosed => 0,
        TerminationReason::BackendClosed => 1,
        TerminationReason::ClientGone => 2,
        TerminationReason::BackendGone => 3,
        TerminationReason::Idle => 4,
        TerminationReason::HeartbeatLost(Side::Client) => 5,
        TerminationReason::HeartbeatLost(Side::Backend) => 6,
        TerminationReason::WriteStall(Side::Client) => 7,
        TerminationReason::WriteStall(Side::Backend) => 8,
        TerminationReason::Lifetime => 9,
        TerminationReason::Drained => 10,
        TerminationReason::Aborted => 11,
        TerminationReason::WriteTrickle(Side::Client) => 12,
        TerminationReason::WriteTrickle(Side::Backend) => 13,
        TerminationReason::Killed => 14,
        TerminationReason::Rebalanced => 15,
        TerminationReason::Over(side, rule) => of(side, offence(Violation::Over(rule))),
        TerminationReason::Breach(side, breach) => of(side, offence(Violation::Breach(breach))),
    }
}

/// Culprit and reason of each place of [`ended`]. Several places share one pair.
pub fn ends() -> impl Iterator<Item = (&'static str, &'static str)> {
    let of = |side| {
        Violation::all().map(move |offence| match offence {
            Violation::Over(rule) => TerminationReason::Over(side, rule),
            Violation::Breach(breach) => TerminationReason::Breach(side, breach),
        })
    };
    let all = PLAIN_ENDS.into_iter().chain(Side::BOTH.into_iter().flat_map(of));
    all.map(|end| (end.by(), end.slug()))
}

/// The place of an offence.
pub fn offence(offence: Violation) -> usize {
    match offence {
        Violation::Over(rule) => rule as usize,
        Violation::Breach(breach) => LimitKind::ALL.len() + breach as usize,
    }
}

/// The reason of each place of [`offence`]. Several places share one.
pub fn offences() -> impl Iterator<Item = &'static str> {
    Violation::all().map(Violation::slug)
}

/// The place of a limit that makes a side wait; what is no rate has none.
pub fn delay(rule: LimitKind) -> Option<usize> {
    RATES.iter().position(|rate| *rate == rule)
}

/// The reason of each place of [`delay`].
pub fn delays() -> impl Iterator<Item = &'static str> {
    RATES.into_iter().map(LimitKind::slug)
}

/// The place of a close code: its own if RFC 6455 or IANA gave it a meaning, else its class's.
pub fn code(code: u16) -> usize {
    match code {
        1000..=1003 => usize::from(code) - 1000,
        1005 => 4,
        1007..=1014 => usize::from(code) - 1002,
        3000..=3999 => 13,
        4000..=4999 => 14,
        _ => 15,
    }
}

/// The label of each place of [`code`].
pub fn codes() -> impl Iterator<Item = &'static str> {
    CODE_LABELS.into_iter()
}

/// The place of a side.
pub fn side_place(side: Side) -> usize {
    match side {
        Side::Client => 0,
        Side::Backend => 1,
    }
}

const RATES: [LimitKind; 3] = [LimitKind::Messages, LimitKind::Bytes, LimitKind::Controls];

static DROPS: [DropReason; 14] = [
    DropReason::ClientFull,
    DropReason::GateFull,
    DropReason::TlsFailed(String::new()),
    DropReason::TlsTimeout,
    DropReason::HeadTimeout,
    DropReason::HeadBad(String::new()),
    DropReason::WriteStall,
    DropReason::Gone(ConnectionStage::Accept),
    DropReason::Gone(ConnectionStage::Tls),
    DropReason::Gone(ConnectionStage::Head),
    DropReason::ProxyHeaderUntrusted,
    DropReason::ProxyHeaderMissing,
    DropReason::ProxyHeaderBad(""),
    DropReason::ProxyHeaderTimeout,
];

const REFUSALS: [RejectReason; 25] = [
    RejectReason::RequestBad(""),
    RejectReason::UriTooLong,
    RejectReason::Expect,
    RejectReason::NotWebsocket,
    RejectReason::Method,
    RejectReason::HandshakeBad(""),
    RejectReason::Version,
    RejectReason::NoRoute,
    RejectReason::Misdirected,
    RejectReason::Origin,
    RejectReason::ClientFull,
    RejectReason::ClientRate,
    RejectReason::GateFull,
    RejectReason::RouteFull,
    RejectReason::Draining,
    RejectReason::NoBackend,
    RejectReason::BackendBad(""),
    RejectReason::DialTimeout,
    RejectReason::BackendTimeout,
    RejectReason::BackendSilent,
    RejectReason::BodyTimeout,
    RejectReason::NoDescriptors,
    RejectReason::Loop,
    RejectReason::ClientGone,
    RejectReason::BackendRefused(hyper::StatusCode::FORBIDDEN),
];

const PLAIN_ENDS: [TerminationReason; 16] = [
    TerminationReason::ClientClosed,
    TerminationReason::BackendClosed,
    TerminationReason::ClientGone,
    TerminationReason::BackendGone,
    TerminationReason::Idle,
    TerminationReason::HeartbeatLost(Side::Client),
    TerminationReason::HeartbeatLost(Side::Backend),
    TerminationReason::WriteStall(Side::Client),
    TerminationReason::WriteStall(Side::Backend),
    TerminationReason::Lifetime,
    TerminationReason::Drained,
    TerminationReason::Aborted,
    TerminationReason::WriteTrickle(Side::Client),
    TerminationReason::WriteTrickle(Side::Backend),
    TerminationReason::Killed,
    TerminationReason::Rebalanced,
];

const CODE_LABELS: [&str; 16] = [
    "1000", "1001", "1002", "1003", "1005", "1007", "1008", "1009", "1010", "1011", "1012", "1013",
    "1014", "3xxx", "4xxx", "other",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_the_place_of_its_labels() {
        for (place, why) in DROPS.iter().enumerate() {
            assert_eq!(dropped(why), place, "{why:?}");
        }
        for (place, refusal) in REFUSALS.iter().enumerate() {
            assert_eq!(refused(refusal), place, "{refusal:?}");
        }
        for (place, told) in Violation::all().enumerate() {
            assert_eq!(offence(told), place, "{told:?}");
        }
        let labels: Vec<_> = ends().collect();
        assert_eq!(labels.len(), ENDED);
        for end in PLAIN_ENDS {
            assert_eq!(labels[ended(end)], (end.by(), end.slug()));
        }
        for side in Side::BOTH {
            for rule in LimitKind::ALL {
                assert_eq!(
                    labels[ended(TerminationReason::Over(side, rule))],
                    (side.slug(), rule.slug())
                );
            }
            for breach in ProtocolError::ALL {
                assert_eq!(
                    labels[ended(TerminationReason::Breach(side, breach))],
                    (side.slug(), breach.slug())
                );
            }
        }
    }

    #[test]
    fn every_close_code_has_a_label_of_a_bounded_set() {
        let labels: Vec<_> = codes().collect();
        for sent in 1000..=1014 {
            let own = labels[code(sent)] == sent.to_string();
            // 1004 and 1006 are never sent (RFC 6455 7.4.1).
            assert_eq!(own, !matches!(sent, 1004 | 1006), "{sent}");
        }
        assert_eq!(labels[code(3500)], "3xxx");
        assert_eq!(labels[code(4999)], "4xxx");
        assert_eq!(labels[code(2000)], "other");
    }
}
