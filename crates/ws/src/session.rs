//! The state machine of one tunnel: validation of both directions, all timers, and the single reason
//! for which it ends.

mod closing;
mod recv;
mod timeout;

use std::sync::Arc;
use std::time::Duration;

use crate::control_frame::ControlFrame;
use crate::entropy::Entropy;
use crate::frame_step::PingPayload;
use crate::heartbeat::Heartbeat;
use crate::peer::{CloseFrame, SendState};
use crate::peers::{Peers, Shutdown};
use crate::ping_grid::PingGrid;
use crate::policy::{DeflateMode, SessionPolicy};
use crate::side::{PerSide, Side};
use crate::stats::{CloseCodes, ReadDelays, Rtt, Stats};
use crate::termination::TerminationReason;
use crate::timers::Timers;
use crate::timestamp::Timestamp;
use crate::trace::FrameTrace;
use crate::violation::ReportedViolations;

/// The state of one tunnel after the 101 response, without IO.
///
/// It takes about 400 bytes, plus 64 bytes for each side with a heartbeat, 64 bytes for each side
/// with a byte rate, and up to 8 KiB while a compressed message is measured. The policy is shared.
///
/// # Driver interface
///
/// The driver moves the bytes; the session decides what may pass. Its methods fall into four
/// families:
///
/// - *Getters* report the state: [`shutdown`](Self::shutdown), [`wants_read`](Self::wants_read),
///   [`is_paused`](Self::is_paused), [`termination`](Self::termination),
///   [`is_finished`](Self::is_finished), [`stats`](Self::stats) and others.
/// - *`handle_*`* methods report events: [`handle_recv`](Self::handle_recv),
///   [`handle_eof`](Self::handle_eof), [`handle_written`](Self::handle_written),
///   [`handle_timeout`](Self::handle_timeout).
/// - *Commands* are actions of the proxy: [`close`](Self::close), [`abort`](Self::abort),
///   [`start_trace`](Self::start_trace).
/// - *`poll_*`* methods return what the driver must do: [`poll_control`](Self::poll_control), a
///   frame to send, and [`poll_timeout`](Self::poll_timeout), the time of the next
///   [`handle_timeout`](Self::handle_timeout).
///
/// In each round the driver writes queued data, calls `poll_control` for each side, passes the
/// bytes it has read to `handle_recv` until none are left or the rest is incomplete, calling
/// `poll_control` again in between, and reports the queued bytes with `handle_written`. It calls
/// `handle_timeout` last, so that data already in a socket takes precedence over a timeout.
#[derive(Debug)]
pub struct Session {
    policy: Arc<SessionPolicy>,
    deflate: DeflateMode,
    peers: Peers,
    timers: Timers,
    stats: Stats,
    termination: Option<TerminationReason>,
}

/// The action for the first bytes of the input. The number of bytes is never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvAction {
    /// Forward this many bytes verbatim to the other side.
    Forward(usize),
    /// Drop this many bytes.
    Discard(usize),
    /// The input, fewer than 140 bytes, is incomplete: keep it and pass it again with more bytes
    /// appended.
    Incomplete,
    /// A rate limit is exceeded: keep the input, read nothing more from this side, and pass the
    /// input again when [`Session::is_paused`] returns false.
    Paused,
}

impl Session {
    /// A session that starts at [`Timestamp::START`]. `since_origin` is the time from an origin that
    /// all sessions of the process share to that start: pings are sent at multiples of 100 ms after
    /// the origin, many together. `entropy` randomizes which of these, and the lifetime.
    pub fn new(
        policy: Arc<SessionPolicy>,
        deflate: DeflateMode,
        since_origin: Duration,
        entropy: &mut impl Entropy,
    ) -> Self {
        let [client, backend, lifetime] = [(); 3].map(|()| {
            let mut bytes = [0; 4];
            entropy.fill(&mut bytes);
            u32::from_ne_bytes(bytes)
        });
        let grid = PingGrid::new(since_origin);
        let timers = Timers::new(&policy, grid, PerSide { client, backend }, lifetime);
        let peers = Peers::new(deflate != DeflateMode::Off);
        Self { policy, deflate, peers, timers, stats: Stats::default(), termination: None }
    }

    /// The limits and timeouts of the session.
    pub fn policy(&self) -> &SessionPolicy {
        &self.policy
    }

    /// Why the session ends, as soon as this is decided. The first reason is final.
    pub fn termination(&self) -> Option<TerminationReason> {
        self.termination
    }

    /// Whether nothing remains to be sent, read or awaited. [`Session::shutdown`] then tells how to
    /// close each stream.
    pub fn is_finished(&self) -> bool {
        self.termination.is_some() && self.peers.are_finished()
    }

    /// How the stream of a side must be treated now.
    #[inline]
    pub fn shutdown(&self, side: Side) -> Shutdown {
        // A stream is closed only after the termination reason is decided.
        if self.termination.is_none() { Shutdown::KeepOpen } else { self.peers.shutdown(side) }
    }

    /// Whether a side should be read, if only to detect the end of its stream.
    pub fn wants_read(&self, from: Side) -> bool {
        self.peers.of(from).is_readable() && !self.is_finished()
    }

    /// Whether bytes of the other side may still be forwarded to this one.
    #[inline]
    pub fn is_relaying_to(&self, to: Side) -> bool {
        matches!(
            self.peers.of(to).send,
            SendState::Relay
                | SendState::CloseAfterFrame
                | SendState::CloseAfterRelay
                | SendState::CloseAfterMessages
        )
    }

    /// Whether reading from a side is suspended to enforce a rate.
    #[inline]
    pub fn is_paused(&self, from: Side, now: Timestamp) -> bool {
        let until = self.peers.of(from).paused_until();
        until != Timestamp::START && until > now
    }

    /// Whether a control frame is due for a side. If not, [`Session::poll_control`] returns `None`.
    #[inline]
    pub fn has_pending_control(&self, to: Side) -> bool {
        match self.peers.of(to).send {
            SendState::Relay => self.is_ping_due(to),
            SendState::CloseReady(_) => true,
            SendState::CloseAfterFrame
            | SendState::CloseAfterRelay
            | SendState::CloseAfterMessages
            | SendState::CloseSent(_)
            | SendState::Stopped => false,
        }
    }

    /// Traffic relayed so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Number of round-trip times measured for a side.
    #[inline]
    pub fn rtt_count(&self, side: Side) -> u32 {
        self.timers.heartbeat(side).map_or(0, Heartbeat::answers)
    }

    /// Round-trip times of a side; `None` before its first pong.
    pub fn rtt(&self, side: Side) -> Option<Rtt> {
        self.timers.heartbeat(side)?.rtt()
    }

    /// How long reading from a side was suspended, and by which limits.
    #[inline]
    pub fn read_delays(&self, from: Side) -> ReadDelays {
        let (millis, by) = self.peers.of(from).delays();
        ReadDelays { time: Duration::from_millis(u64::from(millis)), by }
    }

    /// Violations of a side that were reported without closing the session.
    #[inline]
    pub fn reported(&self, from: Side) -> ReportedViolations {
        self.peers.of(from).meter.reported
    }

    /// The size in bytes that closed the session, if it exceeded a limit on sizes. For a frame it is what
    /// the header declares; for a message, what its frames declare up to the one that exceeded the
    /// limit; for a decompressed message, what had been decompressed by then. A message may be larger as
    /// a whole.
    pub fn closing_size(&self) -> Option<u64> {
        match self.termination {
            Some(TerminationReason::LimitExceeded(side, limit)) if limit.is_size() => {
                self.peers.of(side).meter.exceeded_size()
            }
            Some(_) | None => None,
        }
    }

    /// The largest size among the reported violations of a side, measured like
    /// [`Session::closing_size`]. `None` also if a size of this side closed the session.
    pub fn reported_size(&self, from: Side) -> Option<u64> {
        let closed_it = self.closing_size().is_some()
            && self.termination.and_then(TerminationReason::violator) == Some(from);
        let is_reported = self.reported(from).sizes() > 0 && !closed_it;
        self.peers.of(from).meter.exceeded_size().filter(|_| is_reported)
    }

    /// Codes of the Close frames sent so far.
    pub fn close_codes(&self) -> CloseCodes {
        CloseCodes {
            to_client: self.peers.client.close_code(),
            to_backend: self.peers.backend.close_code(),
        }
    }

    /// Sets the position of a trace that follows the session from now on.
    pub fn start_trace(&self, trace: &mut FrameTrace) {
        for side in Side::BOTH {
            trace.skip(side, self.peers.of(side).meter.remaining_in_frame());
        }
    }

    /// Handles a change in the number of bytes queued for a side. Call it after each round of
    /// writing. Until it reports 0, forwarded bytes and control frames count as queued.
    pub fn handle_written(&mut self, to: Side, backlog: usize, now: Timestamp) {
        let peer = self.peers.of_mut(to);
        let accepted = peer.backlog.saturating_sub(backlog);
        peer.backlog = backlog;
        if backlog == 0 || peer.reset {
            self.timers.stop_write_timer(to);
        } else {
            self.timers.run_write_timer(to, accepted, &self.policy, now);
        }
    }

    /// The next control frame for a side. It must be written before any further byte that
    /// [`Session::handle_recv`] forwards to that side. `None`: no frame is due, or a frame in
    /// progress must be completed first.
    #[inline]
    pub fn poll_control(
        &mut self,
        to: Side,
        now: Timestamp,
        entropy: &mut impl Entropy,
    ) -> Option<ControlFrame> {
        let frame = match self.peers.of(to).send {
            SendState::Relay => self.ping(to, now, entropy)?,
            SendState::CloseReady(close) => self.close_frame(to, close, entropy),
            SendState::CloseAfterFrame
            | SendState::CloseAfterRelay
            | SendState::CloseAfterMessages
            | SendState::CloseSent(_)
            | SendState::Stopped => return None,
        };
        self.peers.of_mut(to).queue(frame.as_bytes().len());
        Some(frame)
    }

    /// The time at which [`Session::handle_timeout`] must be called next. After that call it lies in
    /// the future.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        if self.is_finished() {
            return None;
        }
        let mut first = self.timers.deadline(&self.policy, self.termination.is_none());
        for side in Side::BOTH {
            let paused_until = self.peers.of(side).paused_until();
            if paused_until != Timestamp::START {
                first = first.min(paused_until);
            }
        }
        (first != Timestamp::NEVER).then_some(first)
    }

    #[inline]
    fn is_ping_due(&self, to: Side) -> bool {
        self.timers.heartbeat(to).is_some_and(Heartbeat::is_due)
    }

    fn ping(
        &mut self,
        to: Side,
        now: Timestamp,
        entropy: &mut impl Entropy,
    ) -> Option<ControlFrame> {
        let due = self.termination.is_none() && self.is_ping_due(to);
        // RFC 6455 5.4: between frames, never inside one.
        if !due || !self.peers.at_boundary(to) {
            return None;
        }
        let policy = self.policy.heartbeat(to)?;
        let mut payload = PingPayload::default();
        entropy.fill(&mut payload);
        let bytes = self.stats.bytes_from(to);
        let payload = self.timers.heartbeat_mut(to)?.ping(policy, payload, bytes, now);
        Some(ControlFrame::ping(to, payload, entropy))
    }

    fn close_frame(
        &mut self,
        to: Side,
        close: CloseFrame,
        entropy: &mut impl Entropy,
    ) -> ControlFrame {
        let policy = &self.policy;
        let (code, text) = match (close, self.termination) {
            (CloseFrame::Termination, Some(reason)) => {
                (reason.close_code(to, policy), reason.close_reason(to, policy))
            }
            (CloseFrame::Termination, None) => (None, ""),
            (CloseFrame::Reply(code), _) => (code, ""),
        };
        self.peers.of_mut(to).set_close_sent(code);
        ControlFrame::close(to, code, text, entropy)
    }
}

#[cfg(test)]
mod tests;
