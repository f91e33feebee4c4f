//! How a session grows old: the age of its messages, and its own.

use super::Session;
use crate::end::TerminationReason;
use crate::limits::LimitAction;
use crate::moment::Timestamp;
use crate::{LimitKind, Side, Violation};

impl Session {
    /// Looks at how long the message in progress may take; `anew`: another was in progress before.
    #[inline]
    pub(super) fn age(&mut self, from: Side, anew: bool, now: Timestamp) {
        let Some(age) = self.terms.limits(from).message_age else {
            return;
        };
        let within = self.peers.of(from).meter.is_in_message();
        if !within || anew || !self.clocks.is_aging(from) {
            self.clocks.set_age(from, within.then(|| now.after(age.max)));
        }
    }

    /// The message in progress has taken too long, unless we held it up ourselves.
    pub(super) fn aged(&mut self, from: Side, now: Timestamp) {
        let Some(age) = self.terms.limits(from).message_age else {
            return;
        };
        if self.is_held_up(from) {
            self.clocks.set_age(from, Some(now.after(age.max)));
        } else if age.action == LimitAction::Report {
            self.peers.of_mut(from).meter.reported.add(Violation::Over(LimitKind::MessageAge));
        } else {
            self.conclude(TerminationReason::Over(from, LimitKind::MessageAge), now);
            // It had its time; what is in progress is not waited for.
            self.peers.dry_up(from.other());
        }
    }

    fn is_held_up(&self, from: Side) -> bool {
        self.peers.of(from.other()).backlog > 0 || self.peers.of(from).is_paused()
    }

    /// The session is as old as it may become.
    pub(super) fn old(&mut self, now: Timestamp) {
        let Some(max) = self.terms.lifetime else {
            return;
        };
        let between = |side| self.peers.of(side).meter.is_between_messages();
        let between = between(Side::Client) && between(Side::Backend);
        if self.clocks.is_quiet(max, between, now) {
            self.conclude(TerminationReason::Lifetime, now);
        }
    }
}
