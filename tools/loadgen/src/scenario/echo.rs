//! Echoes in a closed loop: so many messages of each tunnel are on their way at any time.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use serde_json::{Map, Value};

use super::Plan;
use crate::client::crew::Crew;
use crate::client::dial::open_many;
use crate::client::link::{Hear, Link};
use crate::client::tunnel::{Next, Talk, Tunnel};
use crate::fail::Fail;
use crate::measure::window::Stats;
use crate::pattern::{Check, Pool};

/// Neighbours begin with other messages, so that a mix-up of tunnels is seen.
const APART: u64 = 7;

pub async fn run(
    plan: &Plan,
    name: &str,
    active: usize,
    idle: usize,
) -> Result<Map<String, Value>, Fail> {
    let pool = Rc::new(Pool::masked(plan.size(125))?);
    let stats = Stats::new();
    let inflight = plan.common.inflight;
    let at_a_time = plan.at_a_time(64);
    let mut crew = Crew::default();
    let mut quiet = Vec::with_capacity(idle);
    for link in open_many(&plan.dialer, plan.path("/echo"), idle, at_a_time).await? {
        let tunnel = Tunnel::new(link, Quiet(stats.clone()));
        crew.add(&tunnel);
        quiet.push(tunnel);
    }
    let opened = open_many(&plan.dialer, plan.path("/echo"), active, at_a_time);
    let links = if idle > 0 { crew.during(opened).await? } else { opened.await? };
    let mut echoers = Vec::with_capacity(active);
    for link in links {
        let from = echoers.len() as u64 * APART;
        let talk = Echoer::new(pool.clone(), stats.clone(), inflight, from);
        let tunnel = Tunnel::new(link, talk);
        crew.add(&tunnel);
        echoers.push(tunnel);
    }
    let window = crew.during(plan.window(&stats)).await?;
    stats.stopping.set(true);
    quiet.iter().for_each(|tunnel| tunnel.with(|link, _| link.wake()));
    crew.finish().await?;
    let counts = || echoers.iter().map(|tunnel| tunnel.with(|_, talk| talk.count));
    let mut report = window.report(name, Some(&stats));
    report.insert("tunnels".into(), (active + idle).into());
    report.insert("fewest".into(), counts().min().into());
    report.insert("most".into(), counts().max().into());
    Ok(report)
}

struct Echoer {
    pool: Rc<Pool>,
    stats: Rc<Stats>,
    inflight: usize,
    check: Check,
    next: u64,
    /// Came since the last turn.
    came: usize,
    /// When those that are on their way were sent.
    sent: VecDeque<Instant>,
    /// Echoes in the measured time.
    count: u64,
}

impl Echoer {
    fn new(pool: Rc<Pool>, stats: Rc<Stats>, inflight: usize, from: u64) -> Self {
        let (check, sent) = (Check::from(from), VecDeque::with_capacity(inflight));
        Self { pool, stats, inflight, check, next: from, came: 0, sent, count: 0 }
    }
}

impl Hear for Echoer {
    fn part(&mut self, part: &[u8]) -> Result<(), Fail> {
        self.check.part(&self.pool, part)
    }

    fn whole(&mut self, text: bool) -> Result<(), Fail> {
        self.came += 1;
        if text || self.came > self.sent.len() {
            return Err(Fail::new("a message that was never sent"));
        }
        self.check.whole(&self.pool)
    }
}

impl Talk for Echoer {
    fn turn(&mut self, link: &mut Link) -> Result<Next, Fail> {
        let now = Instant::now();
        let came = std::mem::take(&mut self.came);
        for sent in self.sent.drain(..came) {
            self.stats.latency(now.duration_since(sent));
        }
        self.stats.add(came as u64);
        if self.stats.measuring.get() {
            self.count += came as u64;
        }
        if self.stats.stopping.get() {
            return Ok(if self.sent.is_empty() { Next::Leave } else { Next::Wait });
        }
        while self.sent.len() < self.inflight {
            let (frames, count) = self.pool.frames(self.next, self.inflight - self.sent.len());
            link.send(frames)?;
            self.next += count as u64;
            self.sent.extend(std::iter::repeat_n(now, count));
        }
        Ok(Next::Wait)
    }
}

/// Is there and says nothing.
struct Quiet(Rc<Stats>);

impl Hear for Quiet {
    fn part(&mut self, _: &[u8]) -> Result<(), Fail> {
        Err(Fail::new("an idle tunnel was sent a message"))
    }

    fn whole(&mut self, _: bool) -> Result<(), Fail> {
        Ok(())
    }
}

impl Talk for Quiet {
    fn turn(&mut self, _: &mut Link) -> Result<Next, Fail> {
        Ok(if self.0.stopping.get() { Next::Leave } else { Next::Wait })
    }
}
