//! The service manager's watchdog (`WatchdogSec=`): notified while the process is healthy.

use std::time::Duration;

use futures_util::future::join_all;
use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::support::{
    BASE, Client, MockBackend, PlainStream, Proxy, ServiceManager, close_normally, route, upgrade,
};

/// The watchdog timeout, three times the interval of the notifications.
const LIMIT: Duration = Duration::from_millis(2400);

/// Waits for a watchdog notification.
async fn notified(manager: &ServiceManager) {
    manager.message_with_line("WATCHDOG=1").await;
}

fn start(manager: &ServiceManager, rest: &str, more: &[(&str, &str)]) -> Proxy {
    let limit = LIMIT.as_micros().to_string();
    let mut environment = vec![manager.environment(), ("WATCHDOG_USEC", &*limit)];
    environment.extend(more);
    Proxy::spawn(&format!("{BASE}{rest}").replace("debug", "info"), &environment)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notified_at_rest_under_load_and_draining() {
    let manager = ServiceManager::new();
    let mock = MockBackend::new().await;
    let rest = "[drain]\nwindow = \"3s\"\ndeadline = \"30s\"\n\
                [rates]\nhandshakes_per_client = \"100000/s\"\nhandshakes_burst = 100000\n";
    let mut proxy = start(&manager, &(route(&[mock.address()], "") + rest), &[]);
    proxy.ready().await;
    notified(&manager).await;
    notified_times(&manager, 2).await;

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
    notified_times(&manager, 4).await;
    // Stops these clients first, since new connections are refused during the drain.
    clients.abort_all();
    while clients.join_next().await.is_some() {}
    // Does not answer its Close, so the process stays until the deadline.
    let unresponsive: PlainStream = upgrade(client.connect_plain().await).await;
    proxy.signal(Signal::TERM);
    manager.message_with_line("STOPPING=1").await;
    notified_times(&manager, 1).await;
    drop(unresponsive);
    assert_eq!(proxy.exit().await, Some(0));
}

/// Waits for this many notifications.
async fn notified_times(manager: &ServiceManager, count: usize) {
    for _ in 0..count {
        notified(manager).await;
    }
}

#[tokio::test]
async fn not_notified_for_another_process() {
    let cases = [("WATCHDOG_PID", "1"), ("WATCHDOG_USEC", "0"), ("WATCHDOG_USEC", "soon")];
    join_all(cases.map(async |variable| {
        let manager = ServiceManager::new();
        let rest = route(&[([127, 0, 0, 66], 1).into()], "");
        let mut proxy = start(&manager, &rest, &[variable]);
        proxy.ready().await;
        assert!(manager.next_message().await.contains("READY=1"));
        let notification = timeout(LIMIT * 2, notified(&manager)).await;
        assert!(notification.is_err(), "notified with {variable:?}");
    }))
    .await;
}

// Requirements: SR12.
#[tokio::test]
async fn notified_again_after_a_suspension() {
    let manager = ServiceManager::new();
    let mock = MockBackend::new().await;
    let mut proxy = start(&manager, &route(&[mock.address()], ""), &[]);
    proxy.ready().await;
    notified(&manager).await;
    let client = Client::new(&proxy).await;
    for _ in 0..2 {
        proxy.signal(Signal::STOP);
        sleep(LIMIT * 2).await;
        while timeout(Duration::from_millis(1), manager.next_message()).await.is_ok() {}
        proxy.signal(Signal::CONT);
        notified_times(&manager, 2).await;
    }
    close_normally(upgrade(client.connect_plain().await).await, mock.accept().await).await;
    // No task is reported as stuck because of the suspension.
    let blamed = |record: &&crate::support::Record| record["unresponsive"].is_string();
    assert_eq!(proxy.records().iter().filter(blamed).count(), 0, "{:#?}", proxy.records());
}
