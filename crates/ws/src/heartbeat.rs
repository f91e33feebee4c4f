//! The heartbeat of one side: when to ping it, whether it is alive, and how fast it answers (RFC 6455
//! 5.5.2).

mod rtt;

use std::num::NonZeroU32;
use std::slice;

use self::rtt::RttSamples;
use crate::frame_step::PingPayload;
use crate::ping_grid::PingGrid;
use crate::policy::{HeartbeatPolicy, PingProof};
use crate::stats::Rtt;
use crate::timestamp::{Timestamp, nanos};

/// Sends at most one ping at a time. If its pong cannot arrive because reading from the side is
/// suspended, the same ping is sent again, so that TCP detects a lost peer. A ping without a pong is
/// sent again after the interval, too: with the same payload, all late pongs to it are recognized.
///
/// | phase | event | next |
/// | --- | --- | --- |
/// | `Idle` | the interval has passed | `Due` |
/// | `Due` | the ping is sent at a frame boundary | `Waiting` |
/// | `Waiting` | its pong arrives | `Idle` |
/// | `Waiting` | timeout while reading is suspended | `Waiting`, and the ping is sent again |
/// | `Waiting` | timeout, but other bytes have arrived and are proof enough | `Idle`, or `Due` if the interval has passed |
/// | `Waiting` | timeout while the side is blocked | `Waiting` |
/// | `Waiting` | timeout while the side is sending a frame, the same as at the last timeout if there was one | `Waiting` |
/// | `Waiting` | timeout after the process itself was stopped | `Waiting`, once |
/// | `Waiting` | any other timeout | the peer is lost |
#[derive(Clone, Debug)]
pub(crate) struct Heartbeat {
    phase: HeartbeatPhase,
    rtt: Option<RttSamples>,
    /// The payloads of the last ping and of the one before it.
    payloads: [PingPayload; 2],
    /// How many pongs to each ping may arrive besides the one that is waited for. Maybe none does,
    /// since a peer may answer several pings with one pong (RFC 6455 5.5.3).
    extra_pongs: [u16; 2],
}

#[derive(Clone, Debug)]
enum HeartbeatPhase {
    /// No ping is due before `until`. `answered`: the pong to the last ping has arrived, or none was
    /// sent.
    Idle { until: Timestamp, answered: bool },
    /// A ping is to be sent at the next frame boundary. The timeout starts only then, so that a
    /// long frame in progress is not mistaken for a lost peer.
    Due { answered: bool },
    /// A ping was sent and its pong is expected.
    Waiting {
        sent: Timestamp,
        until: Timestamp,
        /// [`PeerActivity::bytes`] when the ping was sent, or at the last check.
        bytes: u64,
        /// Bytes have arrived that it does not count.
        uncounted: bool,
        /// [`PeerActivity::frame_end`] at the last timeout: the pong can follow this frame.
        awaited_frame: Option<NonZeroU32>,
        /// The single extension for a stopped process has been used.
        extended: bool,
        delay: PongDelay,
    },
}

/// Whether the time until the pong is the round-trip time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PongDelay {
    /// It is: the ping was sent once, and the side was read all the time.
    None,
    /// Reading was suspended, or the pong may answer an earlier ping with the same payload.
    Unknown,
    /// Reading was suspended, and the ping is to be sent again.
    Retransmit,
}

/// The activity of a side with an overdue pong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerActivity {
    /// Data is queued for this side, possibly with the ping after it, or for the other side, so
    /// that this one is not read. Write timeouts cover both cases.
    pub(crate) blocked: bool,
    /// Reading is suspended by a rate limit.
    pub(crate) paused: bool,
    /// The side is within a frame and cannot send a pong: the value of `bytes` at the end of this frame,
    /// of which the low bits suffice to identify it.
    pub(crate) frame_end: Option<NonZeroU32>,
    /// Total bytes relayed from the side.
    pub(crate) bytes: u64,
}

impl Heartbeat {
    /// The first ping is sent after half an interval to a whole one, at random, so that sessions
    /// that start together do not ping together.
    pub(crate) fn new(policy: HeartbeatPolicy, grid: PingGrid, random: u32) -> Self {
        let half = policy.interval / 2;
        let until = grid.random_time(Timestamp::at(half), half, random);
        let phase = HeartbeatPhase::Idle { until, answered: true };
        Self { phase, rtt: None, payloads: Default::default(), extra_pongs: [0; 2] }
    }

    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        matches!(
            self.phase,
            HeartbeatPhase::Due { .. }
                | HeartbeatPhase::Waiting { delay: PongDelay::Retransmit, .. }
        )
    }

    /// The payloads of the pongs that may arrive.
    #[inline]
    pub(crate) fn pending(&self) -> &[PingPayload] {
        let [last, _] = &self.payloads;
        let waiting = matches!(self.phase, HeartbeatPhase::Waiting { .. });
        match self.extra_pongs {
            [extra, 0] if waiting || extra > 0 => slice::from_ref(last),
            [_, 0] => &[],
            // Pongs for the previous ping arrive before the one for the last.
            [_, _] => &self.payloads,
        }
    }

    /// Number of round-trip times measured.
    #[inline]
    pub(crate) fn answers(&self) -> u32 {
        self.rtt.map_or(0, RttSamples::answers)
    }

    pub(crate) fn rtt(&self) -> Option<Rtt> {
        self.rtt.map(RttSamples::rtt)
    }

    /// Records that a ping is sent and returns its payload: `payload`, or that of the last ping if its
    /// pong has not arrived. `bytes` is the current [`PeerActivity::bytes`].
    pub(crate) fn ping(
        &mut self,
        policy: HeartbeatPolicy,
        payload: PingPayload,
        bytes: u64,
        now: Timestamp,
    ) -> PingPayload {
        let ([last, _], [extra, _]) = (self.payloads, self.extra_pongs);
        let (payload, delay) = match &mut self.phase {
            HeartbeatPhase::Waiting { delay, .. } => {
                *delay = PongDelay::Unknown;
                self.extra_pongs[0] = extra.saturating_add(1);
                return last;
            }
            HeartbeatPhase::Idle { answered: false, .. }
            | HeartbeatPhase::Due { answered: false } => (last, PongDelay::Unknown),
            HeartbeatPhase::Idle { .. } | HeartbeatPhase::Due { .. } => {
                (self.payloads, self.extra_pongs) = ([payload, last], [0, extra]);
                (payload, PongDelay::None)
            }
        };
        self.phase = HeartbeatPhase::Waiting {
            sent: now,
            until: now.after(policy.timeout),
            bytes,
            uncounted: false,
            awaited_frame: None,
            extended: false,
            delay,
        };
        payload
    }

    /// Records the arrival of bytes that [`PeerActivity::bytes`] does not count: an incomplete frame
    /// header or control frame, or a pong to the proxy.
    pub(crate) fn handle_uncounted(&mut self) {
        if let HeartbeatPhase::Waiting { uncounted, .. } = &mut self.phase {
            *uncounted = true;
        }
    }

    /// Handles a pong with one of the payloads in [`Heartbeat::pending`].
    pub(crate) fn handle_pong(
        &mut self,
        policy: HeartbeatPolicy,
        grid: PingGrid,
        payload: PingPayload,
        now: Timestamp,
    ) {
        let ([last, _], [extra, extra_before]) = (self.payloads, self.extra_pongs);
        if payload != last {
            self.extra_pongs[1] = extra_before.saturating_sub(1);
            self.handle_uncounted();
            return;
        }
        // A peer answers in order: no pong for the previous ping can follow.
        self.extra_pongs[1] = 0;
        let (sent, delay) = match &mut self.phase {
            HeartbeatPhase::Waiting { sent, delay, .. } => (*sent, *delay),
            HeartbeatPhase::Idle { answered, .. } | HeartbeatPhase::Due { answered } => {
                *answered = true;
                self.extra_pongs[0] = extra.saturating_sub(1);
                return;
            }
        };
        // A delay caused by the proxy is not part of the round-trip time.
        if delay == PongDelay::None {
            self.rtt = Some(RttSamples::with(self.rtt, now.since(sent)));
        }
        let until = self.next_ping(policy, grid, now);
        self.phase = HeartbeatPhase::Idle { until, answered: true };
    }

    /// The time of the ping after `last`: after the interval of the policy, less up to an eighth.
    fn next_ping(&self, policy: HeartbeatPolicy, grid: PingGrid, last: Timestamp) -> Timestamp {
        // The payload is random, and no longer secret.
        let [[a, b, c, d, ..], _] = self.payloads;
        let window = policy.interval / 8;
        let from = last.after(policy.interval - window);
        grid.random_time(from, window, u32::from_ne_bytes([a, b, c, d]))
    }

    #[inline]
    pub(crate) fn deadline(&self) -> Timestamp {
        match self.phase {
            HeartbeatPhase::Idle { until, .. } | HeartbeatPhase::Waiting { until, .. } => until,
            HeartbeatPhase::Due { .. } => Timestamp::NEVER,
        }
    }

    /// Handles a deadline that has passed. Returns true if the peer is lost.
    pub(crate) fn handle_timeout(
        &mut self,
        policy: HeartbeatPolicy,
        grid: PingGrid,
        activity: PeerActivity,
        now: Timestamp,
    ) -> bool {
        let deadline = self.deadline();
        if deadline > now {
            return false;
        }
        match &mut self.phase {
            HeartbeatPhase::Due { .. } => false,
            HeartbeatPhase::Idle { answered, .. } => {
                self.phase = HeartbeatPhase::Due { answered: *answered };
                false
            }
            HeartbeatPhase::Waiting { sent, bytes, uncounted, .. }
                if policy.proof == PingProof::Any
                    && !activity.paused
                    && (*uncounted || activity.bytes != *bytes) =>
            {
                let sent = *sent;
                let (until, answered) = (self.next_ping(policy, grid, sent), false);
                let [extra, _] = &mut self.extra_pongs;
                *extra = extra.saturating_add(1);
                self.phase = if until > now {
                    HeartbeatPhase::Idle { until, answered }
                } else {
                    HeartbeatPhase::Due { answered }
                };
                false
            }
            HeartbeatPhase::Waiting { until, bytes, awaited_frame, extended, delay, .. } => {
                // A pong cannot arrive within a frame, nor through a blocked stream. The timeout is
                // extended as long as there is progress, but only for one frame: a side that has begun
                // another one since could have answered before it.
                let progress = activity.bytes != *bytes
                    && activity.frame_end.is_some()
                    && (awaited_frame.is_none() || *awaited_frame == activity.frame_end);
                let held_up = activity.blocked || activity.paused;
                let busy = held_up || progress;
                // The process itself was stopped; the pong may be in the socket.
                let stopped = !*extended && now.nanos_since(deadline) > nanos(policy.timeout);
                if !busy && !stopped {
                    return true;
                }
                *extended |= stopped && !busy;
                *bytes = activity.bytes;
                *awaited_frame = activity.frame_end.filter(|_| !held_up);
                *until = now.after(policy.timeout);
                if activity.paused {
                    *delay = PongDelay::Retransmit;
                    *until = now.after(policy.interval);
                }
                false
            }
        }
    }
}
