//! One wake of a tunnel: its time, and what it has relayed.

use std::mem;
use std::time::Duration;

use tokio::time::Instant;
use ws::{MessageSizes, Side, Timestamp};

/// What belongs to one wake.
pub(super) struct Wake {
    /// When it started.
    pub(super) now: Timestamp,
    /// Complete messages of this wake, client to backend.
    pub(super) up: MessageSizes,
    /// Complete messages of this wake, backend to client.
    pub(super) down: MessageSizes,
    clock: Instant,
    max: Duration,
    /// The cost since the clock was read, in bytes copied, which take about a nanosecond each.
    cost: u64,
    /// The clock was read again, so this is not a short wake.
    is_measured: bool,
    /// Other tasks must run, and the worker must look at its sockets.
    is_over: bool,
}

impl Wake {
    /// A wake that starts at `clock`, which is `now` in the time of the session.
    pub(super) fn new(clock: Instant, now: Timestamp, is_busy: bool) -> Self {
        let (up, down) = <(MessageSizes, MessageSizes)>::default();
        let max = if is_busy { TIME_MAX } else { SHORT_MAX };
        Self { now, up, down, clock, max, cost: 0, is_measured: false, is_over: false }
    }

    /// Whether the wake has used its time.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(super) fn of(&mut self, from: Side) -> &mut MessageSizes {
        match from {
            Side::Client => &mut self.up,
            Side::Backend => &mut self.down,
        }
    }

    /// Charges the checks of frames from this side since the last call, and `bytes` that passed.
    #[inline]
    pub(super) fn charge_bytes(&mut self, from: Side, bytes: usize) {
        let work = mem::take(&mut self.of(from).work);
        self.charge(work.saturating_add(bytes as u64));
    }

    /// Charges a round of reads and writes.
    pub(super) fn charge_round(&mut self) {
        self.charge(ROUND_COST);
    }

    #[inline]
    fn charge(&mut self, cost: u64) {
        self.cost = self.cost.saturating_add(cost);
        if self.cost >= CLOCK_COST {
            self.read_clock();
        }
    }

    #[cold]
    fn read_clock(&mut self) {
        self.cost = 0;
        self.is_measured = true;
        self.is_over = self.clock.elapsed() >= self.max;
    }

    /// The time of this wake if it was long: the next one must wait for its turn.
    pub(super) fn long_time(&self) -> Option<Duration> {
        let time = self.is_measured.then(|| self.clock.elapsed())?;
        (time >= SHORT_MAX).then_some(time)
    }
}

/// Time of one wake of a busy tunnel. What has been begun is completed after it, which takes up to as long again: a
/// write of 64 KiB, the measuring of 4 KiB, and one read of the other direction. With TLS, a read may decrypt for as
/// long ([`DecryptBudget`](crate::net::tls_records::DecryptBudget)).
const TIME_MAX: Duration = Duration::from_micros(250);

/// Time of one wake of other tunnels. One whose wakes take no longer never waits for a turn.
const SHORT_MAX: Duration = Duration::from_micros(100);

/// Cost after which the clock is read, in bytes copied. Above that of ordinary wakes, which read it only once.
const CLOCK_COST: u64 = 16 * 1024;

/// Cost of a read and a write, in bytes copied: about 5 µs.
const ROUND_COST: u64 = CLOCK_COST / 2;
