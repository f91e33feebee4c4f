//! A flood of TLS handshakes that are not completed: each sends the same ClientHello, waits for the
//! server's first flight, and resets the connection. Costs much less here than in the server.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep_until, timeout};

use super::Plan;
use super::schedule::Schedule;
use crate::buffer::WriteBuffer;
use crate::client::tasks::Tasks;
use crate::client::tls::Tls;
use crate::error::Error;
use crate::measure::measurement::{Measurement, Stats};
use crate::measure::process::Sample;

/// Largest number of concurrent attempts, and the maximum duration of each.
const ATTEMPTS_MAX: usize = 4_000;
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(100);

pub async fn run(plan: Rc<Plan>, rate: f64) -> Result<Map<String, Value>, Error> {
    let Some((config, name)) = &plan.connector.tls else {
        return Err(Error::new("half-open needs TLS"));
    };
    let mut hello = WriteBuffer::default();
    Tls::new(config, name)?.process(&mut [], &mut hello, |_| Ok(()))?;
    let flood = Rc::new(Flood {
        hello: hello.as_slice().to_vec(),
        schedule: Schedule::new(rate)?,
        end: Instant::now() + plan.time(),
        stats: Stats::new(),
        next: Cell::default(),
        answered: Cell::default(),
    });
    let from = Sample::take(&[])?;
    let mut tasks = Tasks::default();
    for _ in 0..plan.concurrency_or(ATTEMPTS_MAX) {
        let (flood, plan) = (flood.clone(), plan.clone());
        tasks.spawn(async move {
            while flood.one(&plan).await {}
            Ok(())
        });
    }
    tasks.join().await?;
    let mut measurement = Measurement::default();
    measurement.add(&from, &Sample::take(&[])?, flood.stats.units.get() as f64);
    let mut report = measurement.report("half-open", None);
    report.insert("rate".into(), rate.into());
    report.insert("answered".into(), flood.answered.get().into());
    Ok(report)
}

struct Flood {
    hello: Vec<u8>,
    schedule: Schedule,
    end: Instant,
    stats: Rc<Stats>,
    next: Cell<u64>,
    /// Number of attempts with an answer.
    answered: Cell<u64>,
}

impl Flood {
    /// Makes the next attempt at its time. Returns false if that is after the end.
    async fn one(&self, plan: &Plan) -> bool {
        let due = self.schedule.due(self.next.replace(self.next.get() + 1));
        if due >= self.end || Instant::now() >= self.end {
            return false;
        }
        sleep_until(due.into()).await;
        let attempt = async {
            let mut stream = plan.connector.connect().await?;
            stream.set_zero_linger()?;
            stream.write_all(&self.hello).await?;
            Ok::<_, Error>(stream.read(&mut [0; 1]).await? > 0)
        };
        let answered = timeout(ATTEMPT_TIMEOUT, attempt).await;
        self.answered.set(self.answered.get() + u64::from(matches!(answered, Ok(Ok(true)))));
        self.stats.add(1);
        true
    }
}
