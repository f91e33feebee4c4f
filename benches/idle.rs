//! User memory of an idle wss tunnel: the real executable, tungstenite clients over TLS, a
//! tungstenite echo backend, all on loopback. One process holds clients and backend.
//!
//! `cargo bench --bench idle` (5,000 tunnels, 64 opening at a time); other numbers follow behind
//! `--`, as in `-- 9000 1`, and so does the word `stock` for the other TLS stream. Needs three
//! descriptors a tunnel in all. Figures are proportional set size (PSS) over the start, by tunnel.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on should stop")]
#![expect(clippy::print_stdout, reason = "a benchmark's answer")]
#![expect(clippy::disallowed_methods, reason = "tasks of the load side")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

type Socket = WebSocketStream<TlsStream<TcpStream>>;

fn main() {
    let mut numbers = std::env::args().filter_map(|word| word.parse().ok());
    let count = numbers.next().unwrap_or(5_000);
    let at_a_time = numbers.next().unwrap_or(64);
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit {
            current: rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum,
            ..rustix::process::getrlimit(rustix::process::Resource::Nofile)
        },
    )
    .unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure(count, at_a_time));
}

async fn measure(count: usize, at_a_time: usize) {
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = backend.local_addr().unwrap();
    tokio::spawn(echo(backend));
    let tls = if std::env::args().any(|word| word == "stock") { "stock" } else { "lean" };
    let proxy = Proxy::start(address, tls);
    let empty = proxy.pss();
    println!("proxy at start: {} KiB", empty / 1024);

    let mut sockets = open(&proxy, count, at_a_time).await;
    say(&proxy, empty, count, "after the handshake").await;
    for size in [125, 16 * 1024] {
        exchange(&mut sockets, size).await;
        say(&proxy, empty, count, &format!("after a message of {size} B each way")).await;
    }
    drop(sockets);
    tokio::time::sleep(Duration::from_secs(3)).await;
    println!("{:>8} KiB kept 3 s after all have gone", (proxy.pss() - empty) / 1024);
}

/// A moment for the last bytes, then the figure.
async fn say(proxy: &Proxy, empty: u64, count: usize, when: &str) {
    tokio::time::sleep(Duration::from_secs(2)).await;
    println!("{:>8} B a tunnel, {count} tunnels, {when}", (proxy.pss() - empty) / count as u64);
}

async fn echo(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut socket = accept_async(stream).await.unwrap();
            while let Some(Ok(message)) = socket.next().await {
                if message.is_binary() && socket.send(message).await.is_err() {
                    return;
                }
            }
        });
    }
}

async fn open(proxy: &Proxy, count: usize, at_a_time: usize) -> Vec<Socket> {
    let mut sockets = Vec::with_capacity(count);
    let mut opening = JoinSet::new();
    while sockets.len() < count {
        while opening.len() < at_a_time && opening.len() + sockets.len() < count {
            opening.spawn(connect(proxy.address, proxy.connector.clone()));
        }
        sockets.push(opening.join_next().await.unwrap().unwrap());
    }
    sockets
}

async fn connect(address: SocketAddr, connector: TlsConnector) -> Socket {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = connector.connect(name, stream).await.unwrap();
    client_async("wss://localhost/", stream).await.unwrap().0
}

async fn exchange(sockets: &mut [Socket], size: usize) {
    let message = Message::binary(vec![7; size]);
    for socket in sockets {
        socket.send(message.clone()).await.unwrap();
        while !socket.next().await.unwrap().unwrap().is_binary() {}
    }
}

/// The proxy; ended and cleaned up when dropped.
struct Proxy {
    child: Child,
    folder: PathBuf,
    address: SocketAddr,
    connector: TlsConnector,
}

impl Proxy {
    fn start(backend: SocketAddr, tls: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tidegate-idle-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(folder.join("chain.pem"), made.cert.pem()).unwrap();
        fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        fs::write(folder.join("proxy.toml"), config(backend, tls)).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["run", "--config", "proxy.toml"])
            .current_dir(&folder)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines
            .by_ref()
            .map_while(Result::ok)
            .find(|line| line.contains("\"message\":\"listening\""))
            .unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        let record: serde_json::Value = serde_json::from_str(&line).unwrap();
        let address = record["address"].as_str().unwrap().parse().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { child, folder, address, connector: TlsConnector::from(Arc::new(config)) }
    }

    /// Proportional set size in bytes.
    fn pss(&self) -> u64 {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let rollup = fs::read_to_string(Path::new(&path)).unwrap();
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// All clients come from one address here, so its caps are out of the way.
fn config(backend: SocketAddr, tls: &str) -> String {
    format!(
        r#"
[server]
tls = "{tls}"
[[listener]]
address = "127.0.0.1:0"
[[certificate]]
chain = "chain.pem"
key = "key.pem"
[[route]]
host = "localhost"
origins = ["missing"]
backends = ["{backend}"]
[caps]
connections_per_client = 9500
tunnels_per_client = 9500
handshakes_per_client = "100000/s"
handshakes_burst = 100000
[admin]
enabled = false
[log]
format = "json"
"#
    )
}
