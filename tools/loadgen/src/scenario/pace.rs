//! Messages at fixed times, whatever becomes of those before them. A latency begins when its
//! message was meant to be sent: a load that waits would not see the queue it stands in.

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

use crate::client::link::{Hear, Link};
use crate::client::tunnel::{Next, Talk, Tunnel};
use crate::fail::Fail;
use crate::measure::histogram::Histogram;
use crate::measure::window::{Stats, rounded};
use crate::pattern::{Check, Pool};

/// Time for everybody to be ready.
const LEAD: Duration = Duration::from_millis(50);
/// Messages that are overdue and go out before others have their turn.
const BURST: usize = 64;

/// When each message is due.
#[derive(Clone, Copy)]
pub struct Beat {
    start: Instant,
    period_ns: f64,
}

impl Beat {
    pub fn new(rate: f64) -> Result<Self, Fail> {
        if !(rate > 0.0 && rate <= 1e7) {
            return Err(Fail::new("--rate must be above 0"));
        }
        Ok(Self { start: Instant::now() + LEAD, period_ns: 1e9 / rate })
    }

    fn due(&self, message: u64) -> Instant {
        self.start + Duration::from_nanos((message as f64 * self.period_ns) as u64)
    }
}

/// Which of all messages a tunnel hears of: every `step`th from `first` on.
#[derive(Clone, Copy)]
pub struct Share {
    pub first: u64,
    pub step: u64,
}

/// One tunnel of a paced run.
pub struct Paced {
    pool: Rc<Pool>,
    stats: Rc<Stats>,
    beat: Beat,
    share: Share,
    check: Check,
    came: u64,
    heard: u64,
    /// How many are to come in all, as far as is known.
    pub expected: u64,
}

impl Paced {
    pub fn new(pool: Rc<Pool>, stats: Rc<Stats>, beat: Beat, share: Share) -> Self {
        let check = Check::every(share.first, share.step);
        Self { pool, stats, beat, share, check, came: 0, heard: 0, expected: 0 }
    }
}

impl Hear for Paced {
    fn part(&mut self, part: &[u8]) -> Result<(), Fail> {
        self.check.part(&self.pool, part)
    }

    fn whole(&mut self, text: bool) -> Result<(), Fail> {
        self.came += 1;
        if text {
            return Err(Fail::new("a text instead of a binary message"));
        }
        self.check.whole(&self.pool)
    }
}

impl Talk for Paced {
    fn turn(&mut self, _: &mut Link) -> Result<Next, Fail> {
        let now = Instant::now();
        for _ in 0..std::mem::take(&mut self.came) {
            let message = self.share.first + self.heard * self.share.step;
            self.stats.latency(now.saturating_duration_since(self.beat.due(message)));
            self.stats.add(1);
            self.heard += 1;
        }
        let done = self.stats.stopping.get() && self.heard >= self.expected;
        Ok(if done { Next::Leave } else { Next::Wait })
    }
}

/// Sends each message when it is due, each on the next of `tunnels`.
pub struct Sender {
    pub pool: Rc<Pool>,
    pub stats: Rc<Stats>,
    pub beat: Beat,
    pub tunnels: Vec<Rc<Tunnel<Paced>>>,
    pub next: u64,
    pub late: Histogram,
}

impl Sender {
    /// Only ends by failing, or by being dropped.
    pub async fn run<R>(&mut self) -> Result<R, Fail> {
        let alarm = Alarm::new()?;
        loop {
            let mut burst = 0;
            let now = loop {
                let now = Instant::now();
                if self.beat.due(self.next) > now || burst == BURST {
                    break now;
                }
                self.send(now)?;
                burst += 1;
            };
            if burst == BURST {
                tokio::task::yield_now().await;
            } else {
                alarm.after(self.beat.due(self.next).saturating_duration_since(now)).await?;
            }
        }
    }

    /// How late messages left: this program's own part of the latencies.
    pub fn report(&self, report: &mut Map<String, Value>) {
        let late = self.late.quantile(0.99).map(|us| rounded(us, 2));
        report.insert("send_late_p99_us".into(), late.into());
    }

    fn send(&mut self, now: Instant) -> Result<(), Fail> {
        let tunnel = &self.tunnels[(self.next % self.tunnels.len() as u64) as usize];
        tunnel.with(|link, talk| {
            talk.expected += 1;
            link.send(self.pool.frames(self.next, 1).0)
        })?;
        if self.stats.measuring.get() {
            let late = now.saturating_duration_since(self.beat.due(self.next));
            self.late.add(late.as_nanos() as u64);
        }
        self.next += 1;
        Ok(())
    }
}

/// The runtime's own timers are only good to a millisecond.
struct Alarm(AsyncFd<OwnedFd>);

impl Alarm {
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
