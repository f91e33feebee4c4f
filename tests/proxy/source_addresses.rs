//! Connections to backends from several addresses of this machine, each of which has local ports of its own.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};

use crate::check_command::{check_errors, config, config_folder};
use crate::support::own_network::is_own_network;
use crate::support::{
    Backend, HANDSHAKE, Proxy, RawResponse, read_response, switching_protocols, within_timeout,
};

/// Backends that keep tunnels open, and the addresses from which they got connections.
#[derive(Default)]
struct Backends {
    all: Vec<Backend>,
    /// The number of connections by backend and source.
    peers: Arc<Mutex<BTreeMap<(usize, IpAddr), usize>>>,
}

impl Backends {
    async fn add(&mut self) {
        let (seen, number) = (self.peers.clone(), self.all.len());
        let serve = move |head: String, mut stream: BufReader<TcpStream>, _| {
            let peer = stream.get_ref().peer_addr().unwrap().ip();
            *seen.lock().unwrap().entry((number, peer)).or_default() += 1;
            async move {
                stream.write_all(switching_protocols(&head).as_bytes()).await.unwrap();
                while stream.read_u8().await.is_ok() {}
            }
        };
        self.all.push(Backend::raw(serve).await);
    }

    fn ids(&self) -> Vec<String> {
        self.all.iter().map(|backend| backend.address.to_string()).collect()
    }

    /// A proxy in front of them whose connections come from these addresses.
    async fn proxy(&self, sources: &[&str]) -> Proxy {
        Proxy::start(&format!(
            "[[route]]\nname = \"all\"\nhost = \"*\"\norigins = [\"*\"]\npool = \"chat\"\n\
             [[pool]]\nname = \"chat\"\nbackends = {:?}\nbind = {sources:?}\n",
            self.ids()
        ))
        .await
    }

    /// The number of connections from each source, for each backend.
    fn counts(&self) -> Vec<(usize, String, usize)> {
        let peers = self.peers.lock().unwrap();
        peers.iter().map(|((number, peer), count)| (*number, peer.to_string(), *count)).collect()
    }
}

/// Asks for a tunnel, as the client with this number. Its local port is outside the range from which the proxy may take one.
async fn attempt(plain: SocketAddr, number: u8) -> (RawResponse, BufReader<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 1, number], 50_000).into()).unwrap();
    let stream = within_timeout("a connection", socket.connect(plain)).await.unwrap();
    let mut stream = BufReader::new(stream);
    stream.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    (read_response(&mut stream).await, stream)
}

fn message(record: &Value) -> &str {
    record["message"].as_str().unwrap_or_default()
}

// Requirements: RE05.
#[tokio::test]
async fn each_source_address_has_all_local_ports() {
    if !is_own_network("source_addresses::each_source_address_has_all_local_ports") {
        return;
    }
    let mut backends = Backends::default();
    backends.add().await;
    backends.add().await;
    let proxy = backends.proxy(&["127.0.5.1", "127.0.5.2"]).await;
    let plain = proxy.address("plain").await;
    // The sockets that listen have ports elsewhere by now.
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "20000 20009").unwrap();
    let ids = backends.ids();
    let left = async || {
        let scrape = proxy.scrape().await;
        let of = |id: &String| {
            scrape.value("tidegate_backend_local_ports_left", &[("route", "all"), ("backend", id)])
        };
        ids.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(left().await, [20.0, 20.0]);
    let mut tunnels = Vec::new();
    for number in 1..=40 {
        let (response, stream) = attempt(plain, number).await;
        assert_eq!(response.status, 101, "{number}: {response:?}");
        tunnels.push(stream);
    }
    let expected = [(0, "127.0.5.1"), (0, "127.0.5.2"), (1, "127.0.5.1"), (1, "127.0.5.2")];
    assert_eq!(backends.counts(), expected.map(|(number, from)| (number, from.to_owned(), 10)));
    assert_eq!(left().await, [0.0, 0.0]);
    let (response, _) = attempt(plain, 41).await;
    assert_eq!(response.status, 503, "{response:?}");
    let record = proxy.end_record("local_ports_exhausted").await;
    let detail = record["detail"].as_str().unwrap();
    for id in &ids {
        assert!(detail.contains(&format!("{id}: no local port left (EADDRNOTAVAIL)")), "{record}");
        let is_warning = |record: &Value| {
            record["backend"] == **id && message(record).starts_with("few local ports are left")
        };
        let warning = proxy.record("a warning", is_warning).await;
        assert_eq!((&warning["route"], &warning["total"]), (&"all".into(), &20.into()));
    }
    tunnels.pop();
    within_timeout("the end of a tunnel", async {
        while left().await.iter().sum::<f64>() < 1.0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn source_addresses_that_are_gone_are_passed_over() {
    if !is_own_network("source_addresses::source_addresses_that_are_gone_are_passed_over") {
        return;
    }
    let ip = |action: &str, address: &str| {
        let mut command = Command::new("ip");
        let status = command.args(["addr", action, address, "dev", "lo"]).status().unwrap();
        assert!(status.success(), "{action} {address}");
    };
    let sources = ["192.0.2.1", "192.0.2.2"];
    sources.iter().for_each(|address| ip("add", &format!("{address}/32")));
    let mut backends = Backends::default();
    backends.add().await;
    let proxy = backends.proxy(&sources).await;
    let plain = proxy.address("plain").await;
    let mut tunnels = vec![attempt(plain, 1).await, attempt(plain, 2).await];
    ip("del", "192.0.2.2/32");
    tunnels.extend([attempt(plain, 3).await, attempt(plain, 4).await]);
    assert!(tunnels.iter().all(|(response, _)| response.status == 101));
    assert_eq!(backends.counts(), [(0, sources[0].to_owned(), 3), (0, sources[1].to_owned(), 1)]);
    ip("del", "192.0.2.1/32");
    let (response, _) = attempt(plain, 5).await;
    assert_eq!(response.status, 503, "{response:?}");
    let record = proxy.end_record("local_ports_exhausted").await;
    let detail = record["detail"].as_str().unwrap();
    let cause = "192.0.2.2 is not an address of this machine any more";
    assert_eq!(detail, format!("{}: {cause}", backends.ids()[0]));
    let reload = proxy.reload().await;
    assert!(message(&reload).starts_with("reload rejected;"), "{reload}");
    let records = proxy.records();
    assert_eq!(records.iter().find(|record| message(record).starts_with("backend down")), None);
}

#[test]
fn source_address_of_another_machine_is_refused() {
    let pool = "[[pool]]\nname = \"chat\"\nbackends = [\"127.0.0.1:9\"]\nbind = [\"127.0.0.1\", \"192.0.2.1\"]\n";
    let reported = check_errors(&config_folder(config(pool)));
    let expected = "pool[0].bind[1]: 192.0.2.1 is not an address of this machine; add it to an \
                    interface, or remove it here";
    assert!(reported.contains(expected), "{reported}");
    assert!(!reported.contains("bind[0]"), "{reported}");
}
