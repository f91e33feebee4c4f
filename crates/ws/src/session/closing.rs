//! How a session ends: by a Close, a violation, the end of a stream, a timer or a command.
//!
//! | cause | Close to the side that caused it | Close to the other side (to both if no side did) |
//! | --- | --- | --- |
//! | a Close | the answer of the other side, or the proxy's after the grace | relayed |
//! | a violation of the protocol or of a limit | after the other side's Close or end, or the grace | at the next frame boundary |
//! | the end of a stream | none | at the next frame boundary |
//! | a timer or a command | at the next frame boundary | at the next frame boundary |
//! | a rebalance | when no message is in progress, or after the grace | as well |
//!
//! After a violation, the other side may still answer what was relayed to it before. These answers are
//! relayed, so the Close to the side at fault must follow them. Its own further input is discarded.

use std::sync::Arc;

use super::Session;
use crate::peer::SendState;
use crate::policy::SessionPolicy;
use crate::session_close::SessionClose;
use crate::side::Side;
use crate::termination::TerminationReason;
use crate::timestamp::Timestamp;

impl Session {
    /// Closes both sides at the next frame boundary. Has no effect on a session that is already
    /// terminating.
    pub fn close(&mut self, request: &SessionClose, now: Timestamp) {
        if let (None, Some(message)) = (self.termination, &request.message) {
            let (drain_code, drain_reason) = (message.code, message.text.clone());
            self.policy =
                Arc::new(SessionPolicy { drain_code, drain_reason, ..(*self.policy).clone() });
        }
        self.terminate(request.reason, now);
    }

    /// Resets both sides at once.
    pub fn abort(&mut self, now: Timestamp) {
        self.set_termination(TerminationReason::Aborted, now);
        for side in Side::BOTH {
            self.peers.reset(side);
        }
    }

    /// Handles the end of a side's stream (EOF, truncation or reset), after all preceding bytes were
    /// passed to [`Session::handle_recv`]. A second call reports that the side cannot be written to
    /// either.
    pub fn handle_eof(&mut self, from: Side, now: Timestamp) {
        if self.peers.of(from).eof {
            self.peers.reset(from);
            return;
        }
        self.peers.of_mut(from).eof = true;
        let reason = match from {
            Side::Client => TerminationReason::ClientDisconnected,
            Side::Backend => TerminationReason::BackendDisconnected,
        };
        if self.set_termination(reason, now) {
            self.peers.start_close(from.other());
            match from {
                // A half-closed client may still receive data from the backend.
                Side::Client => {}
                Side::Backend => self.peers.backend.send = SendState::Stopped,
            }
        }
        self.peers.stop_relay(from.other());
    }

    /// Sets the termination reason and starts the close grace. Returns false if the session is
    /// already terminating.
    pub(super) fn set_termination(&mut self, reason: TerminationReason, now: Timestamp) -> bool {
        if self.termination.is_some() {
            return false;
        }
        self.termination = Some(reason);
        self.timers.start_close_grace(self.policy.close_grace, now);
        // Reading that a rate limit suspended is resumed, so that frames in progress can be completed
        // within the close grace.
        for side in Side::BOTH {
            self.peers.of_mut(side).resume();
        }
        true
    }

    /// Closes both sides unless the session is already terminating.
    pub(super) fn terminate(&mut self, reason: TerminationReason, now: Timestamp) {
        if self.set_termination(reason, now) {
            if reason.completes_messages() {
                self.peers.start_close_after_messages();
                return;
            }
            for side in Side::BOTH {
                if reason.violator() == Some(side) {
                    self.peers.of_mut(side).send = SendState::CloseAfterRelay;
                } else {
                    self.peers.start_close(side);
                }
            }
        }
    }

    /// Terminates because the frames of this side can no longer be relayed.
    pub(super) fn fail(&mut self, reason: TerminationReason, from: Side, now: Timestamp) {
        self.terminate(reason, now);
        self.peers.stop_relay(from.other());
    }
}
