//! Messages at fixed times, independent of earlier ones. Latency counts from the scheduled time: a
//! load that waits for responses would hide queueing (coordinated omission).

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use serde_json::{Map, Value};
use tokio::io::unix::AsyncFd;

use crate::client::connection::{Connection, MessageHandler};
use crate::client::tunnel::{Action, Tunnel, TunnelDriver};
use crate::error::Error;
use crate::measure::histogram::Histogram;
use crate::measure::measurement::{Stats, rounded};
use crate::message::{MessagePool, Verifier};

/// Delay before the first message, so that all tunnels are ready.
const LEAD: Duration = Duration::from_millis(50);
/// Overdue messages sent before other tasks run.
const BURST: usize = 64;

/// The send time of every message.
#[derive(Clone, Copy)]
pub struct Schedule {
    start: Instant,
    period_ns: f64,
}

impl Schedule {
    pub fn new(rate: f64) -> Result<Self, Error> {
        if !(rate > 0.0 && rate <= 1e7) {
            return Err(Error::new("--rate must be above 0"));
        }
        Ok(Self { start: Instant::now() + LEAD, period_ns: 1e9 / rate })
    }

    pub fn due(&self, message: u64) -> Instant {
        self.start + Duration::from_nanos((message as f64 * self.period_ns) as u64)
    }
}

/// The messages one tunnel receives: every `step`th, starting with `first`.
#[derive(Clone, Copy)]
pub struct Share {
    pub first: u64,
    pub step: u64,
}

/// A tunnel that receives its share of the scheduled messages.
pub struct ScheduledReceiver {
    pool: Rc<MessagePool>,
    stats: Rc<Stats>,
    schedule: Schedule,
    share: Share,
    verifier: Verifier,
    received: u64,
    handled: u64,
    /// Number of messages to expect, as far as known.
    pub expected: u64,
}

impl ScheduledReceiver {
    pub fn new(pool: Rc<MessagePool>, stats: Rc<Stats>, schedule: Schedule, share: Share) -> Self {
        let verifier = Verifier::every(share.first, share.step);
        Self { pool, stats, schedule, share, verifier, received: 0, handled: 0, expected: 0 }
    }
}

impl MessageHandler for ScheduledReceiver {
    fn on_data(&mut self, part: &[u8]) -> Result<(), Error> {
        self.verifier.verify(&self.pool, part)
    }

    fn on_message_end(&mut self, text: bool) -> Result<(), Error> {
        self.received += 1;
        if text {
            return Err(Error::new("received a text message instead of a binary one"));
        }
        self.verifier.end_message(&self.pool)
    }
}

impl TunnelDriver for ScheduledReceiver {
    fn drive(&mut self, _: &mut Connection) -> Result<Action, Error> {
        let now = Instant::now();
        for _ in 0..std::mem::take(&mut self.received) {
            let message = self.share.first + self.handled * self.share.step;
            self.stats.latency(now.saturating_duration_since(self.schedule.due(message)));
            self.stats.add(1);
            self.handled += 1;
        }
        let done = self.stats.stopping.get() && self.handled >= self.expected;
        Ok(if done { Action::Close } else { Action::Wait })
    }
}

/// Sends each message at its time, alternating between `tunnels`.
pub struct Sender {
    pub pool: Rc<MessagePool>,
    pub stats: Rc<Stats>,
    pub schedule: Schedule,
    pub tunnels: Vec<Rc<Tunnel<ScheduledReceiver>>>,
    pub next: u64,
    pub send_delay: Histogram,
}

impl Sender {
    /// Runs until it fails or is dropped.
    pub async fn run<R>(&mut self) -> Result<R, Error> {
        let timer = Timer::new()?;
        loop {
            let mut burst = 0;
            let now = loop {
                let now = Instant::now();
                if self.schedule.due(self.next) > now || burst == BURST {
                    break now;
                }
                self.send(now)?;
                burst += 1;
            };
            if burst == BURST {
                tokio::task::yield_now().await;
            } else {
                timer.after(self.schedule.due(self.next).saturating_duration_since(now)).await?;
            }
        }
    }

    /// Reports how late messages were sent: this program's own share of the latencies.
    pub fn report(&self, report: &mut Map<String, Value>) {
        let delay = self.send_delay.quantile(0.99).map(|us| rounded(us, 2));
        report.insert("send_late_p99_us".into(), delay.into());
    }

    fn send(&mut self, now: Instant) -> Result<(), Error> {
        let tunnel = &self.tunnels[(self.next % self.tunnels.len() as u64) as usize];
        tunnel.with(|connection, driver| {
            driver.expected += 1;
            connection.send(self.pool.frames(self.next, 1).0)
        })?;
        if self.stats.measuring.get() {
            let delay = now.saturating_duration_since(self.schedule.due(self.next));
            self.send_delay.add(delay.as_nanos() as u64);
        }
        self.next += 1;
        Ok(())
    }
}

/// A timer file descriptor, because tokio's timers have a resolution of one millisecond.
struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    #[expect(deprecated, reason = "its successor is unsafe; an OwnedFd is what it asks for")]
    fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self(AsyncFd::new(timerfd_create(TimerfdClockId::Monotonic, flags)?)?))
    }

    async fn after(&self, time: Duration) -> io::Result<()> {
        if time.is_zero() {
            return Ok(());
        }
        let at = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec {
                tv_sec: time.as_secs() as i64,
                tv_nsec: i64::from(time.subsec_nanos()),
            },
        };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &at)?;
        loop {
            let mut ready = self.0.readable().await?;
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut [0u8; 8])?));
            if let Ok(read) = read {
                return read.map(|_| ());
            }
        }
    }
}
