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
    /// HEADERS that did not become a request: too large, malformed, or beyond the limit of streams.
    Heads,
    /// HEADERS that open no stream: trailers, of which a request has one, or fields for a stream that was reset, which the
    /// h2 library decodes and ignores.
    Trailers,
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
            Self::Heads => "too many request heads that are too large or malformed",
            Self::Trailers => "too many HEADERS frames that open no stream",
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
    heads: Allowance,
    trailers: Allowance,
    resets: Allowance,
    acknowledged: Allowance,
    window_updates: Allowance,
    ignored: Allowance,
}

impl FrameLimits {
    /// The limits of a connection that begins now.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            heads: Allowance::new(200, 50, now),
            trailers: Allowance::new(200, 50, now),
            // A map that is zoomed on a large screen cancels several hundred tiles within seconds.
            resets: Allowance::new(1000, 100, now),
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
            kind::DATA | kind::CONTINUATION => return Ok(()),
            kind::HEADERS if !frame.opens_stream => (&mut self.trailers, FrameFlood::Trailers),
            kind::HEADERS => (&mut self.heads, FrameFlood::Heads),
            kind::RST_STREAM => (&mut self.resets, FrameFlood::Resets),
            kind::SETTINGS | kind::PING if !is_ack => {
                (&mut self.acknowledged, FrameFlood::Acknowledged)
            }
            kind::WINDOW_UPDATE => (&mut self.window_updates, FrameFlood::WindowUpdates),
            _ => (&mut self.ignored, FrameFlood::Ignored),
        };
        allowance.take(now).ok_or(flood)
    }

    /// Takes one head back, which was that of a request. Trailers may follow.
    pub(super) fn accept_head(&mut self) {
        self.heads.add(1);
        self.trailers.add(1);
    }

    /// Allows the WINDOW_UPDATE frames for this many written bytes: a client may send two for each small
    /// message.
    pub(super) fn add_written(&mut self, bytes: usize) {
        self.window_updates.add(u32::try_from(bytes / BYTES_PER_UPDATE).unwrap_or(u32::MAX));
    }
}

/// A token bucket, as the time at which it is full.
#[derive(Debug)]
pub(super) struct Allowance {
    full: Instant,
    /// Time in which one token is added.
    interval: Duration,
    /// Time in which an empty bucket becomes full.
    capacity: Duration,
}

impl Allowance {
    /// A full bucket.
    pub(super) fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        let interval = Duration::from_secs(1) / per_second;
        Self { full: now, interval, capacity: interval * burst }
    }

    /// Takes a token; `None` if there is none.
    pub(super) fn take(&mut self, now: Instant) -> Option<()> {
        let full = self.full.max(now) + self.interval;
        (full.duration_since(now) <= self.capacity).then(|| self.full = full)
    }

    /// Adds tokens, at most until the bucket is full.
    fn add(&mut self, tokens: u32) {
        let earlier = self.interval.saturating_mul(tokens).min(self.capacity);
        self.full = self.full.checked_sub(earlier).unwrap_or(self.full);
    }
}

/// A message of 8 bytes takes about 40 bytes: headers of the frames of WebSocket, HTTP/2 and TLS.
const BYTES_PER_UPDATE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8) -> FrameHeader {
        FrameHeader { kind, flags, opens_stream: false }
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

    // Requirements: H201, H207, H208, H209, H211, H232.
    #[tokio::test(start_paused = true)]
    async fn each_kind_has_a_burst_and_a_rate() {
        let now = Instant::now();
        let mut limits = FrameLimits::new(now);
        let later = now + Duration::from_secs(2);
        for (frame, burst, rate, flood) in [
            (frame(kind::HEADERS, 0), 200, 100, FrameFlood::Trailers),
            (frame(kind::RST_STREAM, 0), 1000, 200, FrameFlood::Resets),
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
        for kind in [kind::DATA, kind::CONTINUATION] {
            assert!((0..5000).all(|_| limits.count(frame(kind, 0), now).is_ok()));
        }
    }

    // Requirements: H232.
    #[tokio::test(start_paused = true)]
    async fn heads_count_unless_they_are_requests() {
        let now = Instant::now();
        let mut limits = FrameLimits::new(now);
        let head = FrameHeader { opens_stream: true, ..frame(kind::HEADERS, 0) };
        for _ in 0..5000 {
            limits.count(head, now).unwrap();
            limits.accept_head();
            limits.count(frame(kind::HEADERS, 0), now).unwrap();
        }
        assert_eq!(accepted(&mut limits, head, now), (200, FrameFlood::Heads));
        let later = now + Duration::from_millis(500);
        assert_eq!(accepted(&mut limits, head, later).0, 25);
    }

    #[test]
    fn a_zoomed_map_is_no_flood() {
        let mut now = Instant::now();
        let mut limits = FrameLimits::new(now);
        let cancelled_tile = frame(kind::RST_STREAM, 0);
        for _ in 0..12 {
            now += Duration::from_millis(250);
            assert!((0..100).all(|_| limits.count(cancelled_tile, now).is_ok()));
        }
    }

    #[test]
    fn slow_use_is_not_rounded() {
        let mut now = Instant::now();
        let mut allowance = Allowance::new(2, 10, now);
        assert!((0..2).all(|_| allowance.take(now).is_some()));
        // 2.1 seconds in all.
        let mut taken = 0;
        for _ in 0..30 {
            now += Duration::from_millis(70);
            taken += usize::from(allowance.take(now).is_some());
        }
        assert_eq!(taken, 21);
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
