//! Handles expired timers: idle sessions, heartbeats, slow readers, old messages and old sessions.

use std::num::NonZeroU32;

use super::Session;
use crate::heartbeat::PeerActivity;
use crate::limit_kind::LimitKind;
use crate::peers::Peers;
use crate::policy::LimitAction;
use crate::side::Side;
use crate::stats::Stats;
use crate::termination::TerminationReason;
use crate::timers::TimerFired;
use crate::timestamp::Timestamp;
use crate::violation::Violation;

impl Session {
    /// Handles all timers that have expired.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        for side in Side::BOTH {
            let peer = self.peers.of_mut(side);
            if peer.paused_until() <= now {
                peer.resume();
            }
        }
        loop {
            let (peers, stats) = (&self.peers, &self.stats);
            let activity = |side| activity(peers, stats, side);
            let active = self.termination.is_none();
            match self.timers.poll_expired(&self.policy, active, activity, now) {
                None => return,
                // Data that the proxy delays keeps the session active.
                Some(TimerFired::Idle) if self.is_delaying() => self.timers.last_data = now,
                Some(TimerFired::Idle) => self.terminate(TerminationReason::Idle, now),
                Some(TimerFired::Heartbeat(side)) => {
                    self.terminate(TerminationReason::HeartbeatTimeout(side), now);
                }
                Some(TimerFired::MessageAge(side)) => self.handle_message_age(side, now),
                Some(TimerFired::Lifetime) => self.handle_lifetime(now),
                Some(TimerFired::Write(side)) => self.handle_write_timeout(side, now),
                Some(TimerFired::CloseGrace) => {
                    self.peers.expire_grace();
                    // A side that was answered only now may still read the answer and reply.
                    if !self.is_finished() {
                        self.timers.start_close_grace(self.policy.close_grace, now);
                    }
                }
            }
        }
    }

    /// Starts, restarts or stops the age timer after data from a side has passed. `message_ended`:
    /// the message for which it was started is complete.
    #[inline]
    pub(super) fn update_message_age(&mut self, from: Side, message_ended: bool, now: Timestamp) {
        let Some(limit) = self.policy.limits(from).message_age else {
            return;
        };
        let in_message = self.peers.of(from).meter.is_in_message();
        if !in_message || message_ended || !self.timers.has_message_deadline(from) {
            let deadline = in_message.then(|| now.after(limit.max));
            self.timers.set_message_deadline(from, deadline);
        }
    }

    /// Handles a message that is too old, unless the proxy itself delays it.
    fn handle_message_age(&mut self, from: Side, now: Timestamp) {
        let Some(limit) = self.policy.limits(from).message_age else {
            return;
        };
        if self.is_held_up(from) {
            self.timers.set_message_deadline(from, Some(now.after(limit.max)));
        } else if limit.action == LimitAction::Report {
            let violation = Violation::LimitExceeded(LimitKind::MessageAge);
            self.peers.of_mut(from).meter.reported.insert(violation);
        } else {
            // The frame in progress is not waited for.
            self.fail(TerminationReason::LimitExceeded(from, LimitKind::MessageAge), from, now);
        }
    }

    fn handle_write_timeout(&mut self, side: Side, now: Timestamp) {
        // A client may receive its Close within the grace, after the data it has not accepted.
        let abandon = side == Side::Backend || self.termination.is_some();
        let reason = if self.timers.is_write_rate_limited(side) {
            TerminationReason::WriteTooSlow(side)
        } else {
            TerminationReason::WriteTimeout(side)
        };
        self.terminate(reason, now);
        if abandon {
            self.peers.abandon(side);
        }
    }

    /// Closes a session near its maximum age as soon as it is quiet.
    fn handle_lifetime(&mut self, now: Timestamp) {
        let Some(max) = self.policy.lifetime else {
            return;
        };
        let between = |side| self.peers.of(side).meter.is_between_messages();
        let between_messages = between(Side::Client) && between(Side::Backend);
        if self.timers.is_quiet(max, between_messages, now) {
            self.terminate(TerminationReason::Lifetime, now);
        }
    }

    fn is_held_up(&self, from: Side) -> bool {
        self.peers.of(from.other()).backlog > 0 || self.peers.of(from).is_paused()
    }

    fn is_delaying(&self) -> bool {
        Side::BOTH.into_iter().any(|side| self.peers.of(side).is_paused())
    }
}

fn activity(peers: &Peers, stats: &Stats, side: Side) -> PeerActivity {
    let queued = |side| peers.of(side).backlog > 0;
    let bytes = stats.bytes_from(side);
    let meter = &peers.of(side).meter;
    let frame_end = bytes.wrapping_add(meter.remaining_in_frame()) as u32;
    PeerActivity {
        blocked: queued(Side::Client) || queued(Side::Backend),
        paused: peers.of(side).is_paused(),
        frame_end: (!meter.at_boundary())
            .then(|| NonZeroU32::new(frame_end).unwrap_or(NonZeroU32::MIN)),
        bytes,
    }
}
