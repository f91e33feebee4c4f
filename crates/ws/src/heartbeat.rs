//! The heartbeat of one side: when to ping it, whether it answers, and how fast (RFC 6455 5.5.2).

use std::num::NonZeroU32;
use std::slice;
use std::time::Duration;

use crate::frame_step::PingPayload;
use crate::policy::HeartbeatPolicy;
use crate::stats::Rtt;
use crate::timestamp::{Timestamp, nanos, random_fraction};

/// Sends at most one ping at a time. If its pong cannot arrive because reading from the side is
/// suspended, the same ping is sent again, so that TCP detects a lost peer.
///
/// | phase | event | next |
/// | --- | --- | --- |
/// | `Idle` | the interval has passed | `Due` |
/// | `Due` | the ping is sent at a frame boundary | `Waiting` |
/// | `Waiting` | its pong arrives | `Idle` |
/// | `Waiting` | timeout while the side is blocked, suspended or sending a frame | `Waiting` |
/// | `Waiting` | timeout after the process itself was stopped | `Waiting`, once |
/// | `Waiting` | any other timeout | the peer is lost |
#[derive(Clone, Debug)]
pub(crate) struct Heartbeat {
    phase: HeartbeatPhase,
    rtt: Option<RttSamples>,
    /// The payloads of the last ping and of the one before it.
    payloads: [PingPayload; 2],
    /// Retransmissions of each ping. Up to this many extra pongs may arrive, since a peer may answer
    /// several pings with one pong (RFC 6455 5.5.3).
    retransmits: [u16; 2],
}

#[derive(Clone, Debug)]
enum HeartbeatPhase {
    /// No ping is due before `until`.
    Idle { until: Timestamp },
    /// A ping is to be sent at the next frame boundary. The timeout starts only then, so that a
    /// long frame in progress is not mistaken for a lost peer.
    Due,
    /// A ping was sent and its pong is expected.
    Waiting {
        sent: Timestamp,
        until: Timestamp,
        /// [`PeerActivity::bytes`] at the last check.
        bytes: u64,
        /// The single extension for a stopped process has been used.
        extended: bool,
        delay: PongDelay,
    },
}

/// Whether the pong may be among the bytes that have not been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PongDelay {
    /// The side was read all the time.
    None,
    /// Reading was suspended.
    Suspended,
    /// Reading was suspended, and the ping is to be sent again.
    Retransmit,
}

/// Round-trip times in microseconds, at most about an hour.
#[derive(Clone, Copy, Debug)]
struct RttSamples {
    last: u32,
    max: u32,
    answers: NonZeroU32,
}

/// The activity of a side with an overdue pong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerActivity {
    /// Data is queued for this side, possibly with the ping after it, or for the other side, so
    /// that this one is not read. Write timeouts cover both cases.
    pub(crate) blocked: bool,
    /// Reading is suspended by a rate limit.
    pub(crate) paused: bool,
    /// The side is within a frame and cannot send a pong.
    pub(crate) mid_frame: bool,
    /// Total bytes received from the side.
    pub(crate) bytes: u64,
}

impl Heartbeat {
    /// The first ping is sent after half an interval to a whole one, at random, so that sessions
    /// that start together do not ping together.
    pub(crate) fn new(policy: HeartbeatPolicy, random: u32) -> Self {
        let half = policy.interval / 2;
        let until = Timestamp::at(half + random_fraction(half, random));
        let phase = HeartbeatPhase::Idle { until };
        Self { phase, rtt: None, payloads: Default::default(), retransmits: [0; 2] }
    }

    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        matches!(
            self.phase,
            HeartbeatPhase::Due | HeartbeatPhase::Waiting { delay: PongDelay::Retransmit, .. }
        )
    }

    /// The payloads of the pongs that may arrive.
    #[inline]
    pub(crate) fn pending(&self) -> &[PingPayload] {
        let [last, _] = &self.payloads;
        let waiting = matches!(self.phase, HeartbeatPhase::Waiting { .. });
        match self.retransmits {
            [extra, 0] if waiting || extra > 0 => slice::from_ref(last),
            [_, 0] => &[],
            // Pongs for the previous ping arrive before the one for the last.
            [_, _] => &self.payloads,
        }
    }

    /// Number of round-trip times measured.
    #[inline]
    pub(crate) fn answers(&self) -> u32 {
        self.rtt.map_or(0, |rtt| rtt.answers.get())
    }

    pub(crate) fn rtt(&self) -> Option<Rtt> {
        let micros = |micros| Duration::from_micros(u64::from(micros));
        self.rtt.map(|rtt| Rtt {
            last: micros(rtt.last),
            max: micros(rtt.max),
            answers: rtt.answers.get(),
        })
    }

    /// Records that a ping is sent and returns its payload: `payload` for a new ping, the previous
    /// one for a retransmission. `bytes` is the current [`PeerActivity::bytes`].
    pub(crate) fn ping(
        &mut self,
        policy: HeartbeatPolicy,
        payload: PingPayload,
        bytes: u64,
        now: Timestamp,
    ) -> PingPayload {
        let ([last, _], [extra, _]) = (self.payloads, self.retransmits);
        if let HeartbeatPhase::Waiting { delay, .. } = &mut self.phase {
            *delay = PongDelay::Suspended;
            self.retransmits[0] = extra.saturating_add(1);
            return last;
        }
        let until = now.after(policy.timeout);
        (self.payloads, self.retransmits) = ([payload, last], [0, extra]);
        let (extended, delay) = (false, PongDelay::None);
        self.phase = HeartbeatPhase::Waiting { sent: now, until, bytes, extended, delay };
        payload
    }

    /// Handles a pong with one of the payloads in [`Heartbeat::pending`].
    pub(crate) fn handle_pong(
        &mut self,
        policy: HeartbeatPolicy,
        payload: PingPayload,
        now: Timestamp,
    ) {
        let ([last, _], [extra, extra_before]) = (self.payloads, self.retransmits);
        if payload != last {
            self.retransmits[1] = extra_before.saturating_sub(1);
            return;
        }
        // A peer answers in order: no pong for the previous ping can follow.
        self.retransmits[1] = 0;
        let HeartbeatPhase::Waiting { sent, delay, .. } = self.phase else {
            self.retransmits[0] = extra.saturating_sub(1);
            return;
        };
        // A delay caused by the proxy is not part of the round-trip time.
        if delay == PongDelay::None {
            self.record_rtt(now.since(sent));
        }
        // The payload is random and no longer secret: the next ping is up to an eighth earlier.
        let [a, b, c, d, ..] = payload;
        let interval = policy.interval;
        let jitter = random_fraction(interval / 8, u32::from_ne_bytes([a, b, c, d]));
        self.phase = HeartbeatPhase::Idle { until: now.after(interval - jitter) };
    }

    fn record_rtt(&mut self, elapsed: Duration) {
        let micros = u32::try_from(elapsed.as_micros()).unwrap_or(u32::MAX);
        let (max, answers) = match self.rtt {
            Some(before) => (before.max.max(micros), before.answers.saturating_add(1)),
            None => (micros, NonZeroU32::MIN),
        };
        self.rtt = Some(RttSamples { last: micros, max, answers });
    }

    #[inline]
    pub(crate) fn deadline(&self) -> Timestamp {
        match self.phase {
            HeartbeatPhase::Idle { until } | HeartbeatPhase::Waiting { until, .. } => until,
            HeartbeatPhase::Due => Timestamp::NEVER,
        }
    }

    /// Handles a deadline that has passed. Returns true if the peer is lost.
    pub(crate) fn handle_timeout(
        &mut self,
        policy: HeartbeatPolicy,
        activity: PeerActivity,
        now: Timestamp,
    ) -> bool {
        let deadline = self.deadline();
        if deadline > now {
            return false;
        }
        match &mut self.phase {
            HeartbeatPhase::Due => false,
            HeartbeatPhase::Idle { .. } => {
                self.phase = HeartbeatPhase::Due;
                false
            }
            HeartbeatPhase::Waiting { until, bytes, extended, delay, .. } => {
                // A pong cannot arrive within a frame, nor through a blocked stream. The timeout is
                // extended as long as there is progress.
                let progress = activity.mid_frame && activity.bytes != *bytes;
                let busy = activity.blocked || activity.paused || progress;
                // The process itself was stopped; the pong may be in the socket.
                let stopped = !*extended && now.nanos_since(deadline) > nanos(policy.timeout);
                if !busy && !stopped {
                    return true;
                }
                *extended |= stopped && !busy;
                *bytes = activity.bytes;
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
