//! Many tunnels that speak when they are told to; for scenarios about memory.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;

use super::Plan;
use crate::client::crew::Crew;
use crate::client::dial::open_many;
use crate::client::link::{Hear, Link};
use crate::client::tunnel::{Next, Talk, Tunnel};
use crate::fail::Fail;
use crate::measure::window::Stats;
use crate::pattern::{Check, Pool};

const ECHO_WAIT: Duration = Duration::from_secs(10);

pub struct Herd {
    pub stats: Rc<Stats>,
    pub crew: Crew,
    tunnels: Vec<Rc<Tunnel<Asked>>>,
    news: Rc<Notify>,
    at_a_time: usize,
}

impl Herd {
    pub async fn open(plan: &Plan, count: usize) -> Result<Self, Fail> {
        let at_a_time = plan.at_a_time(64);
        let (stats, news) = (Stats::new(), Rc::new(Notify::new()));
        let mut crew = Crew::default();
        let mut tunnels = Vec::with_capacity(count);
        // In portions, so that the first ones answer pings while the last ones are opened.
        while tunnels.len() < count {
            let portion = at_a_time.max(256).min(count - tunnels.len());
            let opening = open_many(&plan.dialer, plan.path("/echo"), portion, at_a_time);
            let links = if tunnels.is_empty() { opening.await } else { crew.during(opening).await };
            for link in links.map_err(|fail| fail.at(format!("after {}", tunnels.len())))? {
                let talk = Asked::new(stats.clone(), news.clone());
                let tunnel = Tunnel::new(link, talk);
                crew.add(&tunnel);
                tunnels.push(tunnel);
            }
        }
        Ok(Self { stats, crew, tunnels, news, at_a_time })
    }

    /// One message of each tunnel there and back, some at a time.
    pub async fn exchange(&mut self, size: usize) -> Result<(), Fail> {
        let pool = Rc::new(Pool::masked(size)?);
        let (stats, news, tunnels) = (&self.stats, &self.news, &self.tunnels);
        let before = stats.units.get();
        let talk = async {
            for (sent, tunnel) in tunnels.iter().enumerate() {
                back(stats, news, before, (sent + 1).saturating_sub(self.at_a_time)).await?;
                tunnel.with(|link, talk| talk.ask(link, pool.clone(), sent as u64))?;
            }
            back(stats, news, before, tunnels.len()).await
        };
        self.crew.during(talk).await
    }

    /// Closes, and waits until all have.
    pub async fn leave(mut self) -> Result<(), Fail> {
        self.stats.stopping.set(true);
        self.tunnels.iter().for_each(|tunnel| tunnel.with(|link, _| link.wake()));
        self.crew.finish().await
    }

    /// Is gone without a word.
    pub async fn reset(mut self) -> Result<(), Fail> {
        for tunnel in &self.tunnels {
            tunnel.with(|link, _| link.reset())?;
        }
        self.crew.drop_all().await;
        Ok(())
    }
}

/// Until so many are back.
async fn back(stats: &Stats, news: &Notify, before: u64, count: usize) -> Result<(), Fail> {
    let all = async {
        while stats.units.get() - before < count as u64 {
            news.notified().await;
        }
    };
    let late = |_| Fail::new(format!("no echo in {} s", ECHO_WAIT.as_secs()));
    timeout(ECHO_WAIT, all).await.map_err(late)
}

struct Asked {
    stats: Rc<Stats>,
    news: Rc<Notify>,
    /// What is on its way, and since when.
    asked: Option<(Rc<Pool>, Check, Instant)>,
}

impl Asked {
    fn new(stats: Rc<Stats>, news: Rc<Notify>) -> Self {
        Self { stats, news, asked: None }
    }

    fn ask(&mut self, link: &mut Link, pool: Rc<Pool>, number: u64) -> Result<(), Fail> {
        link.send(pool.frames(number, 1).0)?;
        self.asked = Some((pool, Check::from(number), Instant::now()));
        Ok(())
    }
}

impl Hear for Asked {
    fn part(&mut self, part: &[u8]) -> Result<(), Fail> {
        match &mut self.asked {
            Some((pool, check, _)) => check.part(pool, part),
            None => Err(Fail::new("a message that was never sent")),
        }
    }

    fn whole(&mut self, _: bool) -> Result<(), Fail> {
        let Some((pool, mut check, since)) = self.asked.take() else {
            return Err(Fail::new("a message that was never sent"));
        };
        check.whole(&pool)?;
        self.stats.latency(since.elapsed());
        self.stats.add(1);
        self.news.notify_one();
        Ok(())
    }
}

impl Talk for Asked {
    fn turn(&mut self, _: &mut Link) -> Result<Next, Fail> {
        Ok(if self.stats.stopping.get() { Next::Leave } else { Next::Wait })
    }
}
