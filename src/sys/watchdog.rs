//! Keep-alives for the service manager's watchdog (sd_watchdog_enabled(3)). One is sent only after
//! every accept loop has answered a liveness check and every worker thread has made progress.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeMetrics};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, info};

use super::systemd;

/// Sends keep-alives while all tasks respond. Never returns; does nothing if the service manager has
/// no watchdog.
pub async fn run(registry: Arc<LivenessRegistry>) {
    match systemd::watchdog_timeout() {
        Some(timeout) => {
            info!(timeout_ms = timeout.as_millis() as u64, "watchdog: keep-alives enabled");
            let workers = WorkerThreads(Handle::current().metrics());
            keep_alive(&registry, &workers, timeout / KEEP_ALIVES_PER_TIMEOUT, systemd::keep_alive)
                .await;
        }
        None => std::future::pending().await,
    }
}

/// Calls `notify` once per `interval` if every registered task and every worker responds; otherwise
/// logs the ones that do not, and waits for them.
async fn keep_alive(
    registry: &LivenessRegistry,
    workers: &WorkerThreads,
    interval: Duration,
    mut notify: impl FnMut(),
) {
    let pause = interval / POLLS_PER_INTERVAL;
    loop {
        let started = Instant::now();
        let before = workers.progress();
        registry.start_check();
        // Counts polls, not elapsed time, so that time during which the process was suspended is not
        // held against the tasks.
        let mut polls = 0;
        loop {
            sleep(pause).await;
            let mut missing = workers.unresponsive(&before);
            missing.extend(registry.unresponsive());
            if missing.is_empty() {
                break;
            }
            polls += 1;
            if polls == POLLS_PER_INTERVAL {
                let unresponsive = missing.join(", ");
                let waited_ms = interval.as_millis() as u64;
                error!(
                    unresponsive,
                    waited_ms,
                    "watchdog: no response from tasks or worker threads; keep-alive withheld"
                );
            }
        }
        if polls >= POLLS_PER_INTERVAL {
            info!("watchdog: all tasks and worker threads respond again; keep-alive resumed");
        }
        notify();
        sleep_until(started + interval).await;
    }
}

/// The tasks that must answer each liveness check.
#[derive(Debug, Default)]
pub struct LivenessRegistry {
    /// Number of the latest check.
    check: watch::Sender<u64>,
    entries: Mutex<Vec<Weak<LivenessEntry>>>,
}

#[derive(Debug)]
struct LivenessEntry {
    name: String,
    /// Number of the last check that the task answered.
    answered: AtomicU64,
}

/// Answers the liveness checks for one task. Keeps the task registered; dropping it ends the
/// registration.
#[derive(Debug)]
pub struct LivenessResponder {
    entry: Arc<LivenessEntry>,
    check: watch::Receiver<u64>,
}

impl LivenessRegistry {
    /// Registers a task under `name`. The task must poll [`LivenessResponder::answer`] together with
    /// its other work.
    pub fn register(&self, name: String) -> LivenessResponder {
        let entry = Arc::new(LivenessEntry { name, answered: AtomicU64::new(0) });
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|entry| entry.strong_count() > 0);
        entries.push(Arc::downgrade(&entry));
        LivenessResponder { entry, check: self.check.subscribe() }
    }

    fn start_check(&self) {
        self.check.send_modify(|check| *check += 1);
    }

    /// Names of the tasks that have not answered the latest check.
    fn unresponsive(&self) -> Vec<String> {
        let check = *self.check.borrow();
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let is_late = |entry: &Arc<LivenessEntry>| entry.answered.load(Ordering::Relaxed) < check;
        let late = entries.iter().filter_map(Weak::upgrade).filter(is_late);
        late.map(|entry| entry.name.clone()).collect()
    }
}

impl LivenessResponder {
    /// Answers every liveness check; never completes.
    pub async fn answer(mut self) {
        loop {
            let check = *self.check.borrow_and_update();
            self.entry.answered.store(check, Ordering::Relaxed);
            if self.check.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// The worker threads of the runtime.
struct WorkerThreads(RuntimeMetrics);

/// What a worker thread had done at one point in time.
#[derive(PartialEq, Eq)]
struct WorkerProgress {
    /// Number of parks and unparks: odd while the worker sleeps.
    parks: u64,
    /// Total busy time; tokio updates it every few polls and before the worker sleeps.
    busy: Duration,
}

impl WorkerThreads {
    fn progress(&self) -> Vec<WorkerProgress> {
        let progress = |worker| WorkerProgress {
            parks: self.0.worker_park_unpark_count(worker),
            busy: self.0.worker_total_busy_duration(worker),
        };
        (0..self.0.num_workers()).map(progress).collect()
    }

    /// Names of the workers that have neither slept nor finished polling a task since `before`.
    fn unresponsive(&self, before: &[WorkerProgress]) -> Vec<String> {
        let stuck = |(before, now): (&WorkerProgress, &WorkerProgress)| {
            now.parks.is_multiple_of(2) && before == now
        };
        let now = self.progress();
        let pairs = before.iter().zip(&now).enumerate().filter(|(_, pair)| stuck(*pair));
        pairs.map(|(worker, _)| format!("worker {worker}")).collect()
    }
}

/// Keep-alives per watchdog timeout, so that one late keep-alive does not restart the process.
const KEEP_ALIVES_PER_TIMEOUT: u32 = 3;
/// Polls for the answers to one check; a task that has not answered by then counts as unresponsive.
const POLLS_PER_INTERVAL: u32 = 16;

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use tokio::runtime::{Builder, Runtime};

    use super::*;

    const INTERVAL: Duration = Duration::from_millis(160);
    /// An unresponsive task is detected within two intervals.
    const FIVE_INTERVALS: Duration = Duration::from_millis(800);
    const TIMEOUT: Duration = Duration::from_secs(20);

    fn two_workers() -> Runtime {
        Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
    }

    /// Starts the keep-alives; the receiver gets one value per keep-alive.
    fn start(runtime: &Runtime, registry: &Arc<LivenessRegistry>) -> Receiver<()> {
        let (sender, keep_alives) = sync_channel(1000);
        let (registry, workers) = (registry.clone(), WorkerThreads(runtime.metrics()));
        runtime.spawn(async move {
            keep_alive(&registry, &workers, INTERVAL, || sender.send(()).unwrap()).await;
        });
        keep_alives.recv_timeout(TIMEOUT).unwrap();
        keep_alives
    }

    /// No further keep-alive is sent, except those that are on their way.
    fn assert_withheld(keep_alives: &Receiver<()>) {
        std::thread::sleep(INTERVAL * 2);
        while keep_alives.try_recv().is_ok() {}
        assert!(
            keep_alives.recv_timeout(FIVE_INTERVALS).is_err(),
            "keep-alive sent although a task is unresponsive"
        );
    }

    /// Blocks a worker until a value is sent.
    fn block_worker(runtime: &Runtime) -> SyncSender<()> {
        let (release, released) = sync_channel::<()>(1);
        let (blocked, wait) = sync_channel(1);
        runtime.spawn(async move {
            blocked.send(()).unwrap();
            let _ = released.recv();
        });
        wait.recv_timeout(TIMEOUT).unwrap();
        release
    }

    // Requirements: SR16.
    #[test]
    fn one_blocked_worker_withholds_the_keepalive() {
        let runtime = two_workers();
        let keep_alives = start(&runtime, &Arc::default());
        let release = block_worker(&runtime);
        assert_withheld(&keep_alives);
        // Keep-alives resume once the worker continues.
        release.send(()).unwrap();
        for _ in 0..3 {
            keep_alives.recv_timeout(TIMEOUT).unwrap();
        }
    }

    // Requirements: SR16.
    #[test]
    fn deadlock_of_all_workers_withholds_the_keepalive() {
        let runtime = two_workers();
        let keep_alives = start(&runtime, &Arc::default());
        let releases = [block_worker(&runtime), block_worker(&runtime)];
        assert_withheld(&keep_alives);
        drop(releases);
    }

    // Requirements: SR16.
    #[test]
    fn stuck_accept_loop_withholds_the_keepalive() {
        let runtime = two_workers();
        let registry = Arc::new(LivenessRegistry::default());
        let keep_alives = start(&runtime, &registry);
        let answering = runtime.spawn(registry.register("responsive".into()).answer());
        keep_alives.recv_timeout(TIMEOUT).unwrap();
        let silent = registry.register("stuck".into());
        assert_withheld(&keep_alives);
        assert_eq!(registry.unresponsive(), ["stuck"]);
        // Tasks that ended are not waited for.
        answering.abort();
        drop(silent);
        keep_alives.recv_timeout(TIMEOUT).unwrap();
    }

    #[test]
    fn busy_workers_count_as_responsive() {
        let runtime = two_workers();
        for _ in 0..8 {
            runtime.spawn(async {
                loop {
                    let until = std::time::Duration::from_micros(200);
                    std::thread::sleep(until);
                    tokio::task::yield_now().await;
                }
            });
        }
        let keep_alives = start(&runtime, &Arc::default());
        for _ in 0..5 {
            keep_alives.recv_timeout(TIMEOUT).unwrap();
        }
        runtime.shutdown_background();
    }
}
