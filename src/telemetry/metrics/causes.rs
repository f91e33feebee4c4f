//! Where each cause is counted: a place in a row for every name, and the labels of each place.
//! A cause that is new does not compile until it has a place here.

use ws::{Breach, End, Offence, Rule, Side};

use crate::reject::{Dropped, Refusal, Stage};

/// Places of [`dropped`].
pub const DROPPED: usize = DROPS.len();
/// Places of [`refused`].
pub const REFUSED: usize = REFUSALS.len();
/// Places of [`ended`].
pub const ENDED: usize = PLAIN_ENDS.len() + 2 * OFFENCES;
/// Places of [`offence`].
pub const OFFENCES: usize = Rule::ALL.len() + Breach::ALL.len();
/// Places of [`delay`].
pub const DELAYS: usize = RATES.len();
/// Places of [`code`].
pub const CODES: usize = CODE_LABELS.len();

/// The place of a drop.
pub fn dropped(why: &Dropped) -> usize {
    match why {
        Dropped::ClientFull => 0,
        Dropped::GateFull => 1,
        Dropped::TlsFailed(_) => 2,
        Dropped::TlsTimeout => 3,
        Dropped::HeadTimeout => 4,
        Dropped::HeadBad(_) => 5,
        Dropped::WriteStall => 6,
        Dropped::Gone(stage) => match stage {
            Stage::Accept => 7,
            Stage::Tls => 8,
            Stage::Head | Stage::Admit | Stage::Backend | Stage::Tunnel => 9,
        },
        Dropped::ProxyHeaderUntrusted => 10,
        Dropped::ProxyHeaderMissing => 11,
        Dropped::ProxyHeaderBad(_) => 12,
        Dropped::ProxyHeaderTimeout => 13,
    }
}

/// Stage and reason of each place of [`dropped`].
pub fn drops() -> impl Iterator<Item = (&'static str, &'static str)> {
    DROPS.iter().map(|why| (why.stage().slug(), why.slug()))
}

/// The place of a refusal.
pub fn refused(refusal: &Refusal) -> usize {
    match refusal {
        Refusal::RequestBad(_) => 0,
        Refusal::UriTooLong => 1,
        Refusal::Expect => 2,
        Refusal::NotWebsocket => 3,
        Refusal::Method => 4,
        Refusal::HandshakeBad(_) => 5,
        Refusal::Version => 6,
        Refusal::NoRoute => 7,
        Refusal::Misdirected => 8,
        Refusal::Origin => 9,
        Refusal::ClientFull => 10,
        Refusal::ClientRate => 11,
        Refusal::GateFull => 12,
        Refusal::RouteFull => 13,
        Refusal::Draining => 14,
        Refusal::NoBackend => 15,
        Refusal::BackendBad(_) => 16,
        Refusal::DialTimeout => 17,
        Refusal::BackendTimeout => 18,
        Refusal::BackendSilent => 19,
        Refusal::BodyTimeout => 20,
        Refusal::NoDescriptors => 21,
        Refusal::Loop => 22,
        Refusal::ClientGone => 23,
        Refusal::BackendRefused(_) => 24,
    }
}

/// Stage and reason of each place of [`refused`].
pub fn refusals() -> impl Iterator<Item = (&'static str, &'static str)> {
    REFUSALS.iter().map(|refusal| (refusal.stage().slug(), refusal.slug()))
}

/// The place of an end.
pub fn ended(end: End) -> usize {
    let of = |side, offence_place| PLAIN_ENDS.len() + side_place(side) * OFFENCES + offence_place;
    match end {
        End::ClientClosed => 0,
        End::BackendClosed => 1,
        End::ClientGone => 2,
        End::BackendGone => 3,
        End::Idle => 4,
        End::HeartbeatLost(Side::Client) => 5,
        End::HeartbeatLost(Side::Backend) => 6,
        End::WriteStall(Side::Client) => 7,
        End::WriteStall(Side::Backend) => 8,
        End::Lifetime => 9,
        End::Drained => 10,
        End::Aborted => 11,
        End::WriteTrickle(Side::Client) => 12,
        End::WriteTrickle(Side::Backend) => 13,
        End::Killed => 14,
        End::Rebalanced => 15,
        End::Over(side, rule) => of(side, offence(Offence::Over(rule))),
        End::Breach(side, breach) => of(side, offence(Offence::Breach(breach))),
    }
}

/// Culprit and reason of each place of [`ended`]. Several places share one pair.
pub fn ends() -> impl Iterator<Item = (&'static str, &'static str)> {
    let of = |side| {
        Offence::all().map(move |offence| match offence {
            Offence::Over(rule) => End::Over(side, rule),
            Offence::Breach(breach) => End::Breach(side, breach),
        })
    };
    let all = PLAIN_ENDS.into_iter().chain(Side::BOTH.into_iter().flat_map(of));
    all.map(|end| (end.by(), end.slug()))
}

/// The place of an offence.
pub fn offence(offence: Offence) -> usize {
    match offence {
        Offence::Over(rule) => rule as usize,
        Offence::Breach(breach) => Rule::ALL.len() + breach as usize,
    }
}

/// The reason of each place of [`offence`]. Several places share one.
pub fn offences() -> impl Iterator<Item = &'static str> {
    Offence::all().map(Offence::slug)
}

/// The place of a limit that makes a side wait; what is no rate has none.
pub fn delay(rule: Rule) -> Option<usize> {
    RATES.iter().position(|rate| *rate == rule)
}

/// The reason of each place of [`delay`].
pub fn delays() -> impl Iterator<Item = &'static str> {
    RATES.into_iter().map(Rule::slug)
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

const RATES: [Rule; 3] = [Rule::Messages, Rule::Bytes, Rule::Controls];

static DROPS: [Dropped; 14] = [
    Dropped::ClientFull,
    Dropped::GateFull,
    Dropped::TlsFailed(String::new()),
    Dropped::TlsTimeout,
    Dropped::HeadTimeout,
    Dropped::HeadBad(String::new()),
    Dropped::WriteStall,
    Dropped::Gone(Stage::Accept),
    Dropped::Gone(Stage::Tls),
    Dropped::Gone(Stage::Head),
    Dropped::ProxyHeaderUntrusted,
    Dropped::ProxyHeaderMissing,
    Dropped::ProxyHeaderBad(""),
    Dropped::ProxyHeaderTimeout,
];

const REFUSALS: [Refusal; 25] = [
    Refusal::RequestBad(""),
    Refusal::UriTooLong,
    Refusal::Expect,
    Refusal::NotWebsocket,
    Refusal::Method,
    Refusal::HandshakeBad(""),
    Refusal::Version,
    Refusal::NoRoute,
    Refusal::Misdirected,
    Refusal::Origin,
    Refusal::ClientFull,
    Refusal::ClientRate,
    Refusal::GateFull,
    Refusal::RouteFull,
    Refusal::Draining,
    Refusal::NoBackend,
    Refusal::BackendBad(""),
    Refusal::DialTimeout,
    Refusal::BackendTimeout,
    Refusal::BackendSilent,
    Refusal::BodyTimeout,
    Refusal::NoDescriptors,
    Refusal::Loop,
    Refusal::ClientGone,
    Refusal::BackendRefused(hyper::StatusCode::FORBIDDEN),
];

const PLAIN_ENDS: [End; 16] = [
    End::ClientClosed,
    End::BackendClosed,
    End::ClientGone,
    End::BackendGone,
    End::Idle,
    End::HeartbeatLost(Side::Client),
    End::HeartbeatLost(Side::Backend),
    End::WriteStall(Side::Client),
    End::WriteStall(Side::Backend),
    End::Lifetime,
    End::Drained,
    End::Aborted,
    End::WriteTrickle(Side::Client),
    End::WriteTrickle(Side::Backend),
    End::Killed,
    End::Rebalanced,
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
        for (place, told) in Offence::all().enumerate() {
            assert_eq!(offence(told), place, "{told:?}");
        }
        let labels: Vec<_> = ends().collect();
        assert_eq!(labels.len(), ENDED);
        for end in PLAIN_ENDS {
            assert_eq!(labels[ended(end)], (end.by(), end.slug()));
        }
        for side in Side::BOTH {
            for rule in Rule::ALL {
                assert_eq!(labels[ended(End::Over(side, rule))], (side.slug(), rule.slug()));
            }
            for breach in Breach::ALL {
                assert_eq!(labels[ended(End::Breach(side, breach))], (side.slug(), breach.slug()));
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
