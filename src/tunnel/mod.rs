//! A tunnel: two byte streams and one WebSocket session, driven by a single future.
//!
//! The tunnel moves bytes, reads the clock and arms the timer; [`Session`] decides what may pass and
//! when the tunnel ends. Both directions run in one task, so they share the session without a lock
//! and do not wait for each other. An idle tunnel owns no buffer. When a ping is sent is decided in
//! `crates/ws/src/heartbeat.rs`, what ends a session in `crates/ws/src/termination.rs`.

mod context;
mod direction;
mod endpoint;
mod extras;
pub mod progress;
mod wake;

use std::cell::{Cell, RefCell};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use ws::{Entropy, FrameTrace, Session, SessionClose, Side, Summary, Timestamp};

use self::context::DirectionContext;
use self::direction::Direction;
use self::endpoint::{Endpoint, WriteState};
use self::extras::TunnelExtras;
use self::progress::WakeProgress;
use self::wake::Wake;
use crate::net::Stream;
use crate::net::scratch::Scratch;
use crate::sys::worker_step::defer;

pin_project! {
    /// A tunnel between a client stream `F` and a backend stream `B`. Resolves to the summary of
    /// the session when it has finished and both streams are closed.
    pub struct Tunnel<F, B, C, E> {
        relay: Relay<F, B, C, E>,
        // Created at the first deadline. It is moved to a later deadline only if it would fire
        // much too early, as after each pong, and not by almost every message.
        #[pin]
        timer: Option<Sleep>,
    }
}

/// A command to a running tunnel.
#[derive(Debug)]
pub enum Command {
    /// Close both sides at the next frame boundary.
    Close(Arc<SessionClose>),
    /// Reset both sides at once.
    Abort,
    /// Pass frame headers to this trace from now on. It replaces a previous trace.
    Trace(Box<FrameTrace>),
}

/// The source of commands and the receiver of progress.
pub trait SessionControl: Unpin {
    /// The next command; each is returned once. [`Command::Abort`] may follow [`Command::Close`].
    /// `Pending` registers the waker.
    fn poll_command(&mut self, cx: &mut Context<'_>) -> Poll<Command>;

    /// Called once after each wake, however many messages it relayed.
    fn handle_progress(&mut self, progress: &WakeProgress<'_>);
}

/// Bytes that arrived together with the HTTP heads and belong to the tunnel.
#[derive(Clone, Debug, Default)]
pub struct BytesAfterHead {
    /// Received after the client's request head.
    pub from_client: Bytes,
    /// Received after the backend's 101 response.
    pub from_backend: Bytes,
}

impl<F, B, C, E> Tunnel<F, B, C, E>
where
    F: Stream,
    B: Stream,
    C: SessionControl,
    E: Entropy,
{
    /// A tunnel that starts now. Bytes in `after_head` are processed before anything is read.
    pub fn new(
        client: F,
        backend: B,
        session: Session,
        after_head: BytesAfterHead,
        control: C,
        entropy: E,
    ) -> Self {
        let relay = Relay {
            client: Endpoint::new(Side::Client, client, !after_head.from_client.is_empty()),
            backend: Endpoint::new(Side::Backend, backend, !after_head.from_backend.is_empty()),
            up: Direction::new(after_head.from_client),
            down: Direction::new(after_head.from_backend),
            session,
            started: Instant::now().into_std(),
            control,
            entropy,
            extras: None,
            sampled: Timestamp::NEVER,
        };
        Self { relay, timer: None }
    }
}

impl<F, B, C, E> Future for Tunnel<F, B, C, E>
where
    F: Stream,
    B: Stream,
    C: SessionControl,
    E: Entropy,
{
    type Output = Summary;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Summary> {
        let this = self.project();
        let work = ready!(TunnelExtras::poll_turn(&mut this.relay.extras, cx));
        let clock = Instant::now();
        let now = Timestamp::of(clock.into_std(), this.relay.started);
        let mut wake = Wake::new(clock, now, work.is_some());
        let result = SCRATCH.with_borrow_mut(|scratch| this.relay.poll(cx, scratch, &mut wake));
        let latency = this.relay.sample_latency(&wake);
        TunnelExtras::finish(&mut this.relay.extras, work, wake.long_time());
        this.relay.control.handle_progress(&WakeProgress {
            session: &this.relay.session,
            up: &wake.up,
            down: &wake.down,
            latency,
        });
        if result.is_pending()
            && let Some(deadline) = this.relay.session.poll_timeout()
        {
            // The timer has a resolution of a millisecond; a shorter wait would fire at once.
            let wait = (deadline - now).max(Duration::from_millis(1));
            arm_timer(this.timer, cx, clock, wait);
        }
        result
    }
}

/// Which directions to poll.
#[derive(Clone, Copy, PartialEq, Eq)]
struct DirectionSet {
    up: bool,
    down: bool,
}

impl DirectionSet {
    const BOTH: Self = Self { up: true, down: true };
    const NONE: Self = Self { up: false, down: false };
}

/// Everything but the timer.
struct Relay<F, B, C, E> {
    client: Endpoint<F>,
    backend: Endpoint<B>,
    up: Direction,
    down: Direction,
    session: Session,
    /// The time of [`Timestamp::START`].
    started: std::time::Instant,
    control: C,
    entropy: E,
    /// What few tunnels have.
    extras: Option<Box<TunnelExtras>>,
    /// Time of the read for the latency sample in progress; [`Timestamp::NEVER`]: there is none.
    sampled: Timestamp,
}

impl<F, B, C, E> Relay<F, B, C, E>
where
    F: Stream,
    B: Stream,
    C: SessionControl,
    E: Entropy,
{
    /// Does all work that is possible now. On `Pending` a waker is registered for everything that
    /// remains, or the task has woken itself.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        wake: &mut Wake,
    ) -> Poll<Summary> {
        let now = wake.now;
        self.poll_commands(cx, now);
        let mut active = DirectionSet::BOTH;
        for _ in 0..ROUNDS_MAX {
            active = self.poll_directions(active, cx, scratch, wake);
            if active != DirectionSet::NONE {
                wake.charge_round();
                if wake.is_over() {
                    break;
                }
                continue;
            }
            // Only now: data that arrived before a deadline counts, even if it is read after it.
            if self.finish_round(cx, scratch, now) {
                return Poll::Ready(self.finish());
            }
            let sent = self.flush_control(cx, scratch, wake);
            let needs_poll = self.client.take_needs_poll() | self.backend.take_needs_poll();
            if !sent && !needs_poll {
                return Poll::Pending;
            }
            active = DirectionSet::BOTH;
        }
        // Yields to other tasks and to the sockets. Timers are checked even in a tunnel that is never idle.
        if self.finish_round(cx, scratch, now) {
            return Poll::Ready(self.finish());
        }
        defer(cx);
        Poll::Pending
    }

    fn poll_commands(&mut self, cx: &mut Context<'_>, now: Timestamp) {
        while let Poll::Ready(command) = self.control.poll_command(cx) {
            match command {
                Command::Close(request) => self.session.close(&request, now),
                Command::Abort => self.session.abort(now),
                Command::Trace(mut trace) => {
                    self.session.start_trace(&mut trace);
                    self.extras.get_or_insert_default().trace = Some(trace);
                }
            }
        }
    }

    /// Performs one read and one write in each given direction. Returns the directions to poll
    /// again. An idle direction has a waker and is polled again within the same wake only if its
    /// own endpoint changed state or the session is terminating; otherwise the directions are
    /// independent.
    fn poll_directions(
        &mut self,
        active: DirectionSet,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        wake: &mut Wake,
    ) -> DirectionSet {
        // The EOF of a side is read by the direction that writes to the other side. If neither side
        // can be written to, no EOF would ever be read.
        if self.client.is_awaiting_eof(&self.session) && self.backend.is_awaiting_eof(&self.session)
        {
            self.client.give_up(&mut self.session, wake.now);
            self.backend.give_up(&mut self.session, wake.now);
        }
        let (session, entropy, extras) = (&mut self.session, &mut self.entropy, &mut self.extras);
        let now = wake.now;
        let mut context = DirectionContext { session, entropy, extras, wake, now };
        let (client, backend) = (&mut self.client, &mut self.backend);
        let up = active.up && self.up.poll_direction(cx, client, backend, &mut context, scratch);
        let down =
            active.down && self.down.poll_direction(cx, backend, client, &mut context, scratch);
        let both = self.session.termination().is_some() && (up || down);
        DirectionSet { up: up || both, down: down || both }
    }

    /// Sends control frames in directions without traffic. Returns true if any were sent.
    fn flush_control(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        wake: &mut Wake,
    ) -> bool {
        let (session, entropy, extras) = (&mut self.session, &mut self.entropy, &mut self.extras);
        let now = wake.now;
        let mut context = DirectionContext { session, entropy, extras, wake, now };
        let to_client = flush_control(&mut self.client, cx, &mut context, scratch);
        let to_backend = flush_control(&mut self.backend, cx, &mut context, scratch);
        to_client || to_backend
    }

    /// Handles timeouts and shuts down streams as the session requires. Returns true if the session
    /// has finished.
    fn finish_round(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        now: Timestamp,
    ) -> bool {
        self.report_backlogs(now);
        self.session.handle_timeout(now);
        if self.session.termination().is_none() {
            return false;
        }
        self.client.shutdown(cx, &mut self.session, &mut scratch.send, now);
        self.backend.shutdown(cx, &mut self.session, &mut scratch.send, now);
        self.report_backlogs(now);
        self.session.is_finished()
    }

    fn report_backlogs(&mut self, now: Timestamp) {
        let (client, backend) = (self.client.backlog(), self.backend.backlog());
        self.session.handle_written(Side::Client, client, now);
        self.session.handle_written(Side::Backend, backend, now);
    }

    /// Measures the time from a read to the end of the resulting write, in one of [`SAMPLE_EVERY`]
    /// wakes. Returns it once the write has finished.
    fn sample_latency(&mut self, wake: &Wake) -> Option<Duration> {
        let has_data = wake.up.payload > 0 || wake.down.payload > 0;
        if self.sampled == Timestamp::NEVER && has_data {
            let number = WAKES.get().wrapping_add(1);
            WAKES.set(number);
            if number.is_multiple_of(SAMPLE_EVERY) {
                self.sampled = wake.now;
            }
        }
        if self.sampled == Timestamp::NEVER
            || self.client.backlog() > 0
            || self.backend.backlog() > 0
        {
            return None;
        }
        let read_at = mem::replace(&mut self.sampled, Timestamp::NEVER);
        Some(Timestamp::of(Instant::now().into_std(), self.started) - read_at)
    }

    /// Closes both streams and returns the summary. Bytes that a peer has not accepted, such as the
    /// end of a Close, are not waited for.
    fn finish(&mut self) -> Summary {
        self.client.close();
        self.backend.close();
        Summary::of(&self.session)
    }
}

impl<F, B, C, E> Tunnel<F, B, C, E> {
    /// The summary of the session as of now, for a tunnel that is dropped before it resolves.
    pub fn summary(&self) -> Summary {
        Summary::of(&self.relay.session)
    }
}

fn flush_control<S: Stream>(
    to: &mut Endpoint<S>,
    cx: &mut Context<'_>,
    context: &mut DirectionContext<'_, impl Entropy>,
    scratch: &mut Scratch,
) -> bool {
    context.session.has_pending_control(to.side)
        && to.poll_write_state(cx, context.session, context.now) == WriteState::Open
        && to.send_control(cx, context, &mut scratch.send)
}

/// Ensures that the task is woken no later than `wait` after `now`.
fn arm_timer(
    mut timer: Pin<&mut Option<Sleep>>,
    cx: &mut Context<'_>,
    now: Instant,
    wait: Duration,
) {
    let deadline = now + wait;
    match timer.as_mut().as_pin_mut() {
        None => timer.set(Some(sleep_until(deadline))),
        Some(sleep)
            if sleep.is_elapsed()
                || sleep.deadline() > deadline
                || sleep.deadline() + EARLY_MAX < deadline =>
        {
            sleep.reset(deadline);
        }
        Some(_) => {}
    }
    if let Some(sleep) = timer.as_pin_mut()
        && sleep.poll(cx).is_ready()
    {
        // It fired after the clock was read.
        cx.waker().wake_by_ref();
    }
}

// Buffers are shared by all tunnels of a worker thread.
thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
    static WAKES: Cell<u32> = const { Cell::new(0) };
}

/// How much too early the timer may fire: a wake without work, instead of moving the timer.
const EARLY_MAX: Duration = Duration::from_secs(1);

/// The second clock reading of a latency sample is too expensive for every wake.
const SAMPLE_EVERY: u32 = 64;

/// Rounds per wake, each with at most one read of 64 KiB in each direction.
const ROUNDS_MAX: usize = 8;

#[cfg(test)]
mod tests;
