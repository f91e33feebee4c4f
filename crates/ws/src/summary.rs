//! The outcome of a session, as one value.

use crate::policy::SessionPolicy;
use crate::session::Session;
use crate::side::{PerSide, Side};
use crate::stats::{CloseCodes, ReadDelays, Rtt, Stats};
use crate::termination::TerminationReason;
use crate::violation::ReportedViolations;

/// How a session ended and what it relayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Why the session ended.
    pub reason: TerminationReason,
    /// The value of [`TerminationReason::key`] as written in the configuration.
    pub value: Option<String>,
    /// The size that exceeded the limit, in bytes, if it is one on sizes; see
    /// [`Session::closing_size`].
    pub size: Option<u64>,
    /// Relayed traffic.
    pub stats: Stats,
    /// Codes of the Close frames sent.
    pub close_codes: CloseCodes,
    /// Round-trip times, violations and delays of each side.
    pub sides: PerSide<SideSummary>,
}

/// The part of a [`Summary`] that concerns one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SideSummary {
    /// Round-trip times; `None` if no ping was answered.
    pub rtt: Option<Rtt>,
    /// Violations that were reported without closing the session.
    pub reported: ReportedViolations,
    /// The largest size among these violations, in bytes; see [`Session::reported_size`].
    pub reported_size: Option<u64>,
    /// Delays imposed by rate limits.
    pub delays: ReadDelays,
}

impl Summary {
    /// The outcome of a session that ended before it relayed anything.
    pub fn unstarted(reason: TerminationReason, policy: &SessionPolicy) -> Self {
        Self {
            reason,
            value: reason.value(policy),
            size: None,
            stats: Stats::default(),
            close_codes: CloseCodes::default(),
            sides: PerSide::default(),
        }
    }

    /// The outcome of a session as of now. One that is still open counts as aborted.
    pub fn of(session: &Session) -> Self {
        let reason = session.termination().unwrap_or(TerminationReason::Aborted);
        let side = |side| SideSummary {
            rtt: session.rtt(side),
            reported: session.reported(side),
            reported_size: session.reported_size(side),
            delays: session.read_delays(side),
        };
        Self {
            reason,
            value: reason.value(session.policy()),
            size: session.closing_size(),
            stats: *session.stats(),
            close_codes: session.close_codes(),
            sides: PerSide { client: side(Side::Client), backend: side(Side::Backend) },
        }
    }
}
