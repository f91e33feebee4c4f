//! Two byte streams, one session: the only future of a live tunnel.
//!
//! Moves bytes, reads the clock and arms the timer; what may pass, and what happens when, is
//! [`Session`](ws::Session)'s to decide. Both directions run in one task, so they share the
//! session without a lock, and neither waits for the other. At rest it owns no buffer.

pub(crate) mod direction;
pub(crate) mod endpoint;
pub(crate) mod progress;

use std::cell::{Cell, RefCell};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use ws::{CloseCode, Entropy, FrameTrace, Session, Side, TerminationReason, Timestamp};

use self::direction::{Direction, DirectionContext};
use self::endpoint::{Endpoint, WriteState};
use self::progress::{RelayedMessages, TunnelEnd, WakeProgress};
use crate::net::Stream;
use crate::net::scratch::Scratch;

pin_project! {
    /// A live tunnel between a client `F` (the front) and a backend `B`. Resolves when the session
    /// is over and both streams are let go of.
    pub struct Tunnel<F, B, C, E> {
        relay: Relay<F, B, C, E>,
        // Made at the first deadline. A later deadline lets it fire and be armed again, as
        // almost every message moves some deadline back.
        #[pin]
        alarm: Option<Sleep>,
    }
}

/// What a tunnel may be told while it runs.
#[derive(Debug)]
pub enum Command {
    /// Say goodbye to both sides at the next boundary.
    Leave(Arc<SessionClose>),
    /// Drop both at once.
    Cut,
    /// Tell of the frames that pass from now on; whoever was told before is told no more.
    Watch(Box<FrameTrace>),
}

/// Why a tunnel is to end, and what its client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionClose {
    /// Its name.
    pub end: TerminationReason,
    /// Close code and reason; `None`: those of its terms.
    pub words: Option<(CloseCode, Arc<str>)>,
}

/// Where orders come from.
pub trait SessionControl: Unpin {
    /// The next order, each once; what comes behind [`Command::Leave`] may be [`Command::Cut`]. Pending
    /// registers the waker.
    fn poll_order(&mut self, cx: &mut Context<'_>) -> Poll<Command>;

    /// After each wake, whatever the number of messages that passed in it.
    fn relayed(&mut self, progress: &WakeProgress<'_>);
}

/// Bytes that came together with the two HTTP heads and belong to the tunnel.
#[derive(Clone, Debug, Default)]
pub struct EarlyBytes {
    /// Behind the client's request.
    pub from_client: Bytes,
    /// Behind the backend's 101.
    pub from_backend: Bytes,
}

impl<F, B, C, E> Tunnel<F, B, C, E>
where
    F: Stream,
    B: Stream,
    C: SessionControl,
    E: Entropy,
{
    /// A tunnel about to start. `early` is judged like what is read, and before it.
    pub fn new(
        client: F,
        backend: B,
        session: Session,
        early: EarlyBytes,
        control: C,
        entropy: E,
    ) -> Self {
        let relay = Relay {
            client: Endpoint::new(Side::Client, client),
            backend: Endpoint::new(Side::Backend, backend),
            up: Direction::new(early.from_client),
            down: Direction::new(early.from_backend),
            session,
            began: Instant::now().into_std(),
            control,
            entropy,
            trace: None,
            sampled: Timestamp::NEVER,
        };
        Self { relay, alarm: None }
    }
}

impl<F, B, C, E> Future for Tunnel<F, B, C, E>
where
    F: Stream,
    B: Stream,
    C: SessionControl,
    E: Entropy,
{
    type Output = TunnelEnd;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TunnelEnd> {
        let this = self.project();
        let clock = Instant::now();
        let now = Timestamp::of(clock.into_std(), this.relay.began);
        let mut passed = RelayedMessages::default();
        let run = SCRATCH.with_borrow_mut(|scratch| this.relay.run(cx, scratch, &mut passed, now));
        let late = this.relay.sample(&passed, now);
        this.relay.control.relayed(&WakeProgress {
            session: &this.relay.session,
            up: &passed.up,
            down: &passed.down,
            late,
        });
        if run.is_pending()
            && let Some(deadline) = this.relay.session.deadline()
        {
            // The timer counts in milliseconds; less would make it fire within this poll.
            let wait = (deadline - now).max(Duration::from_millis(1));
            arm(this.alarm, cx, clock, wait);
        }
        run
    }
}

/// Up and down.
type DirectionFlags = [bool; 2];

const BOTH: DirectionFlags = [true; 2];
const NEITHER: DirectionFlags = [false; 2];

/// Everything but the timer.
struct Relay<F, B, C, E> {
    client: Endpoint<F>,
    backend: Endpoint<B>,
    up: Direction,
    down: Direction,
    session: Session,
    /// When that was [`Timestamp::START`].
    began: std::time::Instant,
    control: C,
    entropy: E,
    /// Whoever watches.
    trace: Option<Box<FrameTrace>>,
    /// Since when a read waits for its write to be complete; only now and then.
    sampled: Timestamp,
}

impl<F, B, C, E> Relay<F, B, C, E>
where
    F: Stream,
    B: Stream,
    C: SessionControl,
    E: Entropy,
{
    /// Does what can be done now; Pending when all that is left has a waker, or asked to be
    /// polled again at once.
    fn run(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        passed: &mut RelayedMessages,
        now: Timestamp,
    ) -> Poll<TunnelEnd> {
        self.listen(cx, now);
        let mut moving = BOTH;
        for _ in 0..ROUNDS_MAX {
            moving = self.carry(moving, cx, scratch, passed, now);
            if moving != NEITHER {
                if passed.is_enough() {
                    break;
                }
                continue;
            }
            // Only now: what had arrived before a deadline counts, even if it is read after it.
            if self.settle(cx, scratch, now) {
                return Poll::Ready(self.end());
            }
            let said = self.announce(cx, scratch, passed, now);
            let stirred = self.client.is_stirred() | self.backend.is_stirred();
            if !said && !stirred {
                return Poll::Pending;
            }
            moving = BOTH;
        }
        // Others want to run, too. The clocks run even in a tunnel that is never idle.
        if self.settle(cx, scratch, now) {
            return Poll::Ready(self.end());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn listen(&mut self, cx: &mut Context<'_>, now: Timestamp) {
        while let Poll::Ready(order) = self.control.poll_order(cx) {
            match order {
                Command::Leave(notice) => {
                    self.session.leave(notice.end, notice.words.as_ref(), now);
                }
                Command::Cut => self.session.abort(now),
                Command::Watch(mut trace) => {
                    self.session.show(&mut trace);
                    self.trace = Some(trace);
                }
            }
        }
    }

    /// One read and one write in each of these lanes. Those in which anything moved, so that there
    /// may be more: while nobody leaves, the one lane is nothing to the other, and where nothing
    /// moves there is a waker.
    fn carry(
        &mut self,
        [up, down]: DirectionFlags,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        passed: &mut RelayedMessages,
        now: Timestamp,
    ) -> DirectionFlags {
        // Each side's end is read by the lane that writes to the other. Where neither can be
        // written to, neither would ever be read.
        if self.client.is_lost(&self.session) && self.backend.is_lost(&self.session) {
            self.client.give_up(&mut self.session, now);
            self.backend.give_up(&mut self.session, now);
        }
        let (session, entropy, trace) = (&mut self.session, &mut self.entropy, &mut self.trace);
        let mut judge = DirectionContext { session, entropy, trace, passed, now };
        let (client, backend) = (&mut self.client, &mut self.backend);
        let up = up && self.up.carry(cx, client, backend, &mut judge, scratch);
        let down = down && self.down.carry(cx, backend, client, &mut judge, scratch);
        let both = self.session.end().is_some() && (up || down);
        [up || both, down || both]
    }

    /// Frames of our own in directions in which nothing moves. True if there were any.
    fn announce(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        passed: &mut RelayedMessages,
        now: Timestamp,
    ) -> bool {
        let (session, entropy, trace) = (&mut self.session, &mut self.entropy, &mut self.trace);
        let mut judge = DirectionContext { session, entropy, trace, passed, now };
        let to_client = announce(&mut self.client, cx, &mut judge, scratch);
        let to_backend = announce(&mut self.backend, cx, &mut judge, scratch);
        to_client || to_backend
    }

    /// Lets the clocks act and the streams go, as far as the session says. True if it is over.
    fn settle(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch, now: Timestamp) -> bool {
        self.report(now);
        self.session.tick(now);
        if self.session.end().is_none() {
            return false;
        }
        self.client.part(cx, &mut self.session, &mut scratch.send, now);
        self.backend.part(cx, &mut self.session, &mut scratch.send, now);
        self.report(now);
        self.session.is_over()
    }

    fn report(&mut self, now: Timestamp) {
        let (client, backend) = (self.client.backlog(), self.backend.backlog());
        self.session.written(Side::Client, client, now);
        self.session.written(Side::Backend, backend, now);
    }

    /// How long it took from a read to the end of the write that it led to, in one wake of
    /// [`SAMPLE_EVERY`].
    fn sample(&mut self, passed: &RelayedMessages, now: Timestamp) -> Option<Duration> {
        if self.sampled == Timestamp::NEVER && (passed.up.payload > 0 || passed.down.payload > 0) {
            let wake = WAKES.get().wrapping_add(1);
            WAKES.set(wake);
            if wake.is_multiple_of(SAMPLE_EVERY) {
                self.sampled = now;
            }
        }
        if self.sampled == Timestamp::NEVER
            || self.client.backlog() > 0
            || self.backend.backlog() > 0
        {
            return None;
        }
        let since = mem::replace(&mut self.sampled, Timestamp::NEVER);
        Some(Timestamp::of(Instant::now().into_std(), self.began) - since)
    }

    /// Nothing is waited for any more, not even for the last bytes of a farewell to be taken by a
    /// peer that has left.
    fn end(&mut self) -> TunnelEnd {
        self.client.let_go();
        self.backend.let_go();
        TunnelEnd::of(&self.session)
    }
}

impl<F, B, C, E> Tunnel<F, B, C, E> {
    /// What there is to tell if it is dropped now.
    pub fn broken_off(&self) -> TunnelEnd {
        TunnelEnd::of(&self.relay.session)
    }
}

fn announce<S: Stream>(
    to: &mut Endpoint<S>,
    cx: &mut Context<'_>,
    judge: &mut DirectionContext<'_, impl Entropy>,
    scratch: &mut Scratch,
) -> bool {
    judge.session.has_word_for(to.side)
        && to.poll_gate(cx, judge.session, judge.now) == WriteState::Open
        && to.speak(cx, judge, &mut scratch.send)
}

/// Sees to it that the task is woken `wait` after `now`, or before.
fn arm(mut alarm: Pin<&mut Option<Sleep>>, cx: &mut Context<'_>, now: Instant, wait: Duration) {
    let deadline = now + wait;
    match alarm.as_mut().as_pin_mut() {
        None => alarm.set(Some(sleep_until(deadline))),
        Some(sleep) if sleep.is_elapsed() || sleep.deadline() > deadline => sleep.reset(deadline),
        Some(_) => {}
    }
    if let Some(sleep) = alarm.as_pin_mut()
        && sleep.poll(cx).is_ready()
    {
        // It fired since the clock was read.
        cx.waker().wake_by_ref();
    }
}

// Lent to whichever tunnel this worker polls.
thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
    static WAKES: Cell<u32> = const { Cell::new(0) };
}

/// Reading the clock a second time is not for every message.
const SAMPLE_EVERY: u32 = 64;

/// Rounds of one wake, each at most one read of 64 KiB in each direction.
const ROUNDS_MAX: usize = 8;

#[cfg(test)]
mod tests;
