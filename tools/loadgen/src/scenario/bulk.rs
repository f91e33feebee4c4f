//! Bulk data in one direction at maximum speed.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::Plan;
use crate::cli::Direction;
use crate::client::connect::open_many;
use crate::client::connection::{Connection, MessageHandler};
use crate::client::tasks::Tasks;
use crate::client::tunnel::{Action, Tunnel, TunnelDriver};
use crate::error::Error;
use crate::frame::{Header, TEXT, mask};
use crate::measure::measurement::{Measurement, Stats};
use crate::measure::process::Sample;
use crate::message::{Checksum, MessagePool, Verifier};

const MIB: f64 = 1_048_576.0;
/// More than any run receives; the source stops when the client closes.
const SOURCE_BYTES: u64 = 1 << 50;
const BATCH_BYTES: usize = 256 << 10;
/// Batches of one tunnel before it yields to other tasks.
const BATCHES: usize = 4;
/// Allows for data that is still in buffers.
const CHECKSUM_TIMEOUT: Duration = Duration::from_secs(20);
const CHECKSUM_BYTES_MAX: usize = 64;

pub async fn run(plan: &Plan, direction: Direction) -> Result<Map<String, Value>, Error> {
    let size = plan.size_or(64 << 10);
    let measurement = match direction {
        Direction::Up => up(plan, Rc::new(MessagePool::masked(size)?)).await?,
        Direction::Down => down(plan, Rc::new(MessagePool::unmasked(size)?)).await?,
    };
    let mut report = measurement.report("bulk", None);
    let word = match direction {
        Direction::Up => "up",
        Direction::Down => "down",
    };
    report.insert("direction".into(), word.into());
    report.insert("tunnels".into(), plan.tunnels_or(4).into());
    Ok(report)
}

/// Measures between two moments when no data is in flight, as confirmed by the sinks' checksums.
async fn up(plan: &Plan, pool: Rc<MessagePool>) -> Result<Measurement, Error> {
    let count = plan.tunnels_or(4);
    let control = Rc::new(UploadControl::default());
    let sums: Rc<[Checksum]> =
        (0..pool.count() as u64).map(|index| sum(pool.payload(index))).collect();
    let mut tasks = Tasks::default();
    let mut tunnels = Vec::with_capacity(count);
    for connection in
        open_many(&plan.connector, plan.path_or("/sink"), count, plan.concurrency_or(64)).await?
    {
        let driver = Upload::new(pool.clone(), sums.clone(), control.clone());
        let tunnel = Tunnel::new(connection, driver);
        tasks.add(&tunnel);
        tunnels.push(tunnel);
    }
    let set_phase = |phase| {
        control.phase.set(phase);
        control.answered.set(0);
        tunnels.iter().for_each(|tunnel| tunnel.with(|connection, _| connection.wake()));
    };
    let run_phase = async |time| {
        set_phase(Phase::Send);
        control.stats.wait(time).await?;
        set_phase(Phase::Check);
        let all = async {
            while control.answered.get() < count {
                control.notify.notified().await;
            }
        };
        let late = |_| {
            Error::new(format!("no checksum from a sink within {} s", CHECKSUM_TIMEOUT.as_secs()))
        };
        timeout(CHECKSUM_TIMEOUT, all).await.map_err(late)
    };
    let measurement = tasks
        .run_with(async {
            run_phase(plan.warmup()).await?;
            let (before, from) = (control.stats.units.get(), Sample::take(&plan.common.pids)?);
            run_phase(plan.time()).await?;
            let bytes = control.stats.units.get() - before;
            let mut measurement = Measurement::default();
            measurement.add(&from, &Sample::take(&plan.common.pids)?, bytes as f64 / MIB);
            Ok(measurement)
        })
        .await?;
    set_phase(Phase::Close);
    tasks.finish().await?;
    Ok(measurement)
}

async fn down(plan: &Plan, pool: Rc<MessagePool>) -> Result<Measurement, Error> {
    let count = plan.tunnels_or(4);
    let path = format!("/source?bytes={SOURCE_BYTES}&size={}", pool.size());
    let (mut tasks, stats) = (Tasks::default(), Stats::new());
    for connection in
        open_many(&plan.connector, plan.path_or(&path), count, plan.concurrency_or(64)).await?
    {
        let (pool, stats) = (pool.clone(), stats.clone());
        tasks.add(&Tunnel::new(connection, Download { pool, stats, verifier: Verifier::from(0) }));
    }
    let mut measurement = tasks.run_with(plan.measure(&stats)).await?;
    measurement.units /= MIB;
    stats.stopping.set(true);
    tasks.finish().await?;
    Ok(measurement)
}

fn sum(payload: &[u8]) -> Checksum {
    let mut sum = Checksum::default();
    sum.update(payload);
    sum.end_message();
    sum
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Send,
    Check,
    Close,
}

#[derive(Default)]
struct UploadControl {
    phase: Cell<Phase>,
    answered: Cell<usize>,
    notify: Notify,
    stats: Stats,
}

struct Upload {
    pool: Rc<MessagePool>,
    sums: Rc<[Checksum]>,
    control: Rc<UploadControl>,
    next: u64,
    sum: Checksum,
    requested: bool,
    answer: Vec<u8>,
}

impl Upload {
    fn new(pool: Rc<MessagePool>, sums: Rc<[Checksum]>, control: Rc<UploadControl>) -> Self {
        let (sum, answer) = (Checksum::default(), Vec::new());
        Self { pool, sums, control, next: 0, sum, requested: false, answer }
    }

    fn send(&mut self, connection: &mut Connection) -> Result<Action, Error> {
        self.requested = false;
        let most = (BATCH_BYTES / self.pool.frame_bytes()).max(1);
        for _ in 0..BATCHES {
            if !connection.is_flushed() {
                return Ok(Action::Wait);
            }
            let (frames, count) = self.pool.frames(self.next, most);
            connection.send(frames)?;
            for index in self.next..self.next + count as u64 {
                self.sum.append(&self.sums[(index % self.sums.len() as u64) as usize]);
            }
            self.next += count as u64;
            self.control.stats.add((count * self.pool.size()) as u64);
        }
        Ok(Action::Yield)
    }

    fn request_checksum(&mut self, connection: &mut Connection) -> Result<Action, Error> {
        if !std::mem::replace(&mut self.requested, true) {
            let mut key = [0; 4];
            getrandom::fill(&mut key)
                .map_err(|e| Error::new(format!("cannot get random bytes: {e}")))?;
            let mut payload = *b"sum?";
            mask(&mut payload, key, 0);
            let (bytes, end) = Header::whole(TEXT, payload.len()).masked(key).encode();
            connection.send(&[&bytes[..end], &payload].concat())?;
        }
        Ok(Action::Wait)
    }
}

impl MessageHandler for Upload {
    fn on_data(&mut self, part: &[u8]) -> Result<(), Error> {
        self.answer.extend_from_slice(part);
        if self.answer.len() > CHECKSUM_BYTES_MAX {
            return Err(Error::new("a sink sent more than its checksum"));
        }
        Ok(())
    }

    fn on_message_end(&mut self, _: bool) -> Result<(), Error> {
        let bytes = self.next * self.pool.size() as u64;
        let (sent, arrived) =
            (format!("{bytes} {:016x}", self.sum.value()), std::mem::take(&mut self.answer));
        if sent.as_bytes() != arrived {
            let arrived = String::from_utf8_lossy(&arrived).into_owned();
            return Err(Error::new(format!("wrong bytes: sent {sent}, received {arrived}")));
        }
        self.control.answered.set(self.control.answered.get() + 1);
        self.control.notify.notify_one();
        Ok(())
    }
}

impl TunnelDriver for Upload {
    fn drive(&mut self, connection: &mut Connection) -> Result<Action, Error> {
        match self.control.phase.get() {
            Phase::Send => self.send(connection),
            Phase::Check => self.request_checksum(connection),
            Phase::Close => Ok(Action::Close),
        }
    }
}

struct Download {
    pool: Rc<MessagePool>,
    stats: Rc<Stats>,
    verifier: Verifier,
}

impl MessageHandler for Download {
    fn on_data(&mut self, part: &[u8]) -> Result<(), Error> {
        self.stats.add(part.len() as u64);
        self.verifier.verify(&self.pool, part)
    }

    fn on_message_end(&mut self, _: bool) -> Result<(), Error> {
        self.verifier.end_message(&self.pool)
    }
}

impl TunnelDriver for Download {
    fn drive(&mut self, _: &mut Connection) -> Result<Action, Error> {
        Ok(if self.stats.stopping.get() { Action::Close } else { Action::Wait })
    }
}
