//! Echoes at a fixed rate, distributed over all tunnels.

use std::future::Future;
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
    let mut open_loop = OpenLoop::open(plan, rate).await?;
    let stats = open_loop.stats.clone();
    let measurement = open_loop.run_with(plan.measure(&stats)).await?;
    let sender = open_loop.finish().await?;
    let mut report = measurement.report("open-loop", Some(&stats));
    report.insert("rate".into(), rate.into());
    report.insert("tunnels".into(), sender.tunnels.len().into());
    sender.report(&mut report);
    Ok(report)
}

/// Open tunnels that echo at a fixed rate.
pub struct OpenLoop {
    pub stats: Rc<Stats>,
    tasks: Tasks,
    sender: Sender,
}

impl OpenLoop {
    pub async fn open(plan: &Plan, rate: f64) -> Result<Self, Error> {
        let pool = Rc::new(MessagePool::masked(plan.size_or(125))?);
        let (stats, count) = (Stats::new(), plan.tunnels_or(64));
        let connections =
            open_many(&plan.connector, plan.path_or("/echo"), count, plan.concurrency_or(64))
                .await?;
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
        let (stats_of, send_delay) = (stats.clone(), Histogram::default());
        let sender = Sender { pool, stats: stats_of, schedule, tunnels, next: 0, send_delay };
        Ok(Self { stats, tasks, sender })
    }

    /// Sends and receives until `work` is done.
    pub async fn run_with<R>(
        &mut self,
        work: impl Future<Output = Result<R, Error>>,
    ) -> Result<R, Error> {
        let sender = &mut self.sender;
        self.tasks
            .run_with(async {
                tokio::select! { done = work => done, failed = sender.run() => failed }
            })
            .await
    }

    /// Waits for the remaining echoes and closes all tunnels.
    pub async fn finish(mut self) -> Result<Sender, Error> {
        self.stats.stopping.set(true);
        let tunnels = &self.sender.tunnels;
        tunnels.iter().for_each(|tunnel| tunnel.with(|connection, _| connection.wake()));
        self.tasks.finish().await?;
        Ok(self.sender)
    }
}
