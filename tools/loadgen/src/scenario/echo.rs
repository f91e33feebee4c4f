//! Echoes in a closed loop: every tunnel keeps a fixed number of messages in flight.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use serde_json::{Map, Value};

use super::Plan;
use crate::client::connect::open_many;
use crate::client::connection::{Connection, MessageHandler};
use crate::client::tasks::Tasks;
use crate::client::tunnel::{Action, Tunnel, TunnelDriver};
use crate::error::Error;
use crate::measure::measurement::Stats;
use crate::message::{MessagePool, Verifier};

/// Adjacent tunnels start with different messages, so that swapped data is detected.
const APART: u64 = 7;

pub async fn run(
    plan: &Plan,
    name: &str,
    active: usize,
    idle: usize,
) -> Result<Map<String, Value>, Error> {
    let pool = Rc::new(MessagePool::masked(plan.size_or(125))?);
    let stats = Stats::new();
    let inflight = plan.common.inflight;
    let concurrency = plan.concurrency_or(64);
    let mut tasks = Tasks::default();
    let mut idle_tunnels = Vec::with_capacity(idle);
    for connection in open_many(&plan.connector, plan.path_or("/echo"), idle, concurrency).await? {
        let tunnel = Tunnel::new(connection, IdleTunnel(stats.clone()));
        tasks.add(&tunnel);
        idle_tunnels.push(tunnel);
    }
    let opened = open_many(&plan.connector, plan.path_or("/echo"), active, concurrency);
    let connections = if idle > 0 { tasks.run_with(opened).await? } else { opened.await? };
    let mut echo_tunnels = Vec::with_capacity(active);
    for connection in connections {
        let from = echo_tunnels.len() as u64 * APART;
        let driver = EchoTunnel::new(pool.clone(), stats.clone(), inflight, from);
        let tunnel = Tunnel::new(connection, driver);
        tasks.add(&tunnel);
        echo_tunnels.push(tunnel);
    }
    let measurement = tasks.run_with(plan.measure(&stats)).await?;
    stats.stopping.set(true);
    idle_tunnels.iter().for_each(|tunnel| tunnel.with(|connection, _| connection.wake()));
    tasks.finish().await?;
    let counts = || echo_tunnels.iter().map(|tunnel| tunnel.with(|_, driver| driver.count));
    let mut report = measurement.report(name, Some(&stats));
    report.insert("tunnels".into(), (active + idle).into());
    report.insert("fewest".into(), counts().min().into());
    report.insert("most".into(), counts().max().into());
    Ok(report)
}

struct EchoTunnel {
    pool: Rc<MessagePool>,
    stats: Rc<Stats>,
    inflight: usize,
    verifier: Verifier,
    next: u64,
    /// Echoes received since the last call of `drive`.
    received: usize,
    /// Send times of the messages in flight.
    sent: VecDeque<Instant>,
    /// Echoes during the measurement.
    count: u64,
}

impl EchoTunnel {
    fn new(pool: Rc<MessagePool>, stats: Rc<Stats>, inflight: usize, from: u64) -> Self {
        let (verifier, sent) = (Verifier::from(from), VecDeque::with_capacity(inflight));
        Self { pool, stats, inflight, verifier, next: from, received: 0, sent, count: 0 }
    }
}

impl MessageHandler for EchoTunnel {
    fn on_data(&mut self, part: &[u8]) -> Result<(), Error> {
        self.verifier.verify(&self.pool, part)
    }

    fn on_message_end(&mut self, text: bool) -> Result<(), Error> {
        self.received += 1;
        if text || self.received > self.sent.len() {
            return Err(Error::new("received a message that was never sent"));
        }
        self.verifier.end_message(&self.pool)
    }
}

impl TunnelDriver for EchoTunnel {
    fn drive(&mut self, connection: &mut Connection) -> Result<Action, Error> {
        let now = Instant::now();
        let received = std::mem::take(&mut self.received);
        for sent in self.sent.drain(..received) {
            self.stats.latency(now.duration_since(sent));
        }
        self.stats.add(received as u64);
        if self.stats.measuring.get() {
            self.count += received as u64;
        }
        if self.stats.stopping.get() {
            return Ok(if self.sent.is_empty() { Action::Close } else { Action::Wait });
        }
        while self.sent.len() < self.inflight {
            let (frames, count) = self.pool.frames(self.next, self.inflight - self.sent.len());
            connection.send(frames)?;
            self.next += count as u64;
            self.sent.extend(std::iter::repeat_n(now, count));
        }
        Ok(Action::Wait)
    }
}

/// A tunnel that sends nothing and expects nothing.
struct IdleTunnel(Rc<Stats>);

impl MessageHandler for IdleTunnel {
    fn on_data(&mut self, _: &[u8]) -> Result<(), Error> {
        Err(Error::new("an idle tunnel received a message"))
    }

    fn on_message_end(&mut self, _: bool) -> Result<(), Error> {
        Ok(())
    }
}

impl TunnelDriver for IdleTunnel {
    fn drive(&mut self, _: &mut Connection) -> Result<Action, Error> {
        Ok(if self.0.stopping.get() { Action::Close } else { Action::Wait })
    }
}
