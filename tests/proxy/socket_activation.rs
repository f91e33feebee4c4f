//! Sockets opened by a service manager (sd_listen_fds(3)): connections that arrive between two
//! processes wait and are served.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::{
    Backend, Client, HANDSHAKE, MockBackend, PlainStream, Proxy, Record, SharedSockets,
    assert_relays, close_normally, read_response, route, switching_protocols, upgrade, wire,
    within_timeout,
};

/// A listening socket as the service manager holds it, and its address.
fn socket() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn handle(socket: &TcpListener) -> OwnedFd {
    socket.try_clone().unwrap().into()
}

/// A TLS and a plain listener, followed by `rest`.
fn config(tls: SocketAddr, plain: SocketAddr, rest: &str) -> String {
    format!(
        "[log]\nformat = \"json\"\nlevel = \"info\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [[certificate]]\nchain = \"chain.pem\"\nkey = \"key.pem\"\ndefault = true\n\
         [[listener]]\nname = \"tls\"\naddress = \"{tls}\"\n\
         [[listener]]\nname = \"plain\"\naddress = \"{plain}\"\ntls = false\n{rest}"
    )
}

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

#[tokio::test]
async fn connections_before_start_are_served() {
    let (tls, tls_address) = socket();
    let (plain, plain_address) = socket();
    let mock = MockBackend::new().await;
    // No process serves yet, but the connection is queued.
    let mut early = BufReader::new(TcpStream::connect(plain_address).await.unwrap());
    early.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    let shared = SharedSockets::with(vec![handle(&tls), handle(&plain)]);
    let config = config(tls_address, plain_address, &route(&[mock.address()], ""));
    let mut proxy = Proxy::spawn_with_sockets(&shared, &config);
    proxy.ready().await;
    assert_eq!(read_response(&mut early).await.status, 101);
    assert_relays(&mut early, &mut mock.accept().await).await;
    let client = Client::new(&proxy).await;
    assert_eq!((client.tls, client.plain), (tls_address, plain_address));
    let mut secure = upgrade(client.connect_tls().await).await;
    assert_relays(&mut secure, &mut mock.accept().await).await;
    let opened: Vec<Record> =
        proxy.records().into_iter().filter(|r| r["message"] == "listening").collect();
    assert_eq!(opened.len(), 2);
    assert!(opened.iter().all(|record| record["held_by_service_manager"] == true), "{opened:?}");
    let is_problem = |r: &Record| r["message"] == "problem with a socket from the service manager";
    assert!(!proxy.records().iter().any(is_problem), "{:#?}", proxy.records());
}

#[tokio::test]
async fn sockets_of_another_process_are_ignored() {
    let (plain, address) = socket();
    let mut shared = SharedSockets::with(vec![handle(&plain)]);
    shared.environment = vec![("PID", "1".into())];
    let config = config(ANY, address, &route(&[ANY], "").replace(":0\"", ":1\""));
    let mut proxy = Proxy::spawn_with_sockets(&shared, &config);
    assert_eq!(proxy.exit().await, Some(1));
    let conflict = |record: &Record| {
        let line = record.to_string();
        line.contains(&address.to_string()) && line.contains("another process")
    };
    let found = proxy.record("the conflict", conflict).await;
    assert_eq!(proxy.records().last(), Some(&found));
}

#[tokio::test]
async fn unused_socket_warns_until_a_reload_uses_it() {
    let (plain, address) = socket();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let shared = SharedSockets::with(vec![datagrams.into(), handle(&plain)]);
    let mock = MockBackend::new().await;
    let mut proxy =
        Proxy::spawn_with_sockets(&shared, &config(ANY, ANY, &route(&[mock.address()], "")));
    proxy.ready().await;
    let problem = |n| {
        proxy.nth_record("a problem", n, |r| {
            r["message"] == "problem with a socket from the service manager"
        })
    };
    let (strange, unwanted) =
        (problem(1).await["problem"].clone(), problem(2).await["problem"].clone());
    let (strange, unwanted) = (strange.as_str().unwrap(), unwanted.as_str().unwrap());
    assert!(strange.contains("first") && strange.contains("not a valid tcp"), "{strange}");
    assert!(unwanted.contains("second") && unwanted.contains(&address.to_string()), "{unwanted}");

    let mut early = BufReader::new(TcpStream::connect(address).await.unwrap());
    early.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    let more = format!("[[listener]]\nname = \"more\"\naddress = \"{address}\"\ntls = false\n");
    let grown = proxy.config().replace("[[route]]", &format!("{more}[[route]]"));
    proxy.rewrite(&grown);
    assert_eq!(proxy.reload().await["changed"], "listeners: more added");
    assert_eq!(read_response(&mut early).await.status, 101);
    assert_relays(&mut early, &mut mock.accept().await).await;
}

// Requirements: SR06.
#[tokio::test]
async fn inherited_socket_outlives_its_listener() {
    let (plain, address) = socket();
    let shared = SharedSockets::with(vec![handle(&plain)]);
    let mock = MockBackend::new().await;
    let config = config(ANY, address, &route(&[mock.address()], ""));
    let mut proxy = Proxy::spawn_with_sockets(&shared, &config);
    proxy.ready().await;
    // From here on only the proxy holds the socket.
    drop((plain, shared));
    let mut tunnel = upgrade(TcpStream::connect(address).await.unwrap()).await;
    let mut backend = mock.accept().await;
    let elsewhere = proxy.config().replace(&address.to_string(), "127.0.0.1:0");
    for _ in 0..3 {
        proxy.rewrite(&elsewhere);
        proxy.reload().await;
        // The connection waits until the listener is back.
        let mut waiting = BufReader::new(TcpStream::connect(address).await.unwrap());
        waiting.write_all(HANDSHAKE.as_bytes()).await.unwrap();
        assert_relays(&mut tunnel, &mut backend).await;
        proxy.rewrite(&config);
        proxy.reload().await;
        assert_eq!(read_response(&mut waiting).await.status, 101);
        close_normally(waiting, mock.accept().await).await;
    }
    // The process closes the socket when it exits.
    close_normally(tunnel, backend).await;
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.exit().await, Some(0));
    assert!(TcpStream::connect(address).await.is_err());
}

// Requirements: SR13.
#[tokio::test]
async fn clients_survive_kill_until_the_next_process() {
    let (plain, address) = socket();
    let shared = SharedSockets::with(vec![handle(&plain)]);
    let mock = MockBackend::new().await;
    let config = config(ANY, address, &route(&[mock.address()], ""));
    let mut first = Proxy::spawn_with_sockets(&shared, &config);
    first.ready().await;
    let mut tunnel = upgrade(TcpStream::connect(address).await.unwrap()).await;
    let mut backend = mock.accept().await;
    assert_relays(&mut tunnel, &mut backend).await;
    // Unread data turns the close of a killed process into a reset.
    first.suspend().await;
    backend.write_all(&wire::unmasked(0x81, b"unread")).await.unwrap();
    first.signal(Signal::KILL);
    assert_eq!(first.exit().await, None);
    let ended = within_timeout("the backend's end", backend.read_u8()).await.unwrap_err();
    assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);

    let mut waiting = Vec::new();
    for _ in 0..20 {
        let mut client = BufReader::new(TcpStream::connect(address).await.unwrap());
        client.write_all(HANDSHAKE.as_bytes()).await.unwrap();
        waiting.push(client);
    }
    let mut second = Proxy::spawn_with_sockets(&shared, &config);
    for client in &mut waiting {
        assert_eq!(read_response(client).await.status, 101);
    }
    second.ready().await;
}

/// Results of the connections made by a [`ClientLoad`].
#[derive(Debug, Default)]
pub struct Outcomes {
    pub accepted: usize,
    /// Answered with 503 and Retry-After.
    pub rejected: usize,
    pub failed: Vec<String>,
}

/// Clients that connect repeatedly, over TLS and plain TCP.
pub struct ClientLoad {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: JoinSet<Outcomes>,
}

impl ClientLoad {
    /// Starts `count` clients.
    pub fn start(client: &Client, count: usize) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut clients = JoinSet::new();
        for n in 0..count {
            let (stop, answered) = (stop.clone(), answered.clone());
            clients.spawn(connect_repeatedly(client.clone(), n % 2 == 0, stop, answered));
        }
        Self { stop, answered, clients }
    }

    /// Waits until `count` more connections have been answered.
    pub async fn wait_for_more(&self, count: usize) {
        let wanted = self.answered.load(Ordering::Relaxed) + count;
        let more = async {
            while self.answered.load(Ordering::Relaxed) < wanted {
                sleep(Duration::from_millis(5)).await;
            }
        };
        within_timeout("clients", more).await;
    }

    /// Stops the clients and returns their results.
    pub async fn stop(self) -> Outcomes {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Outcomes::default();
        for each in self.clients.join_all().await {
            all.accepted += each.accepted;
            all.rejected += each.rejected;
            all.failed.extend(each.failed);
        }
        all
    }
}

/// Connects repeatedly, each time on a new connection, until `stop` is set.
async fn connect_repeatedly(
    client: Client,
    secure: bool,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
) -> Outcomes {
    let mut seen = Outcomes::default();
    // Pauses, so that the processes under test get processor time.
    while !stop.load(Ordering::Relaxed) {
        let tried = async {
            let address = if secure { client.tls } else { client.plain };
            let stream = TcpStream::connect(address).await.map_err(|e| format!("connect: {e}"))?;
            if !secure {
                return handshake_status(stream).await;
            }
            let stream = client.tls_over(stream).await.map_err(|e| format!("TLS: {e}"))?;
            handshake_status(stream).await
        };
        match within_timeout("a response", tried).await {
            Ok(101) => seen.accepted += 1,
            Ok(503) => seen.rejected += 1,
            Ok(status) => seen.failed.push(format!("status {status}")),
            Err(why) => seen.failed.push(why),
        }
        answered.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(5)).await;
    }
    seen
}

/// The status of the response to a handshake; a 503 must have a Retry-After header.
async fn handshake_status(stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<u16, String> {
    let mut stream = BufReader::new(stream);
    stream.write_all(HANDSHAKE.as_bytes()).await.map_err(|e| format!("write: {e}"))?;
    stream.flush().await.map_err(|e| format!("write: {e}"))?;
    let response = read_response(&mut stream).await;
    if response.status == 503 && response.header("retry-after").is_none() {
        return Err(format!("no Retry-After: {response:?}"));
    }
    Ok(response.status)
}

/// A backend that accepts every tunnel and keeps it until the proxy ends it.
pub async fn backend_that_keeps_tunnels() -> Backend {
    Backend::raw(|head, mut stream, _| async move {
        stream.write_all(switching_protocols(&head).as_bytes()).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await
}

/// Settings for many clients and a short drain.
pub const SHORT_DRAIN: &str = "[drain]\nwindow = \"200ms\"\ndeadline = \"20s\"\n\
    [rates]\nhandshakes_per_client = \"100000/s\"\nhandshakes_burst = 100000\n\
    [concurrency]\nconnections_per_client = 4000\ntunnels_per_client = 4000\n\
    [limits]\nclose_grace = \"1s\"\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restart_under_load_rejects_no_client() {
    let (tls, tls_address) = socket();
    let (plain, plain_address) = socket();
    let shared = SharedSockets::with(vec![handle(&tls), handle(&plain)]);
    let backend = backend_that_keeps_tunnels().await;
    let rest = route(&[backend.address], "") + SHORT_DRAIN;
    let config = config(tls_address, plain_address, &rest);
    let mut serving = Proxy::spawn_with_sockets(&shared, &config);
    serving.ready().await;
    let client = Client::new(&serving).await;
    let load = ClientLoad::start(&client, 8);
    for _ in 0..3 {
        let mut open = upgrade(client.connect_plain().await).await;
        load.wait_for_more(40).await;
        serving.signal(Signal::TERM);
        assert_eq!(wire::read(&mut open).await.unwrap().code(), 1012);
        drop(open);
        assert_eq!(serving.exit().await, Some(0));
        serving = Proxy::spawn_with_sockets(&shared, &config);
        serving.ready().await;
    }
    load.wait_for_more(40).await;
    let all = load.stop().await;
    assert!(all.failed.is_empty(), "{} failed: {all:?}", all.failed.len());
    assert!(all.accepted >= 100, "{all:?}");
    println!("{} accepted, {} rejected", all.accepted, all.rejected);
}

#[tokio::test]
async fn accepted_connection_is_answered_before_exit() {
    let (plain, address) = socket();
    let shared = SharedSockets::with(vec![handle(&plain)]);
    let config = config(ANY, address, &route(&[([127, 0, 0, 66], 1).into()], ""));
    let mut proxy = Proxy::spawn_with_sockets(&shared, &config);
    proxy.ready().await;
    let mut client: PlainStream = BufReader::new(TcpStream::connect(address).await.unwrap());
    within_timeout("the connection", async { while proxy.health().await["connections"] != 1 {} })
        .await;
    proxy.signal(Signal::TERM);
    within_timeout("the phase", async { while proxy.health().await["status"] != "draining" {} })
        .await;
    client.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    let response = read_response(&mut client).await;
    assert_eq!((response.status, response.header("connection")), (503, Some("close")));
    assert!(response.header("retry-after").is_some());
    assert_eq!(proxy.exit().await, Some(0));
}

#[tokio::test]
async fn systemd_socket_activate_starts_the_proxy() {
    let activate = ["/usr/bin", "/usr/local/bin", "/bin"]
        .map(|folder| Path::new(folder).join("systemd-socket-activate"))
        .into_iter()
        .find(|path| path.exists());
    let Some(activate) = activate else {
        println!("skipped: systemd-socket-activate is not installed");
        return;
    };
    let mock = MockBackend::new().await;
    // It needs a fixed port number, and another test may take a free one first.
    let (mut proxy, address) = loop {
        let (free, address) = socket();
        drop(free);
        let config = config(ANY, address, &route(&[mock.address()], ""));
        let mut command = Command::new(&activate);
        command.args(["-l", &address.to_string(), "--fdname=plain"]);
        let proxy = Proxy::spawn_by(command, &config);
        let line = proxy.record("a line of the manager", Record::is_string).await;
        if line.as_str().is_some_and(|line| line.starts_with("Listening on")) {
            break (proxy, address);
        }
        let line = line.to_string();
        assert!(line.contains("Address already in use"), "{line}");
    };
    // The first connection starts the proxy.
    let mut client = BufReader::new(TcpStream::connect(address).await.unwrap());
    client.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    assert_eq!(read_response(&mut client).await.status, 101);
    proxy.ready().await;
    assert_eq!(proxy.address("plain").await, address);
    close_normally(client, mock.accept().await).await;
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.exit().await, Some(0));
}
