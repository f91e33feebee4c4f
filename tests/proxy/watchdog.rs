//! The service manager's watchdog (`WatchdogSec=`): fed while all is well.

use std::time::Duration;

use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{BASE, Client, Door, Manager, Plain, Proxy, farewell, route, upgrade};

/// Three meals; a machine that stalls for longer would starve any dog.
const LIMIT: Duration = Duration::from_millis(2400);

/// Waits until the dog is fed.
async fn fed(manager: &Manager) {
    manager.told_of("WATCHDOG=1").await;
}

fn start(manager: &Manager, rest: &str, more: &[(&str, &str)]) -> Proxy {
    let limit = LIMIT.as_micros().to_string();
    let mut environment = vec![manager.environment(), ("WATCHDOG_USEC", &*limit)];
    environment.extend(more);
    Proxy::spawn(&format!("{BASE}{rest}").replace("debug", "info"), &environment)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_fed_at_rest_under_load_and_while_draining() {
    let manager = Manager::new();
    let door = Door::new().await;
    let rest = "[drain]\nwindow = \"3s\"\ndeadline = \"30s\"\n\
                [caps]\nhandshakes_per_client = \"100000/s\"\nhandshakes_burst = 100000\n";
    let mut proxy = start(&manager, &(route(&[door.address()], "") + rest), &[]);
    proxy.ready().await;
    fed(&manager).await;
    in_time(&manager, 2).await;

    let client = Client::of(&proxy).await;
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        let client = client.clone();
        clients.spawn(async move {
            loop {
                drop(upgrade(client.secure().await).await);
                sleep(Duration::from_millis(2)).await;
            }
        });
    }
    let mut backends = JoinSet::new();
    backends.spawn(async move {
        loop {
            drop(door.next().await);
        }
    });
    in_time(&manager, 4).await;
    // Nobody but these is refused when the doors close.
    clients.abort_all();
    while clients.join_next().await.is_some() {}
    // Does not answer its Close, so that the process stays for as long as it is given.
    let stubborn: Plain = upgrade(client.bare().await).await;
    proxy.signal(Signal::TERM);
    manager.told_of("STOPPING=1").await;
    in_time(&manager, 1).await;
    drop(stubborn);
    assert_eq!(proxy.exit().await, Some(0));
}

/// So many meals, none of them later than the manager has patience.
async fn in_time(manager: &Manager, meals: usize) {
    for _ in 0..meals {
        let begun = Instant::now();
        fed(manager).await;
        assert!(begun.elapsed() < LIMIT, "after {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn another_process_is_not_fed_for() {
    for more in [[("WATCHDOG_PID", "1")], [("WATCHDOG_USEC", "0")], [("WATCHDOG_USEC", "soon")]] {
        let manager = Manager::new();
        let mut proxy = start(&manager, &route(&[([127, 0, 0, 66], 1).into()], ""), &more);
        proxy.ready().await;
        assert!(manager.told().await.contains("READY=1"));
        let fed = timeout(LIMIT * 2, fed(&manager)).await;
        assert!(fed.is_err(), "fed with {more:?}");
    }
}

#[tokio::test]
async fn sr12_it_is_fed_again_after_a_stop() {
    let manager = Manager::new();
    let door = Door::new().await;
    let mut proxy = start(&manager, &route(&[door.address()], ""), &[]);
    proxy.ready().await;
    fed(&manager).await;
    let client = Client::of(&proxy).await;
    for _ in 0..2 {
        proxy.signal(Signal::STOP);
        sleep(LIMIT * 2).await;
        while timeout(Duration::from_millis(1), manager.told()).await.is_ok() {}
        proxy.signal(Signal::CONT);
        in_time(&manager, 2).await;
    }
    farewell(upgrade(client.bare().await).await, door.next().await).await;
    // The pause was nobody's fault.
    let blamed = |record: &&crate::support::Record| record["stuck"].is_string();
    assert_eq!(proxy.records().iter().filter(blamed).count(), 0, "{:#?}", proxy.records());
}
