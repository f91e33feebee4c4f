//! One wake of a tunnel: its time, and what it has relayed.

use std::mem;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;
use ws::{MessageSizes, Side, Timestamp};

use crate::sys::worker_share::{ShareTurn, WorkerShare};

/// What belongs to one wake.
pub(super) struct Wake {
    /// When it started.
    pub(super) now: Timestamp,
    /// Complete messages of this wake, client to backend.
    pub(super) up: MessageSizes,
    /// Complete messages of this wake, backend to client.
    pub(super) down: MessageSizes,
    clock: Instant,
    /// The cost since the clock was read, in bytes copied, which take about a nanosecond each.
    cost: u64,
    /// The clock was read again, so this is not a short wake.
    is_measured: bool,
    /// Other tasks must run, and the worker must look at its sockets.
    is_over: bool,
}

impl Wake {
    /// A wake that starts at `clock`, which is `now` in the time of the session.
    pub(super) fn new(clock: Instant, now: Timestamp) -> Self {
        let (up, down) = <(MessageSizes, MessageSizes)>::default();
        Self { now, up, down, clock, cost: 0, is_measured: false, is_over: false }
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
        let max = SHARE.with(WorkerShare::left).clamp(SHORT_MAX, TIME_MAX);
        self.is_over = self.clock.elapsed() >= max;
    }

    /// Charges the time of this wake to the share of busy tunnels. After a short wake, the tunnel is not
    /// busy any more.
    pub(super) fn finish(&self, turn: &mut ShareTurn) {
        let time = if self.is_measured { self.clock.elapsed() } else { Duration::ZERO };
        if time > Duration::ZERO {
            SHARE.with(|share| share.charge(turn, time));
        }
        if time < SHORT_MAX {
            *turn = ShareTurn::default();
        }
    }
}

/// Ready if a tunnel may work now. A busy one, whose last wake was not short, takes turns with the others of its
/// worker, so that many of them together do not delay all others; it is woken when its turn may have come.
pub(super) fn poll_turn(turn: &mut ShareTurn, cx: &mut Context<'_>) -> Poll<()> {
    if !turn.has_worked() {
        return Poll::Ready(());
    }
    SHARE.with(|share| share.poll_turn(turn, cx))
}

/// Wakes a tunnel after the worker has looked at its sockets.
pub(super) fn defer(turn: &mut ShareTurn, cx: &mut Context<'_>) {
    SHARE.with(|share| share.defer(turn, cx));
}

// Belongs to a worker thread.
thread_local! {
    static SHARE: WorkerShare = const { WorkerShare::new(SHARE_MAX) };
}

/// Time of one wake. What has been begun is completed after it, which takes up to as long again: a write of
/// 64 KiB, the measuring of 4 KiB, and one read of the other direction. With TLS, a read may decrypt for half a
/// millisecond ([`DecryptBudget`](crate::net::tls_records::DecryptBudget)).
const TIME_MAX: Duration = Duration::from_micros(250);

/// A tunnel whose wakes take no longer never waits for its turn.
const SHORT_MAX: Duration = Duration::from_micros(100);

/// Time of busy tunnels before the worker looks at its sockets: how long they delay the others.
const SHARE_MAX: Duration = Duration::from_millis(2);

/// Cost after which the clock is read, in bytes copied. Above that of ordinary wakes, which read it only once.
const CLOCK_COST: u64 = 16 * 1024;

/// Cost of a read and a write, in bytes copied: about 5 µs.
const ROUND_COST: u64 = CLOCK_COST / 2;
