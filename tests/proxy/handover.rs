//! SIGUSR2: a new process takes over the sockets, and the old one drains.

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;

use crate::socket_activation::{ClientLoad, SHORT_DRAIN, backend_that_keeps_tunnels};
use crate::support::{
    BASE, Client, MockBackend, PlainStream, Proxy, Record, ServiceManager, assert_relays,
    close_normally, get, route, upgrade, wire,
};

/// A process the proxy started; killed when the test ends.
struct Successor(Pid);

impl Successor {
    /// Waits for the n-th handover and returns the process it started.
    async fn nth(proxy: &Proxy, n: usize) -> Self {
        let handed = |r: &Record| r["message"] == "handover complete; this process drains";
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
async fn refuses_no_connection_under_load() {
    let backend = backend_that_keeps_tunnels().await;
    let config = config(&(route(&[backend.address], "") + SHORT_DRAIN));
    let mut proxy = Proxy::start_bare(&config).await;
    let client = Client::new(&proxy).await;
    let admin = proxy.admin().await;
    let load = ClientLoad::start(&client, 8);
    let mut open: PlainStream = upgrade(client.connect_plain().await).await;
    load.wait_for_more(40).await;
    proxy.signal(Signal::USR2);
    let first = Successor::nth(&proxy, 1).await;
    assert_eq!(wire::read(&mut open).await.unwrap().code(), 1012);
    assert_eq!(proxy.exit().await, Some(0));
    load.wait_for_more(40).await;

    // A process that took over can be replaced in turn.
    let mut open: PlainStream = upgrade(client.connect_plain().await).await;
    first.signal(Signal::USR2);
    let second = Successor::nth(&proxy, 2).await;
    assert_eq!(wire::read(&mut open).await.unwrap().code(), 1012);
    proxy.nth_record("an end", 2, is("shutdown complete")).await;
    load.wait_for_more(40).await;
    let all = load.stop().await;
    assert!(all.failed.is_empty(), "{} failed: {all:?}", all.failed.len());
    assert!(all.accepted >= 100, "{all:?}");
    println!("{} accepted, {} rejected", all.accepted, all.rejected);

    // The admin listener was handed over as well.
    let (response, body) = get(admin, "/healthz").await;
    assert_eq!(response.status, 200);
    assert!(String::from_utf8(body).unwrap().contains("\"status\":\"ok\""));
    second.signal(Signal::TERM);
    proxy.nth_record("an end", 3, is("shutdown complete")).await;
    assert!(TcpStream::connect(client.plain).await.is_err(), "the listener is still open");
}

#[tokio::test]
async fn failed_successor_changes_nothing() {
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
        let refused = is("handover failed; this process keeps serving");
        let record = proxy.nth_record("a refusal", n + 1, refused).await;
        let error = record["error"].as_str().unwrap();
        assert!(error.contains("exit status: 78") || error.contains("exit status: 1"), "{error}");
        assert_relays(&mut tunnel, &mut backend).await;
        close_normally(upgrade(client.connect_tls().await).await, mock.accept().await).await;
    }
    assert_eq!(proxy.health().await["status"], "ok");
    // With a valid file the next handover succeeds; until then this process can still reload.
    proxy.rewrite(&good);
    assert_eq!(proxy.reload().await["generation"], 2);
    proxy.signal(Signal::USR2);
    let _successor = Successor::nth(&proxy, 1).await;
    close_normally(upgrade(client.connect_plain().await).await, mock.accept().await).await;
}

#[tokio::test]
async fn service_manager_learns_the_new_main_pid() {
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
    // It is the main process from now on, so the manager accepts its messages.
    assert!(manager.next_message().await.contains("READY=1"));
    assert_eq!(proxy.exit().await, Some(0));
    // The old process sent no STOPPING=1, because the service continues.
    assert_eq!(manager.try_next_message(), None);
    successor.signal(Signal::TERM);
    assert!(manager.next_message().await.contains("STOPPING=1"));
}

#[tokio::test]
async fn sockets_removed_from_the_file_are_closed() {
    let mock = MockBackend::new().await;
    let config = config(&route(&[mock.address()], ""));
    // Not port 0, which would match any inherited socket; no other test uses this address.
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
