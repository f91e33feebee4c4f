//! How many frames without data a client may send. The h2 library limits some kinds; the others cost a
//! few hundred nanoseconds each, and a client that sends nothing else could occupy a worker.
//!
//! The limits are far above what browsers and HTTP libraries send, since exceeding one ends the connection with
//! all its streams. Go, for example, sends a PING with each RST_STREAM.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::frame_scanner::{ACK, FrameHeader, kind};

/// A kind of frames of which a client sent too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameFlood {
    /// RST_STREAM: requests that the client cancelled (CVE-2023-44487).
    Resets,
    /// PING and SETTINGS, each of which is acknowledged.
    Acknowledged,
    /// WINDOW_UPDATE without data that it could be for.
    WindowUpdates,
    /// PRIORITY, acknowledgements, and types that are not known.
    Ignored,
}

/// The message for the operator.
impl fmt::Display for FrameFlood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resets => "too many streams reset by the client (RST_STREAM)",
            Self::Acknowledged => "too many PING or SETTINGS frames",
            Self::WindowUpdates => "too many WINDOW_UPDATE frames",
            Self::Ignored => "too many PRIORITY, acknowledgement or unknown frames",
        })
    }
}

/// What is left for one connection.
#[derive(Debug)]
pub(super) struct FrameLimits {
    resets: Allowance,
    acknowledged: Allowance,
    window_updates: Allowance,
    ignored: Allowance,
}

impl FrameLimits {
    /// The limits of a connection that begins now.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            resets: Allowance::new(200, 100, now),
            acknowledged: Allowance::new(200, 20, now),
            window_updates: Allowance::new(2000, 1000, now),
            ignored: Allowance::new(1000, 100, now),
        }
    }

    /// Counts a frame.
    ///
    /// # Errors
    /// There were too many of its kind.
    pub(super) fn count(&mut self, frame: FrameHeader, now: Instant) -> Result<(), FrameFlood> {
        let is_ack = frame.flags & ACK != 0;
        let (allowance, flood) = match frame.kind {
            kind::DATA | kind::HEADERS | kind::CONTINUATION => return Ok(()),
            kind::RST_STREAM => (&mut self.resets, FrameFlood::Resets),
            kind::SETTINGS | kind::PING if !is_ack => {
                (&mut self.acknowledged, FrameFlood::Acknowledged)
            }
            kind::WINDOW_UPDATE => (&mut self.window_updates, FrameFlood::WindowUpdates),
            _ => (&mut self.ignored, FrameFlood::Ignored),
        };
        allowance.take(now).ok_or(flood)
    }

    /// Allows the WINDOW_UPDATE frames for this many written bytes: a client may send two for each small
    /// message.
    pub(super) fn add_written(&mut self, bytes: usize) {
        self.window_updates.add(u32::try_from(bytes / BYTES_PER_UPDATE).unwrap_or(u32::MAX));
    }
}

/// A token bucket of whole tokens.
#[derive(Debug)]
pub(super) struct Allowance {
    left: u32,
    burst: u32,
    interval: Duration,
    refilled: Instant,
}

impl Allowance {
    /// A full bucket.
    pub(super) fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        let interval = Duration::from_secs(1) / per_second;
        Self { left: burst, burst, interval, refilled: now }
    }

    /// Takes a token; `None` if there is none.
    pub(super) fn take(&mut self, now: Instant) -> Option<()> {
        if self.left == 0 {
            let passed = now.duration_since(self.refilled).as_nanos() / self.interval.as_nanos();
            self.left = u32::try_from(passed).unwrap_or(u32::MAX).min(self.burst);
            if self.left > 0 {
                self.refilled = now;
            }
        }
        self.left = self.left.checked_sub(1)?;
        Some(())
    }

    fn add(&mut self, tokens: u32) {
        self.left = self.left.saturating_add(tokens).min(self.burst);
    }
}

/// A message of 8 bytes takes about 40 bytes: headers of the frames of WebSocket, HTTP/2 and TLS.
const BYTES_PER_UPDATE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8) -> FrameHeader {
        FrameHeader { kind, flags, length: 0 }
    }

    /// Number of frames that are accepted at once.
    fn accepted(limits: &mut FrameLimits, frame: FrameHeader, now: Instant) -> (usize, FrameFlood) {
        let mut accepted = 0;
        loop {
            match limits.count(frame, now) {
                Ok(()) => accepted += 1,
                Err(flood) => return (accepted, flood),
            }
        }
    }

    // Requirements: H201, H207, H208, H209, H211.
    #[tokio::test(start_paused = true)]
    async fn each_kind_has_a_burst_and_a_rate() {
        let now = Instant::now();
        let mut limits = FrameLimits::new(now);
        let later = now + Duration::from_secs(2);
        for (frame, burst, rate, flood) in [
            (frame(kind::RST_STREAM, 0), 200, 200, FrameFlood::Resets),
            (frame(kind::PING, 0), 200, 40, FrameFlood::Acknowledged),
            (frame(kind::SETTINGS, 0), 0, 0, FrameFlood::Acknowledged),
            (frame(kind::WINDOW_UPDATE, 0), 2000, 2000, FrameFlood::WindowUpdates),
            (frame(2, 0), 1000, 200, FrameFlood::Ignored),
            (frame(kind::PING, ACK), 0, 0, FrameFlood::Ignored),
            (frame(0xfe, 0), 0, 0, FrameFlood::Ignored),
        ] {
            assert_eq!(accepted(&mut limits, frame, now), (burst, flood));
            assert_eq!(accepted(&mut limits, frame, later), (rate, flood));
        }
        for kind in [kind::DATA, kind::HEADERS, kind::CONTINUATION] {
            assert!((0..5000).all(|_| limits.count(frame(kind, 0), now).is_ok()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn written_data_allows_window_updates() {
        let now = Instant::now();
        let mut limits = FrameLimits::new(now);
        let update = frame(kind::WINDOW_UPDATE, 0);
        accepted(&mut limits, update, now);
        for _ in 0..5000 {
            limits.add_written(19);
            assert!((0..2).all(|_| limits.count(update, now).is_ok()));
        }
        limits.add_written(usize::MAX);
        assert_eq!(accepted(&mut limits, update, now).0, 2000);
    }
}
