//! Short connections: connect, TLS, upgrade, one echo, and Close in both directions or a reset.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use rustls::{HandshakeKind, NamedGroup};
use serde_json::{Map, Value};

use super::Plan;
use super::single_echo::{self, AfterEcho};
use crate::client::connection::Connection;
use crate::client::tasks::Tasks;
use crate::error::Error;
use crate::measure::measurement::{Measurement, Stats};
use crate::measure::process::Sample;
use crate::message::MessagePool;

/// Minimum share of resumed handshakes with `--resume`.
const RESUMED_SHARE_MIN: f64 = 0.99;

pub async fn run(
    plan: Rc<Plan>,
    resume: bool,
    reset: bool,
    count: Option<usize>,
) -> Result<Map<String, Value>, Error> {
    let connections = Rc::new(ShortConnections {
        pool: Rc::new(MessagePool::masked(plan.size_or(125))?),
        after: if reset { AfterEcho::Finish } else { AfterEcho::Close },
        stats: Stats::new(),
        full: Cell::new(0),
        resumed: Cell::new(0),
        group: Cell::new(None),
        next: Cell::new(0),
    });
    if resume {
        plan.tickets.save(true);
        for _ in 0..2 * plan.concurrency_or(8) {
            connections.one(&plan).await?;
        }
        plan.tickets.save(false);
        if plan.tickets.count() == 0 {
            return Err(Error::new("no session resumed: the server sends no tickets"));
        }
    }
    let measurement = match count {
        Some(count) => connections.counted(&plan, count as u64).await?,
        None => connections.timed(&plan).await?,
    };
    let (full, resumed) = (connections.full.get(), connections.resumed.get());
    if resume && (resumed as f64) < measurement.units * RESUMED_SHARE_MIN {
        return Err(Error::new(format!("only {resumed} of {} sessions resumed", full + resumed)));
    }
    let mut report = measurement.report("handshake", Some(&connections.stats));
    report.insert("full".into(), full.into());
    report.insert("resumed".into(), resumed.into());
    let group = connections.group.get().map(|group| format!("{group:?}"));
    report.insert("group".into(), group.into());
    Ok(report)
}

struct ShortConnections {
    pool: Rc<MessagePool>,
    after: AfterEcho,
    stats: Rc<Stats>,
    full: Cell<u64>,
    resumed: Cell<u64>,
    /// The key exchange group of the last connection.
    group: Cell<Option<NamedGroup>>,
    next: Cell<u64>,
}

impl ShortConnections {
    async fn timed(self: &Rc<Self>, plan: &Rc<Plan>) -> Result<Measurement, Error> {
        let mut tasks = self.start(plan, |connections| !connections.stats.stopping.get());
        let measurement = tasks.run_with(plan.measure(&self.stats)).await?;
        self.stats.stopping.set(true);
        tasks.finish().await?;
        Ok(measurement)
    }

    async fn counted(self: &Rc<Self>, plan: &Rc<Plan>, count: u64) -> Result<Measurement, Error> {
        let from = Sample::take(&plan.common.pids)?;
        let end = self.next.get() + count;
        self.stats.measuring.set(true);
        self.start(plan, move |connections| connections.next.get() < end).join().await?;
        let mut measurement = Measurement::default();
        measurement.add(&from, &Sample::take(&plan.common.pids)?, count as f64);
        Ok(measurement)
    }

    /// Starts tasks that open connections one after the other while `more` is true.
    fn start(
        self: &Rc<Self>,
        plan: &Rc<Plan>,
        more: impl Fn(&Self) -> bool + Copy + 'static,
    ) -> Tasks {
        let mut tasks = Tasks::default();
        for _ in 0..plan.concurrency_or(8) {
            let (connections, plan) = (self.clone(), plan.clone());
            tasks.spawn(async move {
                while more(&connections) {
                    connections.one(&plan).await?;
                }
                Ok(())
            });
        }
        tasks
    }

    async fn one(&self, plan: &Plan) -> Result<(), Error> {
        let start = Instant::now();
        let number = self.next.replace(self.next.get() + 1);
        let tunnel = single_echo::open(plan, &self.pool, number, self.after).await?;
        self.stats.latency(start.elapsed());
        self.stats.add(1);
        if self.stats.measuring.get() {
            let tls =
                |connection: &Connection| connection.tls().map(|tls| (tls.kind(), tls.group()));
            let (kind, group) = tunnel.with(|connection, _| tls(connection)).unwrap_or_default();
            match kind {
                Some(HandshakeKind::Resumed) => self.resumed.set(self.resumed.get() + 1),
                Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest) | None => {
                    self.full.set(self.full.get() + 1);
                }
            }
            self.group.set(group);
        }
        Ok(())
    }
}
