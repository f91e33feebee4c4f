//! Violations that were reported without closing the session.

use crate::limit_kind::LimitKind;
use crate::protocol_error::ProtocolError;

/// A reason for which a session would have been closed if the action were not `report`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Violation {
    /// A limit was exceeded.
    LimitExceeded(LimitKind),
    /// A frame violated the protocol.
    ProtocolError(ProtocolError),
}

impl Violation {
    /// Every violation.
    pub fn all() -> impl Iterator<Item = Self> {
        let limits = LimitKind::ALL.map(Self::LimitExceeded);
        limits.into_iter().chain(ProtocolError::ALL.map(Self::ProtocolError))
    }

    /// The name in records and metric labels. Some protocol errors share a name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LimitExceeded(limit) => limit.as_str(),
            Self::ProtocolError(error) => error.as_str(),
        }
    }

    fn bit(self) -> u32 {
        match self {
            Self::LimitExceeded(limit) => 1 << limit as u32,
            Self::ProtocolError(error) => 1 << (LimitKind::ALL.len() as u32 + error as u32),
        }
    }
}

/// The set of violations of one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportedViolations(u32);

impl ReportedViolations {
    /// The violations in this set.
    pub fn iter(self) -> impl Iterator<Item = Violation> {
        self.since(Self::default())
    }

    /// The violations in this set that are not in `before`.
    pub fn since(self, before: Self) -> impl Iterator<Item = Violation> {
        let new = self.0 & !before.0;
        // Most sets are empty.
        let all = (new != 0).then(Violation::all).into_iter().flatten();
        all.filter(move |violation| new & violation.bit() != 0)
    }

    /// How many of them exceed a limit on sizes.
    pub fn sizes(self) -> usize {
        let is_size = |limit: &LimitKind| limit.is_size();
        let sizes = LimitKind::ALL.into_iter().filter(is_size).map(Violation::LimitExceeded);
        sizes.filter(|size| self.0 & size.bit() != 0).count()
    }

    /// Whether the set contains no violation.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The union of both sets.
    #[inline]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[inline]
    pub(crate) fn insert(&mut self, violation: Violation) {
        self.0 |= violation.bit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_holds_each_violation_once() {
        let mut reported = ReportedViolations::default();
        for (at, violation) in Violation::all().enumerate() {
            let before = reported;
            reported.insert(violation);
            reported.insert(violation);
            assert_eq!(reported.since(before).collect::<Vec<_>>(), [violation]);
            assert_eq!(before.union(reported), reported);
            assert_eq!(reported.iter().count(), at + 1);
        }
    }
}
