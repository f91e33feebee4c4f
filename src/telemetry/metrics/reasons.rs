//! The counter index and the metric labels of every drop reason, reject reason, termination reason,
//! violation and close code.
//!
//! The matches are exhaustive: a new reason does not compile until it has an index here. Several
//! indices may carry the same labels; readers add those counters up.

use hyper::StatusCode;
use ws::{LimitKind, ProtocolError, Side, TerminationReason, Violation};

use crate::reject::abort::AbortCause;
use crate::reject::address_rule::AddressRule;
use crate::reject::backend_tls::BackendTlsFailure;
use crate::reject::drop_reason::{DropReason, ShedCause};
use crate::reject::invalid_head::{Addressed, InvalidHead};
use crate::reject::maintenance::MaintenanceCause;
use crate::reject::stage::ConnectionStage;
use crate::reject::{OriginMismatch, RejectReason};

/// Number of indices that [`drop_index`] returns.
pub const DROPS: usize = DROP_REASONS.len();
/// Number of indices that [`reject_index`] returns.
pub const REJECTS: usize = REJECT_REASONS.len();
/// Number of indices that [`termination_index`] returns.
pub const TERMINATIONS: usize = TERMINATION_REASONS.len() + 2 * VIOLATIONS;
/// Number of indices that [`violation_index`] returns.
pub const VIOLATIONS: usize = LimitKind::ALL.len() + ProtocolError::ALL.len();
/// Number of indices that [`delay_index`] returns.
pub const DELAYS: usize = RATES.len();
/// Number of indices that [`close_code_index`] returns.
pub const CLOSE_CODES: usize = CLOSE_CODE_LABELS.len();

/// The counter index of a drop reason, below [`DROPS`].
pub fn drop_index(reason: &DropReason) -> usize {
    match reason {
        DropReason::ClientLimit => 0,
        DropReason::ProxyLimit => 1,
        DropReason::TlsFailed(_) => 2,
        DropReason::TlsTimeout => 3,
        DropReason::HeadTimeout => 4,
        DropReason::HeadInvalid(_) => 5,
        DropReason::WriteTimeout => 6,
        DropReason::ClientDisconnected(stage) => match stage {
            ConnectionStage::Accept => 7,
            ConnectionStage::Tls => 8,
            ConnectionStage::Head
            | ConnectionStage::Admit
            | ConnectionStage::Backend
            | ConnectionStage::Response
            | ConnectionStage::Tunnel => 9,
        },
        DropReason::ProxyHeaderUntrusted => 10,
        DropReason::ProxyHeaderMissing => 11,
        DropReason::ProxyHeaderInvalid(_) => 12,
        DropReason::ProxyHeaderTimeout => 13,
        DropReason::NoRequest => 14,
        DropReason::AddressDenied(_) => 15,
        DropReason::Overloaded => 16,
        DropReason::ClientConnectionRate => 17,
        DropReason::Shed(_) => 18,
        DropReason::Http2Invalid(_) => 19,
        DropReason::Http2Flood(_) => 20,
    }
}

/// The labels (stage, reason) of each drop index, in order.
pub fn drop_labels() -> impl Iterator<Item = (&'static str, &'static str)> {
    DROP_REASONS.iter().map(|reason| (reason.stage().as_str(), reason.as_str()))
}

/// The counter index of a reject reason, below [`REJECTS`]; `None` for a redirect, which is no rejection.
pub fn reject_index(reason: &RejectReason) -> Option<usize> {
    Some(match reason {
        RejectReason::RequestInvalid(_) => 0,
        RejectReason::UriTooLong => 1,
        RejectReason::Expect => 2,
        RejectReason::NotWebsocket => 3,
        RejectReason::Method => 4,
        RejectReason::HandshakeInvalid(_) => 5,
        RejectReason::Version => 6,
        RejectReason::NoRoute => 7,
        RejectReason::Misdirected => 8,
        RejectReason::Origin(_) => 9,
        RejectReason::ClientLimit => 10,
        RejectReason::ClientRateLimit => 11,
        RejectReason::ProxyLimit => 12,
        RejectReason::RouteLimit => 13,
        RejectReason::Draining => 14,
        RejectReason::NoBackend => 15,
        RejectReason::BackendHandshakeInvalid(_) => 16,
        RejectReason::ConnectTimeout => 17,
        RejectReason::ResponseTimeout => 18,
        RejectReason::BackendIdleTimeout => 19,
        RejectReason::BodyTimeout => 20,
        RejectReason::NoDescriptors => 21,
        RejectReason::Loop => 22,
        RejectReason::ClientDisconnected => 23,
        RejectReason::BackendRejected(_) => 24,
        RejectReason::LocalPorts => 25,
        RejectReason::ResponseAborted(_, cause) => 26 + *cause as usize,
        RejectReason::AddressDenied(_) => 26 + AbortCause::ALL.len(),
        RejectReason::Maintenance(_) => 27 + AbortCause::ALL.len(),
        RejectReason::ClientRequestRate => 28 + AbortCause::ALL.len(),
        RejectReason::BodyTooSlow => 29 + AbortCause::ALL.len(),
        RejectReason::ClientRequestLimit => 30 + AbortCause::ALL.len(),
        RejectReason::BackendsFull => 31 + AbortCause::ALL.len(),
        RejectReason::HeadTooLarge => 32 + AbortCause::ALL.len(),
        RejectReason::UnsupportedProtocol => 33 + AbortCause::ALL.len(),
        RejectReason::MemoryLimit => 34 + AbortCause::ALL.len(),
        RejectReason::BackendTls(failure) => 35 + AbortCause::ALL.len() + *failure as usize,
        RejectReason::Redirected(_) => return None,
    })
}

/// The labels (stage, reason) of each reject index, in order.
pub fn reject_labels() -> impl Iterator<Item = (&'static str, &'static str)> {
    REJECT_REASONS.iter().map(|reason| (reason.stage().as_str(), reason.as_str()))
}

/// The counter index of a termination reason, below [`TERMINATIONS`].
pub fn termination_index(reason: TerminationReason) -> usize {
    let of =
        |side, violation| TERMINATION_REASONS.len() + side_index(side) * VIOLATIONS + violation;
    match reason {
        TerminationReason::ClientClosed => 0,
        TerminationReason::BackendClosed => 1,
        TerminationReason::ClientDisconnected => 2,
        TerminationReason::BackendDisconnected => 3,
        TerminationReason::Idle => 4,
        TerminationReason::HeartbeatTimeout(Side::Client) => 5,
        TerminationReason::HeartbeatTimeout(Side::Backend) => 6,
        TerminationReason::WriteTimeout(Side::Client) => 7,
        TerminationReason::WriteTimeout(Side::Backend) => 8,
        TerminationReason::Lifetime => 9,
        TerminationReason::Drained => 10,
        TerminationReason::Aborted => 11,
        TerminationReason::WriteTooSlow(Side::Client) => 12,
        TerminationReason::WriteTooSlow(Side::Backend) => 13,
        TerminationReason::Killed => 14,
        TerminationReason::BackendLost => 15,
        TerminationReason::Rebalanced => 16,
        TerminationReason::LimitExceeded(side, limit) => {
            of(side, violation_index(Violation::LimitExceeded(limit)))
        }
        TerminationReason::ProtocolError(side, error) => {
            of(side, violation_index(Violation::ProtocolError(error)))
        }
    }
}

/// The labels (initiator, reason) of each termination index, in order. Several indices share a pair.
pub fn termination_labels() -> impl Iterator<Item = (&'static str, &'static str)> {
    let of = |side| {
        Violation::all().map(move |violation| match violation {
            Violation::LimitExceeded(limit) => TerminationReason::LimitExceeded(side, limit),
            Violation::ProtocolError(error) => TerminationReason::ProtocolError(side, error),
        })
    };
    let all = TERMINATION_REASONS.into_iter().chain(Side::BOTH.into_iter().flat_map(of));
    all.map(|reason| (reason.initiator(), reason.as_str()))
}

/// The counter index of a violation, below [`VIOLATIONS`].
pub fn violation_index(violation: Violation) -> usize {
    match violation {
        Violation::LimitExceeded(limit) => limit as usize,
        Violation::ProtocolError(error) => LimitKind::ALL.len() + error as usize,
    }
}

/// The label of each violation index, in order. Several indices share a label.
pub fn violation_labels() -> impl Iterator<Item = &'static str> {
    Violation::all().map(Violation::as_str)
}

/// The counter index of a rate limit, below [`DELAYS`]; `None` for limits that never delay.
pub fn delay_index(limit: LimitKind) -> Option<usize> {
    RATES.iter().position(|rate| *rate == limit)
}

/// The label of each delay index, in order.
pub fn delay_labels() -> impl Iterator<Item = &'static str> {
    RATES.into_iter().map(LimitKind::as_str)
}

/// The counter index of a close code, below [`CLOSE_CODES`]. Codes that RFC 6455 7.4.1 or the IANA
/// registry defines have one each; the others share one per class.
pub fn close_code_index(code: u16) -> usize {
    match code {
        1000..=1003 => usize::from(code) - 1000,
        1005 => 4,
        1007..=1014 => usize::from(code) - 1002,
        3000..=3999 => 13,
        4000..=4999 => 14,
        _ => 15,
    }
}

/// The label of each close code index, in order.
pub fn close_code_labels() -> impl Iterator<Item = &'static str> {
    CLOSE_CODE_LABELS.into_iter()
}

/// 0 for the client, 1 for the backend.
pub fn side_index(side: Side) -> usize {
    match side {
        Side::Client => 0,
        Side::Backend => 1,
    }
}

const RATES: [LimitKind; 3] = [LimitKind::Messages, LimitKind::Bytes, LimitKind::ControlFrames];

static DROP_REASONS: [DropReason; 21] = [
    DropReason::ClientLimit,
    DropReason::ProxyLimit,
    DropReason::TlsFailed(String::new()),
    DropReason::TlsTimeout,
    DropReason::HeadTimeout,
    DropReason::HeadInvalid(InvalidHead {
        detail: String::new(),
        status: None,
        addressed: Addressed { target: None, host: None },
    }),
    DropReason::WriteTimeout,
    DropReason::ClientDisconnected(ConnectionStage::Accept),
    DropReason::ClientDisconnected(ConnectionStage::Tls),
    DropReason::ClientDisconnected(ConnectionStage::Head),
    DropReason::ProxyHeaderUntrusted,
    DropReason::ProxyHeaderMissing,
    DropReason::ProxyHeaderInvalid(""),
    DropReason::ProxyHeaderTimeout,
    DropReason::NoRequest,
    DropReason::AddressDenied(AddressRule::NotAllowed),
    DropReason::Overloaded,
    DropReason::ClientConnectionRate,
    DropReason::Shed(ShedCause::Connections),
    DropReason::Http2Invalid(String::new()),
    DropReason::Http2Flood(String::new()),
];

const REJECT_REASONS: [RejectReason; 35 + AbortCause::ALL.len() + BackendTlsFailure::ALL.len()] = [
    RejectReason::RequestInvalid(""),
    RejectReason::UriTooLong,
    RejectReason::Expect,
    RejectReason::NotWebsocket,
    RejectReason::Method,
    RejectReason::HandshakeInvalid(""),
    RejectReason::Version,
    RejectReason::NoRoute,
    RejectReason::Misdirected,
    RejectReason::Origin(OriginMismatch::NotListed),
    RejectReason::ClientLimit,
    RejectReason::ClientRateLimit,
    RejectReason::ProxyLimit,
    RejectReason::RouteLimit,
    RejectReason::Draining,
    RejectReason::NoBackend,
    RejectReason::BackendHandshakeInvalid(""),
    RejectReason::ConnectTimeout,
    RejectReason::ResponseTimeout,
    RejectReason::BackendIdleTimeout,
    RejectReason::BodyTimeout,
    RejectReason::NoDescriptors,
    RejectReason::Loop,
    RejectReason::ClientDisconnected,
    RejectReason::BackendRejected(StatusCode::FORBIDDEN),
    RejectReason::LocalPorts,
    RejectReason::ResponseAborted(StatusCode::OK, AbortCause::ALL[0]),
    RejectReason::ResponseAborted(StatusCode::OK, AbortCause::ALL[1]),
    RejectReason::ResponseAborted(StatusCode::OK, AbortCause::ALL[2]),
    RejectReason::ResponseAborted(StatusCode::OK, AbortCause::ALL[3]),
    RejectReason::ResponseAborted(StatusCode::OK, AbortCause::ALL[4]),
    RejectReason::ResponseAborted(StatusCode::OK, AbortCause::ALL[5]),
    RejectReason::AddressDenied(AddressRule::NotAllowed),
    RejectReason::Maintenance(MaintenanceCause::Command),
    RejectReason::ClientRequestRate,
    RejectReason::BodyTooSlow,
    RejectReason::ClientRequestLimit,
    RejectReason::BackendsFull,
    RejectReason::HeadTooLarge,
    RejectReason::UnsupportedProtocol,
    RejectReason::MemoryLimit,
    RejectReason::BackendTls(BackendTlsFailure::ALL[0]),
    RejectReason::BackendTls(BackendTlsFailure::ALL[1]),
    RejectReason::BackendTls(BackendTlsFailure::ALL[2]),
    RejectReason::BackendTls(BackendTlsFailure::ALL[3]),
    RejectReason::BackendTls(BackendTlsFailure::ALL[4]),
    RejectReason::BackendTls(BackendTlsFailure::ALL[5]),
    RejectReason::BackendTls(BackendTlsFailure::ALL[6]),
    RejectReason::BackendTls(BackendTlsFailure::ALL[7]),
    RejectReason::BackendTls(BackendTlsFailure::ALL[8]),
    RejectReason::BackendTls(BackendTlsFailure::ALL[9]),
    RejectReason::BackendTls(BackendTlsFailure::ALL[10]),
    RejectReason::BackendTls(BackendTlsFailure::ALL[11]),
];

/// Every termination reason except violations, which follow once per side.
const TERMINATION_REASONS: [TerminationReason; 17] = [
    TerminationReason::ClientClosed,
    TerminationReason::BackendClosed,
    TerminationReason::ClientDisconnected,
    TerminationReason::BackendDisconnected,
    TerminationReason::Idle,
    TerminationReason::HeartbeatTimeout(Side::Client),
    TerminationReason::HeartbeatTimeout(Side::Backend),
    TerminationReason::WriteTimeout(Side::Client),
    TerminationReason::WriteTimeout(Side::Backend),
    TerminationReason::Lifetime,
    TerminationReason::Drained,
    TerminationReason::Aborted,
    TerminationReason::WriteTooSlow(Side::Client),
    TerminationReason::WriteTooSlow(Side::Backend),
    TerminationReason::Killed,
    TerminationReason::BackendLost,
    TerminationReason::Rebalanced,
];

const CLOSE_CODE_LABELS: [&str; 16] = [
    "1000", "1001", "1002", "1003", "1005", "1007", "1008", "1009", "1010", "1011", "1012", "1013",
    "1014", "3xxx", "4xxx", "other",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_maps_to_its_labels() {
        for (index, reason) in DROP_REASONS.iter().enumerate() {
            assert_eq!(drop_index(reason), index, "{reason:?}");
        }
        for (index, reason) in REJECT_REASONS.iter().enumerate() {
            assert_eq!(reject_index(reason), Some(index), "{reason:?}");
        }
        for (index, violation) in Violation::all().enumerate() {
            assert_eq!(violation_index(violation), index, "{violation:?}");
        }
        let labels: Vec<_> = termination_labels().collect();
        assert_eq!(labels.len(), TERMINATIONS);
        for reason in TERMINATION_REASONS {
            assert_eq!(labels[termination_index(reason)], (reason.initiator(), reason.as_str()));
        }
        for side in Side::BOTH {
            for limit in LimitKind::ALL {
                assert_eq!(
                    labels[termination_index(TerminationReason::LimitExceeded(side, limit))],
                    (side.as_str(), limit.as_str())
                );
            }
            for error in ProtocolError::ALL {
                assert_eq!(
                    labels[termination_index(TerminationReason::ProtocolError(side, error))],
                    (side.as_str(), error.as_str())
                );
            }
        }
    }

    #[test]
    fn close_code_labels_are_a_bounded_set() {
        let labels: Vec<_> = close_code_labels().collect();
        for sent in 1000..=1014 {
            let own = labels[close_code_index(sent)] == sent.to_string();
            // 1004 and 1006 are never sent (RFC 6455 7.4.1).
            assert_eq!(own, !matches!(sent, 1004 | 1006), "{sent}");
        }
        assert_eq!(labels[close_code_index(3500)], "3xxx");
        assert_eq!(labels[close_code_index(4999)], "4xxx");
        assert_eq!(labels[close_code_index(2000)], "other");
    }
}
