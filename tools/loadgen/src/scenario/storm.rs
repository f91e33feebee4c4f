//! Many clients that connect at once, as after the restart of a server or a network failure.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tokio::sync::Notify;

use super::Plan;
use super::single_echo::{self, AfterEcho};
use crate::client::tasks::Tasks;
use crate::error::Error;
use crate::measure::measurement::{Measurement, Stats, rounded};
use crate::measure::process::{Sample, peak_rss, reset_peak_rss};
use crate::message::MessagePool;

/// Deadline of each step of a connection: far longer than a storm takes, so that a slow machine
/// causes no failures.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

pub async fn run(plan: Rc<Plan>, hold: bool) -> Result<Map<String, Value>, Error> {
    let (pids, count) = (&plan.common.pids, plan.tunnels_or(2_000));
    plan.connector.step_timeout.set(STEP_TIMEOUT);
    let storm = Rc::new(Storm {
        pool: Rc::new(MessagePool::masked(plan.size_or(125))?),
        hold,
        stats: Stats::new(),
        start: Instant::now(),
        last: Cell::default(),
        done: Cell::default(),
        notify: Notify::new(),
        failures: RefCell::default(),
    });
    reset_peak_rss(pids)?;
    let before = peak_rss(pids)?;
    let from = Sample::take(pids)?;
    storm.stats.measuring.set(true);
    let mut tasks = Tasks::default();
    for number in 0..count as u64 {
        let (storm, plan) = (storm.clone(), plan.clone());
        tasks.spawn(async move {
            storm.one(&plan, number).await;
            Ok(())
        });
    }
    // Every connection has deadlines.
    while storm.done.get() < count {
        storm.notify.notified().await;
    }
    let mut measurement = Measurement::default();
    measurement.add(&from, &Sample::take(pids)?, storm.stats.units.get() as f64);
    let peak = peak_rss(pids)?;
    if hold {
        // They close with the process, after its report: `living` measures the storm without its end.
        std::mem::forget(tasks);
    } else {
        tasks.abort_all().await;
    }

    let failures = storm.failures.borrow();
    if measurement.units == 0.0 {
        let why = failures.first().map_or("", |why| why);
        return Err(Error::new(format!("no tunnel was opened: {why}")));
    }
    let mut report = measurement.report("storm", Some(&storm.stats));
    let fields: [(&str, Value); 7] = [
        ("tunnels", count.into()),
        ("hold", hold.into()),
        ("last_us", rounded(storm.last.get().as_secs_f64() * 1e6, 2).into()),
        ("before_rss_b", before.into()),
        ("peak_rss_b", peak.into()),
        ("failures", failures.len().into()),
        ("first_failure", failures.first().cloned().into()),
    ];
    report.extend(fields.map(|(name, value)| (name.to_owned(), value)));
    Ok(report)
}

struct Storm {
    pool: Rc<MessagePool>,
    hold: bool,
    stats: Rc<Stats>,
    /// All latencies count from here.
    start: Instant,
    /// The longest latency.
    last: Cell<Duration>,
    /// Number of connections that succeeded or failed.
    done: Cell<usize>,
    notify: Notify,
    failures: RefCell<Vec<String>>,
}

impl Storm {
    async fn one(&self, plan: &Plan, number: u64) {
        let after = if self.hold { AfterEcho::Finish } else { AfterEcho::Close };
        let opened = single_echo::open(plan, &self.pool, number, after).await;
        let since = self.start.elapsed();
        self.done.set(self.done.get() + 1);
        self.notify.notify_one();
        let tunnel = match opened {
            Ok(tunnel) => tunnel,
            Err(error) => return self.failures.borrow_mut().push(error.0),
        };
        self.stats.latency(since);
        self.stats.add(1);
        self.last.set(self.last.get().max(since));
        if self.hold {
            tunnel.with(|_, driver| driver.after = AfterEcho::Stay);
            let ended = tunnel.serve().await;
            let why = ended.err().map_or_else(String::new, |error| format!(": {}", error.0));
            self.failures.borrow_mut().push(format!("a tunnel ended while it was held{why}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;
    use tokio::io::copy_bidirectional;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::spawn_local;

    use super::*;
    use crate::backend;
    use crate::cli::{Cli, Role};

    async fn report(address: String, hold: bool) -> Map<String, Value> {
        let command = ["loadgen", "storm", "--plain", "--tunnels", "20", "--connect", &address];
        let cli = Cli::try_parse_from(command.into_iter().chain(hold.then_some("--hold"))).unwrap();
        let Role::Storm { common, hold } = cli.role else { panic!("not storm: {cli:?}") };
        run(Rc::new(Plan::new(common, false).unwrap()), hold).await.unwrap()
    }

    #[test]
    fn counts_opened_and_rejected_tunnels() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build_local(Default::default()).unwrap();
        runtime.block_on(async {
            let listener = backend::listen("127.0.0.1:0".parse().unwrap()).unwrap();
            let backend = listener.local_addr().unwrap();
            spawn_local(async move { backend::accept(&listener).await });
            let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = front.local_addr().unwrap().to_string();
            spawn_local(async move {
                for number in 0.. {
                    let (mut client, _) = front.accept().await.unwrap();
                    if number % 4 > 0 {
                        spawn_local(async move {
                            let mut server = TcpStream::connect(backend).await?;
                            copy_bidirectional(&mut client, &mut server).await
                        });
                    }
                }
            });
            for hold in [true, false] {
                let report = report(address.clone(), hold).await;
                assert_eq!((&report["units"], &report["failures"]), (&json!(15.0), &json!(5)));
                // The histogram has an error of 1/64.
                let last = report["last_us"].as_f64().map(|last| last * 65.0 / 64.0);
                assert!(last >= report["p50_us"].as_f64(), "{report:?}");
            }
        });
    }
}
