//! Many tunnels that echo on demand, for the memory scenarios.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;

use super::Plan;
use crate::client::connect::open_many;
use crate::client::connection::{Connection, MessageHandler};
use crate::client::tasks::Tasks;
use crate::client::tunnel::{Action, Tunnel, TunnelDriver};
use crate::error::Error;
use crate::measure::measurement::Stats;
use crate::message::{MessagePool, Verifier};

const ECHO_TIMEOUT: Duration = Duration::from_secs(10);

pub struct TunnelSet {
    pub stats: Rc<Stats>,
    pub tasks: Tasks,
    tunnels: Vec<Rc<Tunnel<OnDemandEcho>>>,
    notify: Rc<Notify>,
    concurrency: usize,
}

impl TunnelSet {
    pub async fn open(plan: &Plan, count: usize) -> Result<Self, Error> {
        let concurrency = plan.concurrency_or(64);
        let (stats, notify) = (Stats::new(), Rc::new(Notify::new()));
        let mut tasks = Tasks::default();
        let mut tunnels = Vec::with_capacity(count);
        // In batches, so that open tunnels answer pings while others are opened.
        while tunnels.len() < count {
            let portion = concurrency.max(256).min(count - tunnels.len());
            let opening = open_many(&plan.connector, plan.path_or("/echo"), portion, concurrency);
            let connections =
                if tunnels.is_empty() { opening.await } else { tasks.run_with(opening).await };
            for connection in
                connections.map_err(|error| error.context(format!("after {}", tunnels.len())))?
            {
                let driver = OnDemandEcho::new(stats.clone(), notify.clone());
                let tunnel = Tunnel::new(connection, driver);
                tasks.add(&tunnel);
                tunnels.push(tunnel);
            }
        }
        Ok(Self { stats, tasks, tunnels, notify, concurrency })
    }

    /// Echoes one message on each tunnel, `concurrency` at a time.
    pub async fn exchange(&mut self, size: usize) -> Result<(), Error> {
        let pool = Rc::new(MessagePool::masked(size)?);
        let (stats, notify, tunnels) = (&self.stats, &self.notify, &self.tunnels);
        let before = stats.units.get();
        let exchange = async {
            for (sent, tunnel) in tunnels.iter().enumerate() {
                wait_for_echoes(stats, notify, before, (sent + 1).saturating_sub(self.concurrency))
                    .await?;
                tunnel.with(|connection, driver| {
                    driver.send(connection, pool.clone(), sent as u64)
                })?;
            }
            wait_for_echoes(stats, notify, before, tunnels.len()).await
        };
        self.tasks.run_with(exchange).await
    }

    /// Closes all tunnels and waits until they are closed.
    pub async fn close(mut self) -> Result<(), Error> {
        self.stats.stopping.set(true);
        self.tunnels.iter().for_each(|tunnel| tunnel.with(|connection, _| connection.wake()));
        self.tasks.finish().await
    }

    /// Resets all connections without a Close.
    pub async fn reset(mut self) -> Result<(), Error> {
        for tunnel in &self.tunnels {
            tunnel.with(|connection, _| connection.reset_on_drop())?;
        }
        self.tasks.abort_all().await;
        Ok(())
    }
}

/// Waits until `count` echoes have arrived.
async fn wait_for_echoes(
    stats: &Stats,
    notify: &Notify,
    before: u64,
    count: usize,
) -> Result<(), Error> {
    let all = async {
        while stats.units.get() - before < count as u64 {
            notify.notified().await;
        }
    };
    let late = |_| Error::new(format!("no echo within {} s", ECHO_TIMEOUT.as_secs()));
    timeout(ECHO_TIMEOUT, all).await.map_err(late)
}

struct OnDemandEcho {
    stats: Rc<Stats>,
    notify: Rc<Notify>,
    /// The pending echo and when its message was sent.
    pending: Option<(Rc<MessagePool>, Verifier, Instant)>,
}

impl OnDemandEcho {
    fn new(stats: Rc<Stats>, notify: Rc<Notify>) -> Self {
        Self { stats, notify, pending: None }
    }

    fn send(
        &mut self,
        connection: &mut Connection,
        pool: Rc<MessagePool>,
        number: u64,
    ) -> Result<(), Error> {
        connection.send(pool.frames(number, 1).0)?;
        self.pending = Some((pool, Verifier::from(number), Instant::now()));
        Ok(())
    }
}

impl MessageHandler for OnDemandEcho {
    fn on_data(&mut self, part: &[u8]) -> Result<(), Error> {
        match &mut self.pending {
            Some((pool, verifier, _)) => verifier.verify(pool, part),
            None => Err(Error::new("received a message that was never sent")),
        }
    }

    fn on_message_end(&mut self, _: bool) -> Result<(), Error> {
        let Some((pool, mut verifier, since)) = self.pending.take() else {
            return Err(Error::new("received a message that was never sent"));
        };
        verifier.end_message(&pool)?;
        self.stats.latency(since.elapsed());
        self.stats.add(1);
        self.notify.notify_one();
        Ok(())
    }
}

impl TunnelDriver for OnDemandEcho {
    fn drive(&mut self, _: &mut Connection) -> Result<Action, Error> {
        Ok(if self.stats.stopping.get() { Action::Close } else { Action::Wait })
    }
}
