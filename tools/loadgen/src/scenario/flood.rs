//! Complete connections during a flood of incomplete handshakes: the share that succeeds in time, first
//! without the flood and then with it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tokio::time::{sleep, sleep_until, timeout};

use super::schedule::Schedule;
use super::single_echo::{self, AfterEcho};
use super::{Plan, child};
use crate::client::tasks::Tasks;
use crate::error::Error;
use crate::measure::measurement::{Measurement, Stats, rounded};
use crate::measure::process::{Sample, peak_rss, reset_peak_rss};
use crate::message::MessagePool;

/// A connection counts if it is opened, has its echo and is closed within this time.
const DEADLINE: Duration = Duration::from_secs(5);
/// Time for the flood to reach its rate.
const HEAD_START: Duration = Duration::from_millis(500);

pub async fn run(plan: Rc<Plan>, rate: f64, flood: f64) -> Result<Map<String, Value>, Error> {
    let pids = &plan.common.pids;
    let alone = Arrivals::measure(&plan, rate).await?;
    reset_peak_rss(pids)?;
    let from = Sample::take(pids)?;
    let seconds = (HEAD_START + plan.time() + DEADLINE).as_secs_f64();
    let options = ["--rate", &flood.to_string(), "--seconds", &seconds.to_string()];
    let options = options.map(str::to_owned);
    let during = async {
        sleep(HEAD_START).await;
        let during = Arrivals::measure(&plan, rate).await?;
        let mut measurement = Measurement::default();
        measurement.add(&from, &Sample::take(pids)?, during.stats.units.get() as f64);
        Ok((during, measurement))
    };
    let flooding = child::run("half-open", &plan.common, &options);
    let (flooding, (during, measurement)) = tokio::try_join!(flooding, during)?;

    let mut report = measurement.report("flood", Some(&during.stats));
    report.insert("rate".into(), rate.into());
    report.insert("alone_goodput".into(), alone.goodput().into());
    report.insert("goodput".into(), during.goodput().into());
    let p99 = alone.stats.quantile(0.99).map(|us| rounded(us, 2));
    report.insert("alone_p99_us".into(), p99.into());
    report.insert("first_failure".into(), during.first_failure.borrow().clone().into());
    report.insert("peak_rss_b".into(), peak_rss(pids)?.into());
    report.insert("flood".into(), flooding);
    Ok(report)
}

/// Connections at a fixed rate.
struct Arrivals {
    pool: Rc<MessagePool>,
    /// The units are connections that were complete in time.
    stats: Rc<Stats>,
    offered: Cell<u64>,
    first_failure: RefCell<Option<String>>,
}

impl Arrivals {
    /// Opens connections for the measurement time and waits for the end of the last one.
    async fn measure(plan: &Rc<Plan>, rate: f64) -> Result<Rc<Self>, Error> {
        let arrivals = Rc::new(Self {
            pool: Rc::new(MessagePool::masked(plan.size_or(125))?),
            stats: Stats::new(),
            offered: Cell::default(),
            first_failure: RefCell::default(),
        });
        arrivals.stats.measuring.set(true);
        let (schedule, end) = (Schedule::new(rate)?, Instant::now() + plan.time());
        let mut tasks = Tasks::default();
        for number in 0.. {
            let due = schedule.due(number);
            if due >= end {
                break;
            }
            sleep_until(due.into()).await;
            let (arrivals, plan) = (arrivals.clone(), plan.clone());
            arrivals.offered.set(number + 1);
            tasks.spawn(async move {
                arrivals.one(&plan, number, due).await;
                Ok(())
            });
        }
        tasks.finish().await?;
        Ok(arrivals)
    }

    async fn one(&self, plan: &Plan, number: u64, due: Instant) {
        let connection = single_echo::open(plan, &self.pool, number, AfterEcho::Close);
        let why = match timeout(DEADLINE, connection).await {
            Ok(Ok(_)) => {
                self.stats.latency(due.elapsed());
                self.stats.add(1);
                return;
            }
            Ok(Err(error)) => error.0,
            Err(_) => format!("not complete after {} s", DEADLINE.as_secs()),
        };
        self.first_failure.borrow_mut().get_or_insert(why);
    }

    /// Share of the connections that were complete in time.
    fn goodput(&self) -> f64 {
        rounded(self.stats.units.get() as f64 / self.offered.get().max(1) as f64, 4)
    }
}
