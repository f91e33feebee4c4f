//! The service manager's watchdog (`WatchdogSec=`): fed while all is well.

use std::time::Duration;

use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{
    BASE, Client, MockBackend, PlainStream, Proxy, ServiceManager, close_normally, route, upgrade,
};

/// Three meals; a machine that stalls for longer would starve any dog.
const LIMIT: Duration = Duration::from_millis(2400);

/// Waits until the dog is fed.
async fn fed(manager: &ServiceManager) {
    manager.message_with_line("WATCHDOG=1").await;
}

fn start(manager: &ServiceManager, rest: &str, more: &[(&str, &str)]) -> Proxy {
    let limit = LIMIT.as_micros().to_string();
    let mut environment = vec![manager.environment(), ("WATCHDOG_USEC", &*limit)];
    environment.extend(more);
    Proxy::spawn(&format!("{BASE}{rest}").replace("debug", "info"), &environment)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_fed_at_rest_under_load_and_while_draining() {
    let manager = ServiceManager::new();
    let mock = MockBackend::new().await;
    let rest = "[drain]\nwindow = \"3s\"\ndeadline = \"30s\"\n\
                [caps]\nhandshakes_per_client = \"100000/s\"\nhandshakes_burst = 100000\n";
    let mut proxy = start(&manager, &(route(&[mock.address()], "") + rest), &[]);
    proxy.ready().await;
    fed(&manager).await;
    in_time(&manager, 2).await;

    let client = Client::new(&proxy).await;
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        let client = client.clone();
        clients.spawn(async move {
            loop {
                drop(upgrade(client.connect_tls().await).await);
                sleep(Duration::from_millis(2)).await;
            }
        });
    }
    let mut backends = JoinSet::new();
    backends.spawn(async move {
        loop {
            drop(mock.accept().await);
        }
    });
    in_time(&manager, 4).await;
    // Nobody but these is refused when the doors close.
    clients.abort_all();
    while clients.join_next().await.is_some() {}
    // Does not answer its Close, so that the process stays for as long as it is given.
    let stubborn: PlainStream = upgrade(client.connect_plain().await).await;
    proxy.signal(Signal::TERM);
    manager.message_with_line("STOPPING=1").await;
    in_time(&manager, 1).await;
    drop(stubborn);
    assert_eq!(proxy.exit().await, Some(0));
}

/// So many meals, none of them later than the manager has patience.
async fn in_time(manager: &ServiceManager, meals: usize) {
    for _ in 0..meals {
        let begun = Instant::now();
        fed(manager).await;
        assert!(begun.elapsed() < LIMIT, "after {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn another_process_is_not_fed_for() {
    for more in [[("WATCHDOG_PID", "1")], [("WATCHDOG_USEC", "0")], [("WATCHDOG_USEC", "soon")]] {
        let manager = ServiceManager::new();
        let mut proxy = start(&manager, &route(&[([127, 0, 0, 66], 1).into()], ""), &more);
        proxy.ready().await;
        assert!(manager.next_message().await.contains("READY=1"));
        let fed = timeout(LIMIT * 2, fed(&manager)).await;
        assert!(fed.is_err(), "fed with {more:?}");
    }
}

#[tokio::test]
async fn sr12_it_is_fed_again_after_a_stop() {
    let manager = ServiceManager::new();
    let mock = MockBackend::new().await;
    let mut proxy = start(&manager, &route(&[mock.address()], ""), &[]);
    proxy.ready().await;
    fed(&manager).await;
    let client = Client::new(&proxy).await;
    for _ in 0..2 {
        proxy.signal(Signal::STOP);
        sleep(LIMIT * 2).await;
        while timeout(Duration::from_millis(1), manager.next_message()).await.is_ok() {}
        proxy.signal(Signal::CONT);
        in_time(&manager, 2).await;
    }
    close_normally(upgrade(client.connect_plain().await).await, mock.accept().await).await;
    // The pause was nobody's fault.
    let blamed = |record: &&crate::support::Record| record["stuck"].is_string();
    assert_eq!(proxy.records().iter().filter(blamed).count(), 0, "{:#?}", proxy.records());
}
