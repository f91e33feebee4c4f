//! SIGUSR2: a new process takes the sockets over, and the old one drains.

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;

use crate::socket_activation::{Crowd, HURRIED, patient};
use crate::support::{
    BASE, Client, MockBackend, PlainStream, Proxy, Record, ServiceManager, assert_relays,
    close_normally, get, route, upgrade, wire,
};

/// A process that the proxy started; it does not outlive the test.
struct Successor(Pid);

impl Successor {
    /// Of the n-th hand-over.
    async fn nth(proxy: &Proxy, n: usize) -> Self {
        let handed = |r: &Record| r["message"] == "handed over; this process leaves";
        let record = proxy.nth_record("a hand-over", n, handed).await;
        Self(Pid::from_raw(record["successor"].as_i64().unwrap() as i32).unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.0, signal).unwrap();
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}

fn config(rest: &str) -> String {
    format!("{BASE}{rest}").replace("debug", "info")
}

fn is(message: &'static str) -> impl Fn(&Record) -> bool {
    move |record| record["message"] == message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_nobody_is_refused_and_tunnels_are_told_to_come_again() {
    let backend = patient().await;
    let config = config(&(route(&[backend.address], "") + HURRIED));
    let mut proxy = Proxy::start_bare(&config).await;
    let client = Client::new(&proxy).await;
    let admin = proxy.admin().await;
    let crowd = Crowd::of(&client, 8);
    let mut open: PlainStream = upgrade(client.connect_plain().await).await;
    crowd.grows(40).await;
    proxy.signal(Signal::USR2);
    let first = Successor::nth(&proxy, 1).await;
    assert_eq!(wire::read(&mut open).await.unwrap().code(), 1012);
    assert_eq!(proxy.exit().await, Some(0));
    crowd.grows(40).await;

    // And so on, also from one that followed itself.
    let mut open: PlainStream = upgrade(client.connect_plain().await).await;
    first.signal(Signal::USR2);
    let second = Successor::nth(&proxy, 2).await;
    assert_eq!(wire::read(&mut open).await.unwrap().code(), 1012);
    proxy.nth_record("an end", 2, is("stopped")).await;
    crowd.grows(40).await;
    let all = crowd.leaves().await;
    assert!(all.failed.is_empty(), "{} failed: {all:?}", all.failed.len());
    assert!(all.let_in >= 100, "{all:?}");
    println!("{} let in, {} told to come again", all.let_in, all.told_to_come_again);

    // It has the admin listener too.
    let (answer, body) = get(admin, "/healthz").await;
    assert_eq!(answer.status, 200);
    assert!(String::from_utf8(body).unwrap().contains("\"status\":\"ok\""));
    second.signal(Signal::TERM);
    proxy.nth_record("an end", 3, is("stopped")).await;
    assert!(TcpStream::connect(client.plain).await.is_err(), "nobody holds it any more");
}

#[tokio::test]
async fn a_successor_that_fails_changes_nothing() {
    let mock = MockBackend::new().await;
    let good = config(&route(&[mock.address()], ""));
    let proxy = Proxy::start_bare(&good).await;
    let client = Client::new(&proxy).await;
    let (mut tunnel, mut backend) = (client.raw_tunnel().await, mock.accept().await);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().map(|address| (taken, address)).unwrap();
    let bad_files = [
        "nonsense".to_owned(),
        good.replace("name = \"plain\"\naddress = \"127.0.0.1:0\"", &{
            format!("name = \"plain\"\naddress = \"{}\"", taken.1)
        }),
        good.replace("key.pem", "missing.pem"),
    ];
    for (n, file) in bad_files.iter().enumerate() {
        assert_ne!(*file, good);
        proxy.rewrite(file);
        proxy.signal(Signal::USR2);
        let refused = is("no hand-over; this process serves on");
        let record = proxy.nth_record("a refusal", n + 1, refused).await;
        let why = record["why"].as_str().unwrap();
        assert!(why.contains("exit status: 78") || why.contains("exit status: 1"), "{why}");
        assert_relays(&mut tunnel, &mut backend).await;
        close_normally(upgrade(client.connect_tls().await).await, mock.accept().await).await;
    }
    assert_eq!(proxy.health().await["status"], "ok");
    // With a good file the next one is let in, and this one still reloads until then.
    proxy.rewrite(&good);
    assert_eq!(proxy.reload().await["generation"], 2);
    proxy.signal(Signal::USR2);
    let _successor = Successor::nth(&proxy, 1).await;
    close_normally(upgrade(client.connect_plain().await).await, mock.accept().await).await;
}

#[tokio::test]
async fn the_service_manager_is_told_whom_to_watch() {
    let manager = ServiceManager::new();
    let mock = MockBackend::new().await;
    let environment = [manager.environment()];
    let mut proxy = Proxy::spawn(&config(&route(&[mock.address()], "")), &environment);
    proxy.ready().await;
    assert!(manager.next_message().await.contains("READY=1"));
    proxy.signal(Signal::USR2);
    let successor = Successor::nth(&proxy, 1).await;
    let pid = successor.0.as_raw_nonzero();
    assert_eq!(manager.next_message().await.trim(), format!("MAINPID={pid}"));
    // The main process from here on: its word counts.
    assert!(manager.next_message().await.contains("READY=1"));
    assert_eq!(proxy.exit().await, Some(0));
    // The one that left said nothing of stopping: the service goes on.
    assert_eq!(manager.try_next_message(), None);
    successor.signal(Signal::TERM);
    assert!(manager.next_message().await.contains("STOPPING=1"));
}

#[tokio::test]
async fn what_the_file_no_longer_wants_is_closed() {
    let mock = MockBackend::new().await;
    let config = config(&route(&[mock.address()], ""));
    // Port 0 of another listener would do for any; nobody else listens at this address.
    let free = std::net::TcpListener::bind("127.0.77.1:0").unwrap().local_addr().unwrap();
    let plain = "[[listener]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\ntls = false\n";
    assert!(config.contains(plain));
    let here = plain.replace("127.0.0.1:0", &free.to_string());
    let mut proxy = Proxy::start_bare(&config.replace(plain, &here)).await;
    let client = Client::new(&proxy).await;
    proxy.rewrite(&config.replace(plain, ""));
    proxy.signal(Signal::USR2);
    let _successor = Successor::nth(&proxy, 1).await;
    close_normally(upgrade(client.connect_tls().await).await, mock.accept().await).await;
    assert_eq!(proxy.exit().await, Some(0));
    assert!(TcpStream::connect(client.plain).await.is_err());
}
