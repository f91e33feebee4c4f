//! Echoes at a fixed rate over all tunnels.

use std::rc::Rc;

use serde_json::{Map, Value};

use super::Plan;
use super::pace::{Beat, Paced, Sender, Share};
use crate::client::crew::Crew;
use crate::client::dial::open_many;
use crate::client::tunnel::Tunnel;
use crate::fail::Fail;
use crate::measure::histogram::Histogram;
use crate::measure::window::Stats;
use crate::pattern::Pool;

pub async fn run(plan: &Plan, rate: f64) -> Result<Map<String, Value>, Fail> {
    let pool = Rc::new(Pool::masked(plan.size(125))?);
    let (stats, count) = (Stats::new(), plan.tunnels(64));
    let links = open_many(&plan.dialer, plan.path("/echo"), count, plan.at_a_time(64)).await?;
    let (mut crew, beat) = (Crew::default(), Beat::new(rate)?);
    let mut tunnels = Vec::with_capacity(count);
    for link in links {
        let share = Share { first: tunnels.len() as u64, step: count as u64 };
        let tunnel = Tunnel::new(link, Paced::new(pool.clone(), stats.clone(), beat, share));
        crew.add(&tunnel);
        tunnels.push(tunnel);
    }
    let late = Histogram::default();
    let mut sender = Sender { pool, stats: stats.clone(), beat, tunnels, next: 0, late };
    let window = crew
        .during(async {
            tokio::select! { done = plan.window(&stats) => done, failed = sender.run() => failed }
        })
        .await?;
    stats.stopping.set(true);
    sender.tunnels.iter().for_each(|tunnel| tunnel.with(|link, _| link.wake()));
    crew.finish().await?;
    let mut report = window.report("open-loop", Some(&stats));
    report.insert("rate".into(), rate.into());
    report.insert("tunnels".into(), count.into());
    sender.report(&mut report);
    Ok(report)
}
