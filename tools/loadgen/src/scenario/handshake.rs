//! Whole short lives: connect, TLS, upgrade, one echo, Close both ways.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustls::HandshakeKind;
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::Plan;
use crate::client::crew::Crew;
use crate::client::link::{Hear, Link};
use crate::client::tunnel::{Next, Talk, Tunnel};
use crate::fail::Fail;
use crate::measure::window::Stats;
use crate::pattern::{Check, Pool};

const LIFE_WAIT: Duration = Duration::from_secs(10);
/// Of those that should resume, so many must.
const RESUMED_SHARE_MIN: f64 = 0.99;

pub async fn run(plan: Rc<Plan>, resume: bool) -> Result<Map<String, Value>, Fail> {
    let lives = Rc::new(Lives {
        pool: Rc::new(Pool::masked(plan.size(125))?),
        stats: Stats::new(),
        full: Cell::new(0),
        resumed: Cell::new(0),
        next: Cell::new(0),
    });
    if resume {
        plan.sessions.save(true);
        for _ in 0..2 * plan.at_a_time(8) {
            lives.one(&plan).await?;
        }
        plan.sessions.save(false);
        if plan.sessions.count() == 0 {
            return Err(Fail::new("resumed none: the server gives no tickets"));
        }
    }
    let mut crew = Crew::default();
    for _ in 0..plan.at_a_time(8) {
        let (lives, plan) = (lives.clone(), plan.clone());
        crew.work(async move {
            while !lives.stats.stopping.get() {
                lives.one(&plan).await?;
            }
            Ok(())
        });
    }
    let window = crew.during(plan.window(&lives.stats)).await?;
    lives.stats.stopping.set(true);
    crew.finish().await?;
    let (full, resumed) = (lives.full.get(), lives.resumed.get());
    if resume && (resumed as f64) < window.units * RESUMED_SHARE_MIN {
        return Err(Fail::new(format!("resumed {resumed} of {}", full + resumed)));
    }
    let mut report = window.report("handshake", Some(&lives.stats));
    report.insert("full".into(), full.into());
    report.insert("resumed".into(), resumed.into());
    Ok(report)
}

struct Lives {
    pool: Rc<Pool>,
    stats: Rc<Stats>,
    full: Cell<u64>,
    resumed: Cell<u64>,
    next: Cell<u64>,
}

impl Lives {
    async fn one(&self, plan: &Plan) -> Result<(), Fail> {
        let start = Instant::now();
        let link = plan.dialer.open(plan.path("/echo")).await?;
        let kind = link.tls().and_then(|tls| tls.kind());
        let number = self.next.replace(self.next.get() + 1);
        let (pool, check) = (self.pool.clone(), Check::from(number));
        let tunnel = Tunnel::new(link, Once { pool, check, number, sent: false, back: false });
        match timeout(LIFE_WAIT, tunnel.clone().serve()).await {
            Ok(ended) => ended?,
            Err(_) => return Err(Fail::new("no echo and Close within 10 s")),
        }
        tunnel.with(|link, _| link.reset())?;
        self.stats.latency(start.elapsed());
        self.stats.add(1);
        if self.stats.measuring.get() {
            match kind {
                Some(HandshakeKind::Resumed) => self.resumed.set(self.resumed.get() + 1),
                Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest) | None => {
                    self.full.set(self.full.get() + 1);
                }
            }
        }
        Ok(())
    }
}

struct Once {
    pool: Rc<Pool>,
    check: Check,
    number: u64,
    sent: bool,
    back: bool,
}

impl Hear for Once {
    fn part(&mut self, part: &[u8]) -> Result<(), Fail> {
        self.check.part(&self.pool, part)
    }

    fn whole(&mut self, _: bool) -> Result<(), Fail> {
        if std::mem::replace(&mut self.back, true) {
            return Err(Fail::new("a message that was never sent"));
        }
        self.check.whole(&self.pool)
    }
}

impl Talk for Once {
    fn turn(&mut self, link: &mut Link) -> Result<Next, Fail> {
        if !std::mem::replace(&mut self.sent, true) {
            link.send(self.pool.frames(self.number, 1).0)?;
        }
        Ok(if self.back { Next::Leave } else { Next::Wait })
    }

    fn polite(&self) -> bool {
        false
    }
}
