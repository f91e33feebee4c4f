//! Payload in one direction, as fast as it goes.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::Plan;
use crate::cli::Direction;
use crate::client::crew::Crew;
use crate::client::dial::open_many;
use crate::client::link::{Hear, Link};
use crate::client::tunnel::{Next, Talk, Tunnel};
use crate::fail::Fail;
use crate::frame::{Header, TEXT, mask};
use crate::measure::process::Sample;
use crate::measure::window::{Stats, Window};
use crate::pattern::{Check, Pool, Sum};

const MIB: f64 = 1_048_576.0;
/// More than any run receives: the source ends when it is told.
const SOURCE_BYTES: u64 = 1 << 50;
const BATCH_BYTES: usize = 256 << 10;
/// Batches of one tunnel before others have their turn.
const BATCHES: usize = 4;
/// What was sent may stand in buffers for a while.
const SUM_WAIT: Duration = Duration::from_secs(20);
const SUM_BYTES_MAX: usize = 64;

pub async fn run(plan: &Plan, direction: Direction) -> Result<Map<String, Value>, Fail> {
    let size = plan.size(64 << 10);
    let window = match direction {
        Direction::Up => up(plan, Rc::new(Pool::masked(size)?)).await?,
        Direction::Down => down(plan, Rc::new(Pool::bare(size)?)).await?,
    };
    let mut report = window.report("bulk", None);
    let word = match direction {
        Direction::Up => "up",
        Direction::Down => "down",
    };
    report.insert("direction".into(), word.into());
    report.insert("tunnels".into(), plan.tunnels(4).into());
    Ok(report)
}

/// Measured between two moments at which nothing is on its way: the sinks have said so.
async fn up(plan: &Plan, pool: Rc<Pool>) -> Result<Window, Fail> {
    let count = plan.tunnels(4);
    let control = Rc::new(Control::default());
    let sums: Rc<[Sum]> = (0..pool.count() as u64).map(|index| sum(pool.payload(index))).collect();
    let mut crew = Crew::default();
    let mut tunnels = Vec::with_capacity(count);
    for link in open_many(&plan.dialer, plan.path("/sink"), count, plan.at_a_time(64)).await? {
        let talk = Up::new(pool.clone(), sums.clone(), control.clone());
        let tunnel = Tunnel::new(link, talk);
        crew.add(&tunnel);
        tunnels.push(tunnel);
    }
    let enter = |phase| {
        control.phase.set(phase);
        control.answered.set(0);
        tunnels.iter().for_each(|tunnel| tunnel.with(|link, _| link.wake()));
    };
    let stretch = async |time| {
        enter(Phase::Send);
        control.stats.watch(time).await?;
        enter(Phase::Ask);
        let all = async {
            while control.answered.get() < count {
                control.news.notified().await;
            }
        };
        let late = |_| Fail::new(format!("no sum from a sink in {} s", SUM_WAIT.as_secs()));
        timeout(SUM_WAIT, all).await.map_err(late)
    };
    let window = crew
        .during(async {
            stretch(plan.warmup()).await?;
            let (before, from) = (control.stats.units.get(), Sample::take(&plan.common.pids)?);
            stretch(plan.time()).await?;
            let bytes = control.stats.units.get() - before;
            let mut window = Window::default();
            window.add(&from, &Sample::take(&plan.common.pids)?, bytes as f64 / MIB);
            Ok(window)
        })
        .await?;
    enter(Phase::Leave);
    crew.finish().await?;
    Ok(window)
}

async fn down(plan: &Plan, pool: Rc<Pool>) -> Result<Window, Fail> {
    let count = plan.tunnels(4);
    let path = format!("/source?bytes={SOURCE_BYTES}&size={}", pool.size());
    let (mut crew, stats) = (Crew::default(), Stats::new());
    for link in open_many(&plan.dialer, plan.path(&path), count, plan.at_a_time(64)).await? {
        let (pool, stats) = (pool.clone(), stats.clone());
        crew.add(&Tunnel::new(link, Down { pool, stats, check: Check::from(0) }));
    }
    let mut window = crew.during(plan.window(&stats)).await?;
    window.units /= MIB;
    stats.stopping.set(true);
    crew.finish().await?;
    Ok(window)
}

fn sum(payload: &[u8]) -> Sum {
    let mut sum = Sum::default();
    sum.part(payload);
    sum.end();
    sum
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Send,
    Ask,
    Leave,
}

#[derive(Default)]
struct Control {
    phase: Cell<Phase>,
    answered: Cell<usize>,
    news: Notify,
    stats: Stats,
}

struct Up {
    pool: Rc<Pool>,
    sums: Rc<[Sum]>,
    control: Rc<Control>,
    next: u64,
    sum: Sum,
    asked: bool,
    answer: Vec<u8>,
}

impl Up {
    fn new(pool: Rc<Pool>, sums: Rc<[Sum]>, control: Rc<Control>) -> Self {
        let (sum, answer) = (Sum::default(), Vec::new());
        Self { pool, sums, control, next: 0, sum, asked: false, answer }
    }

    fn send(&mut self, link: &mut Link) -> Result<Next, Fail> {
        self.asked = false;
        let most = (BATCH_BYTES / self.pool.frame_bytes()).max(1);
        for _ in 0..BATCHES {
            if !link.clear() {
                return Ok(Next::Wait);
            }
            let (frames, count) = self.pool.frames(self.next, most);
            link.send(frames)?;
            for index in self.next..self.next + count as u64 {
                self.sum.append(&self.sums[(index % self.sums.len() as u64) as usize]);
            }
            self.next += count as u64;
            self.control.stats.add((count * self.pool.size()) as u64);
        }
        Ok(Next::Again)
    }

    fn ask(&mut self, link: &mut Link) -> Result<Next, Fail> {
        if !std::mem::replace(&mut self.asked, true) {
            let mut key = [0; 4];
            getrandom::fill(&mut key).map_err(|e| Fail::new(format!("no randomness: {e}")))?;
            let mut payload = *b"sum?";
            mask(&mut payload, key, 0);
            let (bytes, end) = Header::whole(TEXT, payload.len()).masked(key).encode();
            link.send(&[&bytes[..end], &payload].concat())?;
        }
        Ok(Next::Wait)
    }
}

impl Hear for Up {
    fn part(&mut self, part: &[u8]) -> Result<(), Fail> {
        self.answer.extend_from_slice(part);
        if self.answer.len() > SUM_BYTES_MAX {
            return Err(Fail::new("a sink sends more than its sum"));
        }
        Ok(())
    }

    fn whole(&mut self, _: bool) -> Result<(), Fail> {
        let bytes = self.next * self.pool.size() as u64;
        let (sent, arrived) =
            (format!("{bytes} {:016x}", self.sum.value()), std::mem::take(&mut self.answer));
        if sent.as_bytes() != arrived {
            let arrived = String::from_utf8_lossy(&arrived).into_owned();
            return Err(Fail::new(format!("wrong bytes: sent {sent}, arrived {arrived}")));
        }
        self.control.answered.set(self.control.answered.get() + 1);
        self.control.news.notify_one();
        Ok(())
    }
}

impl Talk for Up {
    fn turn(&mut self, link: &mut Link) -> Result<Next, Fail> {
        match self.control.phase.get() {
            Phase::Send => self.send(link),
            Phase::Ask => self.ask(link),
            Phase::Leave => Ok(Next::Leave),
        }
    }
}

struct Down {
    pool: Rc<Pool>,
    stats: Rc<Stats>,
    check: Check,
}

impl Hear for Down {
    fn part(&mut self, part: &[u8]) -> Result<(), Fail> {
        self.stats.add(part.len() as u64);
        self.check.part(&self.pool, part)
    }

    fn whole(&mut self, _: bool) -> Result<(), Fail> {
        self.check.whole(&self.pool)
    }
}

impl Talk for Down {
    fn turn(&mut self, _: &mut Link) -> Result<Next, Fail> {
        Ok(if self.stats.stopping.get() { Next::Leave } else { Next::Wait })
    }
}
