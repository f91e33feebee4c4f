//! Echoes at a fixed rate, distributed over all tunnels.

use std::rc::Rc;

use serde_json::{Map, Value};

use super::Plan;
use super::schedule::{Schedule, ScheduledReceiver, Sender, Share};
use crate::client::connect::open_many;
use crate::client::tasks::Tasks;
use crate::client::tunnel::Tunnel;
use crate::error::Error;
use crate::measure::histogram::Histogram;
use crate::measure::measurement::Stats;
use crate::message::MessagePool;

pub async fn run(plan: &Plan, rate: f64) -> Result<Map<String, Value>, Error> {
    let pool = Rc::new(MessagePool::masked(plan.size_or(125))?);
    let (stats, count) = (Stats::new(), plan.tunnels_or(64));
    let connections =
        open_many(&plan.connector, plan.path_or("/echo"), count, plan.concurrency_or(64)).await?;
    let (mut tasks, schedule) = (Tasks::default(), Schedule::new(rate)?);
    let mut tunnels = Vec::with_capacity(count);
    for connection in connections {
        let share = Share { first: tunnels.len() as u64, step: count as u64 };
        let tunnel = Tunnel::new(
            connection,
            ScheduledReceiver::new(pool.clone(), stats.clone(), schedule, share),
        );
        tasks.add(&tunnel);
        tunnels.push(tunnel);
    }
    let send_delay = Histogram::default();
    let mut sender = Sender { pool, stats: stats.clone(), schedule, tunnels, next: 0, send_delay };
    let measurement = tasks
        .run_with(async {
            tokio::select! { done = plan.measure(&stats) => done, failed = sender.run() => failed }
        })
        .await?;
    stats.stopping.set(true);
    sender.tunnels.iter().for_each(|tunnel| tunnel.with(|connection, _| connection.wake()));
    tasks.finish().await?;
    let mut report = measurement.report("open-loop", Some(&stats));
    report.insert("rate".into(), rate.into());
    report.insert("tunnels".into(), count.into());
    sender.report(&mut report);
    Ok(report)
}
