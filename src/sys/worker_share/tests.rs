use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::*;
use crate::sys::worker_step::defer;

/// A step of a task that always has more to do.
const STEP: Duration = Duration::from_micros(100);

/// Steps of one share: the last begins when it is not quite spent.
const STEPS_MAX: usize = 10;

/// A worker like those of the proxy.
fn worker() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .event_interval(16)
        .on_thread_park(rest)
        .build()
        .unwrap()
}

fn spin(time: Duration) {
    let started = Instant::now();
    while started.elapsed() < time {}
}

/// A task of this owner that always has more to do, and counts its steps.
async fn work(kind: WorkKind, owner: u64, time: Duration, steps: Arc<AtomicUsize>) {
    let mut turn = ShareTurn::of(owner);
    poll_fn(|cx| {
        let _work = ready!(turn.poll(kind, cx));
        spin(time);
        steps.fetch_add(1, Ordering::Relaxed);
        defer(cx);
        Poll::<()>::Pending
    })
    .await;
}

/// Spawns as many tasks. Returns their steps.
fn spawn(
    tasks: &mut JoinSet<()>,
    count: usize,
    kind: WorkKind,
    time: Duration,
) -> Vec<Arc<AtomicUsize>> {
    let steps: Vec<Arc<AtomicUsize>> = (0..count).map(|_| Arc::default()).collect();
    for steps in &steps {
        tasks.spawn(work(kind, 0, time, Arc::clone(steps)));
    }
    steps
}

fn counts(steps: &[Arc<AtomicUsize>]) -> Vec<usize> {
    steps.iter().map(|steps| steps.load(Ordering::Relaxed)).collect()
}

/// Runs all other tasks of the worker until they have done `total` steps. Returns the most steps between two times
/// that this task runs.
async fn run(steps: &[Arc<AtomicUsize>], total: usize) -> usize {
    let done = || counts(steps).iter().sum::<usize>();
    let start = done();
    let (mut most, mut before) = (0, start);
    poll_fn(|cx| {
        let now = done();
        (most, before) = (most.max(now - before), now);
        if now >= start + total {
            return Poll::Ready(());
        }
        // To the end of the queue.
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
    most
}

/// Runs a test as a task of a worker.
fn on_worker(test: impl Future<Output = ()> + Send + 'static) {
    let worker = worker();
    worker.block_on(async { worker.spawn(test).await.unwrap() });
}

#[test]
fn other_tasks_wait_for_one_share() {
    on_worker(async {
        for count in [1, 2, 50, 200] {
            let mut tasks = JoinSet::new();
            let steps = spawn(&mut tasks, count, WorkKind::Tunnel, STEP);
            let most = run(&steps, 300).await;
            assert!((1..=STEPS_MAX).contains(&most), "{count} tasks: {most} steps");
            tasks.shutdown().await;
        }
    });
}

#[test]
fn one_long_step_spends_a_share() {
    on_worker(async {
        let mut tasks = JoinSet::new();
        let steps = spawn(&mut tasks, 20, WorkKind::Opening, SHARE_MAX);
        assert_eq!(run(&steps, 50).await, 1);
    });
}

#[test]
fn all_have_about_as_many_turns() {
    on_worker(async {
        let mut tasks = JoinSet::new();
        let steps = spawn(&mut tasks, 50, WorkKind::Tunnel, STEP);
        run(&steps, 500).await;
        let counts = counts(&steps);
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(*least >= 8 && most - least <= 3, "{counts:?}");
    });
}

#[test]
fn kinds_take_turns() {
    on_worker(async {
        let mut tasks = JoinSet::new();
        let many = spawn(&mut tasks, 50, WorkKind::Tunnel, STEP);
        let one = spawn(&mut tasks, 1, WorkKind::Opening, STEP);
        run(&many, 300).await;
        let (many, one): (usize, usize) = (counts(&many).iter().sum(), counts(&one).iter().sum());
        assert!(one > many / 20, "{one} of one, {many} of 50");
    });
}

#[test]
fn tasks_that_end_while_they_wait_delay_no_others() {
    on_worker(async {
        let mut ended = JoinSet::new();
        spawn(&mut ended, 50, WorkKind::Http, STEP);
        let mut tasks = JoinSet::new();
        let steps = spawn(&mut tasks, 5, WorkKind::Http, STEP);
        run(&steps, 20).await;
        ended.shutdown().await;
        let before = counts(&steps);
        run(&steps, 100).await;
        let now = counts(&steps);
        assert!(before.iter().zip(&now).all(|(before, now)| now - before > 10), "{now:?}");
    });
}

#[test]
fn owners_take_turns_whatever_their_number_of_tasks() {
    on_worker(async {
        let mut tasks = JoinSet::new();
        let mut steps = spawn(&mut tasks, 40, WorkKind::Http, STEP);
        let one = Arc::<AtomicUsize>::default();
        tasks.spawn(work(WorkKind::Http, 1, STEP, one.clone()));
        steps.push(one.clone());
        run(&steps, 400).await;
        let own = one.load(Ordering::Relaxed);
        assert!(own > 20, "{own} of 400");
    });
}

#[test]
fn worker_that_had_nothing_to_do_begins_a_new_share() {
    for rests in [true, false] {
        let (is_spent, (parked, parks)) = (Arc::<AtomicBool>::default(), mpsc::sync_channel(1));
        let spent = is_spent.clone();
        let park = move || {
            if rests {
                rest();
            }
            if spent.load(Ordering::Relaxed) {
                // Nothing waits for the later ones.
                let _ = parked.try_send(());
            }
        };
        let worker = Builder::new_multi_thread().worker_threads(1).on_thread_park(park).build();
        let (worker, (go_on, waiting)) = (worker.unwrap(), oneshot::channel());
        let task = worker.spawn(async move {
            charge(SHARE_MAX);
            is_spent.store(true, Ordering::Relaxed);
            waiting.await.unwrap();
            poll_fn(|cx| Poll::Ready(ShareTurn::default().poll(WorkKind::Http, cx).is_ready()))
                .await
        });
        parks.recv().unwrap();
        go_on.send(()).unwrap();
        assert_eq!(worker.block_on(task).unwrap(), rests);
    }
}

#[test]
fn charged_time_counts() {
    on_worker(async {
        charge(SHARE_MAX);
        let mut tasks = JoinSet::new();
        let steps = spawn(&mut tasks, 1, WorkKind::Http, STEP);
        tokio::task::yield_now().await;
        assert!(counts(&steps)[0] <= STEPS_MAX);
        let mut turn = ShareTurn::default();
        charge(SHARE_MAX);
        poll_fn(|cx| {
            assert!(turn.poll(WorkKind::Http, cx).is_pending());
            Poll::Ready(())
        })
        .await;
    });
}
