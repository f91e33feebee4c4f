//! What both directions and endpoints share during one wake of a tunnel.

use ws::{ControlFrame, Entropy, FrameTrace, RecvAction, Session, Side, Timestamp};

use super::extras::TunnelExtras;
use super::wake::Wake;

/// The session and its surroundings, borrowed for one wake.
pub(super) struct DirectionContext<'a, E> {
    pub(super) session: &'a mut Session,
    pub(super) entropy: &'a mut E,
    pub(super) extras: &'a mut Option<Box<TunnelExtras>>,
    pub(super) wake: &'a mut Wake,
    pub(super) now: Timestamp,
}

impl<E: Entropy> DirectionContext<'_, E> {
    pub(super) fn poll_control(&mut self, to: Side) -> Option<ControlFrame> {
        let frame = self.session.poll_control(to, self.now, self.entropy)?;
        self.trace(|trace| trace.injected(to, frame.as_bytes()));
        Some(frame)
    }

    pub(super) fn handle_recv(&mut self, from: Side, input: &[u8]) -> RecvAction {
        let action = self.session.handle_recv(from, input, self.now, self.wake.of(from));
        match action {
            RecvAction::Forward(len) | RecvAction::Discard(len) => {
                self.wake.charge_bytes(from, len)
            }
            RecvAction::Incomplete | RecvAction::Paused => {}
        }
        match action {
            RecvAction::Forward(len) => self.trace(|trace| trace.relayed(from, &input[..len])),
            // A pong to one of the proxy's pings. Input discarded after the end is not traced.
            RecvAction::Discard(len) if self.session.termination().is_none() => {
                self.trace(|trace| trace.relayed(from, &input[..len]));
            }
            RecvAction::Discard(_) | RecvAction::Incomplete | RecvAction::Paused => {}
        }
        action
    }

    /// Calls `observe` on the trace, if there is one, and removes it once its observer has finished.
    #[inline]
    fn trace(&mut self, observe: impl FnOnce(&mut FrameTrace) -> bool) {
        if let Some(extras) = self.extras
            && let Some(trace) = &mut extras.trace
            && !observe(trace)
        {
            extras.trace = None;
        }
    }
}
