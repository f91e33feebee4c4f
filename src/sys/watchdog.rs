//! The service manager's watchdog (sd_watchdog_enabled(3)). It is fed only when every accept loop
//! has answered a call of the roll and every worker has shown that it still looks at its tasks: a
//! process that merely lives is not fed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeMetrics};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, info};

use super::systemd;

/// Feeds the watchdog for as long as all is well; never ready where there is none.
pub async fn run(roll: Arc<LivenessRegistry>) {
    match systemd::watchdog() {
        Some(limit) => {
            info!(limit_ms = limit.as_millis() as u64, "watchdog: keep-alives enabled");
            let workers = WorkerThreads(Handle::current().metrics());
            feed(&roll, &workers, limit / ROUNDS, systemd::alive).await;
        }
        None => std::future::pending().await,
    }
}

/// Once a round everybody shows up, and the dog is fed. Who does not is told of by name, and the
/// dog waits.
async fn feed(
    roll: &LivenessRegistry,
    workers: &WorkerThreads,
    round: Duration,
    mut fed: impl FnMut(),
) {
    let pause = round / LOOKS;
    loop {
        let began = Instant::now();
        let before = workers.look();
        roll.call();
        // Looks are counted, not time: a process that was stopped for a while has not looked.
        let mut looks = 0;
        loop {
            sleep(pause).await;
            let mut missing = workers.missing(&before);
            missing.extend(roll.missing());
            if missing.is_empty() {
                break;
            }
            looks += 1;
            if looks == LOOKS {
                let tasks = missing.join(", ");
                let round_ms = round.as_millis() as u64;
                error!(tasks, round_ms, "watchdog: tasks unresponsive, keep-alive withheld");
            }
        }
        if looks >= LOOKS {
            info!("watchdog: all tasks respond again, keep-alive resumed");
        }
        fed();
        sleep_until(began + round).await;
    }
}

/// Those that must answer when they are called.
#[derive(Debug, Default)]
pub struct LivenessRegistry {
    round: watch::Sender<u64>,
    members: Mutex<Vec<Weak<LivenessEntry>>>,
}

#[derive(Debug)]
struct LivenessEntry {
    name: String,
    /// The last round that it answered.
    answered: AtomicU64,
}

/// A place on the roll; left when dropped.
#[derive(Debug)]
pub struct LivenessProbe {
    member: Arc<LivenessEntry>,
    round: watch::Receiver<u64>,
}

impl LivenessRegistry {
    /// Enters the roll; whoever does must poll [`LivenessProbe::answer`] beside its work, in one task.
    pub fn join(&self, name: String) -> LivenessProbe {
        let member = Arc::new(LivenessEntry { name, answered: AtomicU64::new(0) });
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|member| member.strong_count() > 0);
        members.push(Arc::downgrade(&member));
        LivenessProbe { member, round: self.round.subscribe() }
    }

    fn call(&self) {
        self.round.send_modify(|round| *round += 1);
    }

    /// Who has not answered the last call.
    fn missing(&self) -> Vec<String> {
        let round = *self.round.borrow();
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let late = |member: &Arc<LivenessEntry>| member.answered.load(Ordering::Relaxed) < round;
        let late = members.iter().filter_map(Weak::upgrade).filter(late);
        late.map(|member| member.name.clone()).collect()
    }
}

impl LivenessProbe {
    /// Answers every call; never ready.
    pub async fn answer(mut self) {
        loop {
            let round = *self.round.borrow_and_update();
            self.member.answered.store(round, Ordering::Relaxed);
            if self.round.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// The threads that poll tasks.
struct WorkerThreads(RuntimeMetrics);

/// What a worker had done at some moment.
#[derive(PartialEq, Eq)]
struct WorkerProgress {
    /// How often it lay down and got up: odd while it sleeps.
    parks: u64,
    /// How long it was busy; reckoned up every few polls and before it sleeps.
    busy: Duration,
}

impl WorkerThreads {
    fn look(&self) -> Vec<WorkerProgress> {
        let done = |worker| WorkerProgress {
            parks: self.0.worker_park_unpark_count(worker),
            busy: self.0.worker_total_busy_duration(worker),
        };
        (0..self.0.num_workers()).map(done).collect()
    }

    /// Workers that have neither slept nor come back from a task since.
    fn missing(&self, before: &[WorkerProgress]) -> Vec<String> {
        let stuck = |(before, now): (&WorkerProgress, &WorkerProgress)| {
            now.parks.is_multiple_of(2) && before == now
        };
        let now = self.look();
        let pairs = before.iter().zip(&now).enumerate().filter(|(_, pair)| stuck(*pair));
        pairs.map(|(worker, _)| format!("worker {worker}")).collect()
    }
}

/// The dog is fed so often within its patience, so that one bad round is not the end.
const ROUNDS: u32 = 3;
/// Looks in a round before something is said to hang.
const LOOKS: u32 = 16;

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use tokio::runtime::{Builder, Runtime};

    use super::*;

    const ROUND: Duration = Duration::from_millis(160);
    /// Five rounds: who hangs is noticed within two.
    const A_WHILE: Duration = Duration::from_millis(800);
    const PATIENCE: Duration = Duration::from_secs(20);

    fn two_workers() -> Runtime {
        Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
    }

    /// Begins to feed; what is received is a meal.
    fn fed(runtime: &Runtime, roll: &Arc<LivenessRegistry>) -> Receiver<()> {
        let (meal, meals) = sync_channel(1000);
        let (roll, workers) = (roll.clone(), WorkerThreads(runtime.metrics()));
        runtime.spawn(async move { feed(&roll, &workers, ROUND, || meal.send(()).unwrap()).await });
        meals.recv_timeout(PATIENCE).unwrap();
        meals
    }

    /// No meal comes any more, apart from what was on its way.
    fn assert_starves(meals: &Receiver<()>) {
        std::thread::sleep(ROUND * 2);
        while meals.try_recv().is_ok() {}
        assert!(
            meals.recv_timeout(A_WHILE).is_err(),
            "keep-alive sent although a task is unresponsive"
        );
    }

    /// Hangs until something is sent.
    fn hang(runtime: &Runtime) -> SyncSender<()> {
        let (release, released) = sync_channel::<()>(1);
        let (begun, begins) = sync_channel(1);
        runtime.spawn(async move {
            begun.send(()).unwrap();
            let _ = released.recv();
        });
        begins.recv_timeout(PATIENCE).unwrap();
        release
    }

    // Requirements: SR16.
    #[test]
    fn one_blocked_worker_withholds_the_keepalive() {
        let runtime = two_workers();
        let meals = fed(&runtime, &Arc::default());
        let release = hang(&runtime);
        assert_starves(&meals);
        // Who comes back is forgiven.
        release.send(()).unwrap();
        for _ in 0..3 {
            meals.recv_timeout(PATIENCE).unwrap();
        }
    }

    // Requirements: SR16.
    #[test]
    fn deadlock_of_all_workers_withholds_the_keepalive() {
        let runtime = two_workers();
        let meals = fed(&runtime, &Arc::default());
        let releases = [hang(&runtime), hang(&runtime)];
        assert_starves(&meals);
        drop(releases);
    }

    // Requirements: SR16.
    #[test]
    fn stuck_accept_loop_withholds_the_keepalive() {
        let runtime = two_workers();
        let roll = Arc::new(LivenessRegistry::default());
        let meals = fed(&runtime, &roll);
        let answering = runtime.spawn(roll.join("one that answers".into()).answer());
        meals.recv_timeout(PATIENCE).unwrap();
        let silent = roll.join("one that hangs".into());
        assert_starves(&meals);
        assert_eq!(roll.missing(), ["one that hangs"]);
        // A loop that was ended is not waited for.
        answering.abort();
        drop(silent);
        meals.recv_timeout(PATIENCE).unwrap();
    }

    #[test]
    fn workers_that_are_busy_all_the_time_are_no_fault() {
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
        let meals = fed(&runtime, &Arc::default());
        for _ in 0..5 {
            meals.recv_timeout(PATIENCE).unwrap();
        }
        runtime.shutdown_background();
    }
}
