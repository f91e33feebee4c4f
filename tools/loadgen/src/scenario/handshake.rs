//! Short connections: connect, TLS, upgrade, one echo, Close in both directions.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustls::HandshakeKind;
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::Plan;
use crate::client::connection::{Connection, MessageHandler};
use crate::client::tasks::Tasks;
use crate::client::tunnel::{Action, Tunnel, TunnelDriver};
use crate::error::Error;
use crate::measure::measurement::Stats;
use crate::message::{MessagePool, Verifier};

const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Minimum share of resumed handshakes with `--resume`.
const RESUMED_SHARE_MIN: f64 = 0.99;

pub async fn run(plan: Rc<Plan>, resume: bool) -> Result<Map<String, Value>, Error> {
    let connections = Rc::new(ShortConnections {
        pool: Rc::new(MessagePool::masked(plan.size_or(125))?),
        stats: Stats::new(),
        full: Cell::new(0),
        resumed: Cell::new(0),
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
    let mut tasks = Tasks::default();
    for _ in 0..plan.concurrency_or(8) {
        let (connections, plan) = (connections.clone(), plan.clone());
        tasks.spawn(async move {
            while !connections.stats.stopping.get() {
                connections.one(&plan).await?;
            }
            Ok(())
        });
    }
    let measurement = tasks.run_with(plan.measure(&connections.stats)).await?;
    connections.stats.stopping.set(true);
    tasks.finish().await?;
    let (full, resumed) = (connections.full.get(), connections.resumed.get());
    if resume && (resumed as f64) < measurement.units * RESUMED_SHARE_MIN {
        return Err(Error::new(format!("only {resumed} of {} sessions resumed", full + resumed)));
    }
    let mut report = measurement.report("handshake", Some(&connections.stats));
    report.insert("full".into(), full.into());
    report.insert("resumed".into(), resumed.into());
    Ok(report)
}

struct ShortConnections {
    pool: Rc<MessagePool>,
    stats: Rc<Stats>,
    full: Cell<u64>,
    resumed: Cell<u64>,
    next: Cell<u64>,
}

impl ShortConnections {
    async fn one(&self, plan: &Plan) -> Result<(), Error> {
        let start = Instant::now();
        let connection = plan.connector.open(plan.path_or("/echo")).await?;
        let kind = connection.tls().and_then(|tls| tls.kind());
        let number = self.next.replace(self.next.get() + 1);
        let (pool, verifier) = (self.pool.clone(), Verifier::from(number));
        let tunnel = Tunnel::new(
            connection,
            SingleEcho { pool, verifier, number, sent: false, back: false },
        );
        match timeout(CONNECTION_TIMEOUT, tunnel.clone().serve()).await {
            Ok(ended) => ended?,
            Err(_) => return Err(Error::new("no echo and Close frame within 10 s")),
        }
        tunnel.with(|connection, _| connection.reset_on_drop())?;
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

struct SingleEcho {
    pool: Rc<MessagePool>,
    verifier: Verifier,
    number: u64,
    sent: bool,
    back: bool,
}

impl MessageHandler for SingleEcho {
    fn on_data(&mut self, part: &[u8]) -> Result<(), Error> {
        self.verifier.verify(&self.pool, part)
    }

    fn on_message_end(&mut self, _: bool) -> Result<(), Error> {
        if std::mem::replace(&mut self.back, true) {
            return Err(Error::new("received a message that was never sent"));
        }
        self.verifier.end_message(&self.pool)
    }
}

impl TunnelDriver for SingleEcho {
    fn drive(&mut self, connection: &mut Connection) -> Result<Action, Error> {
        if !std::mem::replace(&mut self.sent, true) {
            connection.send(self.pool.frames(self.number, 1).0)?;
        }
        Ok(if self.back { Action::Close } else { Action::Wait })
    }

    fn sends_close_notify(&self) -> bool {
        false
    }
}
