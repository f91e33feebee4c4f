//! One run: the proxy from an accepted connection to its metrics, a few clients, two backends, a
//! backend that dies and returns, a reload and a drain, all from one seed.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tidegate::config::settings::{CertificateSettings, CertificateSource, DrainSettings, Settings};
use tidegate::listener::key::listener_keys;
use tidegate::listener::socket::AcceptedStream;
use tidegate::net::network::Net;
use tidegate::net::socket::Socket;
use tidegate::proxy::serve::serve;
use tidegate::proxy::snapshot::Snapshot;
use tidegate::proxy::state::ProxyState;
use tidegate::sessions::drain_plan::{DrainPlan, Phase, drain};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use ws::{Side, TerminationReason};

use crate::peer::{PeerLog, talk};
use crate::pipe::{Broken, SimStream};
use crate::rng::Rng;
use crate::sim_net::SimNet;
use crate::tls::Tls;

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub seed: u64,
    /// Clients come over TLS.
    pub tls: bool,
    /// Connections in a hundred that break at a random byte.
    pub faults_percent: u64,
    /// Defect that the checks must find.
    pub defect: Defect,
}

/// Planted defects, which show that the checks see what they should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Defect {
    #[default]
    None,
    /// One tunnel's place in the limits is never released.
    LeakedPermit,
    /// A client receives a byte of another tunnel.
    ForeignByte,
}

/// Both ends of one tunnel.
#[derive(Debug, Default)]
pub struct TunnelLog {
    pub client: Option<PeerLog>,
    pub backend: Option<PeerLog>,
}

/// All that a run left behind.
pub struct Outcome {
    pub tunnels: Vec<TunnelLog>,
    pub trace: Vec<String>,
    pub state: Arc<ProxyState>,
}

/// Shared by the parties of a run.
struct World {
    state: Arc<ProxyState>,
    net: Arc<SimNet>,
    started: Instant,
    tunnels: Mutex<Vec<TunnelLog>>,
    trace: Mutex<Vec<String>>,
    tls: Option<Tls>,
}

const BACKENDS: [&str; 2] = ["10.0.0.1:9000", "10.0.0.2:9000"];
/// When clients and backends give up.
const END: Duration = Duration::from_secs(400);

/// Runs a scenario on the current runtime, whose clock must be paused.
pub async fn run(scenario: Scenario) -> Outcome {
    let mut rng = Rng::new(scenario.seed);
    let net = Arc::new(SimNet::new(rng.fork(), scenario.faults_percent));
    let tls = scenario.tls.then(Tls::shared);
    let ticketer = tidegate::tls::terminate::ticketer().unwrap();
    let settings = settings(tls.as_ref(), "64KiB");
    let snapshot = Snapshot::build(settings, None, &ticketer, 10_000).unwrap();
    let world = Arc::new(World {
        state: Arc::new(ProxyState::new(net.clone() as Arc<dyn Net>, snapshot, ticketer, 10_000)),
        net,
        started: Instant::now(),
        tunnels: Mutex::default(),
        trace: Mutex::default(),
        tls,
    });
    let mut parties = JoinSet::new();
    for address in BACKENDS.map(|address| address.parse::<SocketAddr>().unwrap()) {
        let listening = world.net.listen(address);
        parties.spawn(world.clone().backend(listening, rng.fork()));
    }
    let clients = rng.between(3, 8) as usize;
    for number in 0..clients {
        world.tunnels.lock().unwrap().push(TunnelLog::default());
        parties.spawn(world.clone().client(number, rng.fork()));
    }
    parties.spawn(world.clone().outage(rng.fork()));
    parties.spawn(world.clone().reload(rng.fork()));
    parties.spawn(world.clone().watch());
    sleep(Duration::from_millis(rng.between(1_000, 150_000))).await;
    world.drain().await;
    if scenario.defect == Defect::LeakedPermit {
        std::mem::forget(world.state.concurrency.admit_connection(usize::MAX, || false).unwrap());
    }
    world.stop_backends();
    while let Some(ended) = timeout(END, parties.join_next()).await.unwrap_or_else(|_| {
        let trace = world.trace.lock().unwrap().join("\n");
        panic!("{} parties, {} tasks never end\n{trace}", parties.len(), world.state.tasks.len())
    }) {
        ended.unwrap();
    }
    if scenario.defect == Defect::ForeignByte {
        world.plant_foreign_byte();
    }
    let World { state, tunnels, trace, .. } = Arc::into_inner(world).expect("parties have ended");
    let (tunnels, trace) = (tunnels.into_inner().unwrap(), trace.into_inner().unwrap());
    Outcome { tunnels, trace, state }
}

fn settings(tls: Option<&Tls>, message_max: &str) -> Settings {
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:1\"\ntls = {}\n\
         {}\
         [[route]]\nname = \"all\"\nhost = \"*\"\norigins = [\"*\"]\nbackends = [\"{}\", \"{}\"]\n\
         [limits]\nmessage_from_client = \"{message_max}\"\nidle = \"90s\"\n\
         [rates]\nhandshakes_per_client = \"1000/s\"\nhandshakes_burst = 1000\n\
         [admin]\nenabled = false\n[control]\nsocket = \"off\"\n",
        tls.is_some(),
        tls.map_or("", |_| "[[certificate]]\nchain = \"memory.pem\"\nkey = \"memory.key\"\n"),
        BACKENDS[0],
        BACKENDS[1],
    );
    let mut settings = Settings::parse(&text, "simulation.toml").unwrap_or_else(|e| panic!("{e}"));
    if let Some(tls) = tls {
        let (chain, key) = (tls.chain.clone(), tls.key.clone());
        let source = CertificateSource::Memory { chain, key };
        settings.certificates = vec![CertificateSettings { source, default: true }];
    }
    settings
}

impl World {
    fn note(&self, text: &str) {
        let at = self.started.elapsed().as_millis();
        self.trace.lock().unwrap().push(format!("{at} {text}"));
    }

    fn deadline(&self) -> Instant {
        self.started + END
    }

    /// Connects, upgrades and talks.
    async fn client(self: Arc<Self>, number: usize, mut rng: Rng) {
        sleep(Duration::from_millis(rng.below(20_000))).await;
        let (near, far) = self.net.connection();
        let peer = SocketAddr::from(([192, 0, 2, number as u8 + 1], 40_000));
        let snapshot = self.state.snapshot();
        let (key, listener) = listener_keys(&snapshot.settings.listeners).next().unwrap();
        let local = listener.address;
        let io = Socket::Boxed(Box::new(far));
        let accepted = AcceptedStream { io, peer, local };
        self.state.tasks.spawn(serve(self.state.clone(), accepted, key));
        match &self.tls {
            None => {
                let broken = near.broken();
                self.converse(near, number, broken, rng).await;
            }
            Some(tls) => {
                let name = ServerName::try_from("localhost").unwrap();
                let broken = near.broken();
                let connecting = tls.connector.connect(name, near);
                if let Ok(Ok(stream)) = timeout_at(self.deadline(), connecting).await {
                    self.converse(stream, number, broken, rng).await;
                }
            }
        }
    }

    async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut stream: S,
        number: usize,
        broken: Broken,
        mut rng: Rng,
    ) {
        let request = format!(
            "GET /t/{number} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
        if stream.write_all(request.as_bytes()).await.is_err() {
            return;
        }
        let Some(head) = read_head(&mut stream, self.deadline()).await else { return };
        self.note(&format!("client {number}: {}", &head[..head.len().min(12)]));
        if !head.starts_with("HTTP/1.1 101") {
            return;
        }
        let mut log = talk(stream, Side::Client, tag(number, 0), rng.fork(), self.deadline()).await;
        log.network_broke = broken.load(Ordering::Relaxed);
        self.note(&format!(
            "client {number}: sent {}, received {} B",
            log.sent.len(),
            log.received.len()
        ));
        self.tunnels.lock().unwrap()[number].client = Some(log);
    }

    /// Accepts connections from the proxy until the sender is gone.
    async fn backend(self: Arc<Self>, mut listening: mpsc::Receiver<SimStream>, mut rng: Rng) {
        let mut tunnels = JoinSet::new();
        while let Some(stream) = listening.recv().await {
            tunnels.spawn(self.clone().backend_tunnel(stream, rng.fork()));
        }
        while tunnels.join_next().await.is_some() {}
    }

    async fn backend_tunnel(self: Arc<Self>, mut stream: SimStream, mut rng: Rng) {
        let Some(head) = read_head(&mut stream, self.deadline()).await else { return };
        let number = head.split("/t/").nth(1).and_then(|rest| rest.split(' ').next());
        let number: usize = number.and_then(|number| number.parse().ok()).unwrap();
        let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: "));
        let key = key.or(head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")));
        let accept = derive_accept_key(key.unwrap().as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        sleep(Duration::from_millis(rng.below(200))).await;
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        let broken = stream.broken();
        let mut log =
            talk(stream, Side::Backend, tag(number, 1), rng.fork(), self.deadline()).await;
        log.network_broke = broken.load(Ordering::Relaxed);
        self.note(&format!(
            "backend of {number}: sent {}, received {} B",
            log.sent.len(),
            log.received.len()
        ));
        self.tunnels.lock().unwrap()[number].backend = Some(log);
    }

    /// One backend refuses connections for a while.
    async fn outage(self: Arc<Self>, mut rng: Rng) {
        sleep(Duration::from_millis(rng.below(20_000))).await;
        let address: SocketAddr = BACKENDS[rng.below(2) as usize].parse().unwrap();
        self.net.refuse(address);
        self.note(&format!("{address} is down"));
        sleep(Duration::from_millis(rng.between(100, 30_000))).await;
        if self.state.phase() == Phase::Running {
            let listening = self.net.listen(address);
            self.note(&format!("{address} is up"));
            self.clone().backend(listening, rng).await;
        }
    }

    /// A reload with another limit; open tunnels keep theirs.
    async fn reload(self: Arc<Self>, mut rng: Rng) {
        sleep(Duration::from_millis(rng.below(60_000))).await;
        if self.state.phase() != Phase::Running {
            return;
        }
        let before = self.state.snapshot();
        let settings = settings(self.tls.as_ref(), "96KiB");
        let after = Snapshot::build(settings, Some(&before), &self.state.ticketer, 10_000);
        self.state.swap(after.unwrap());
        self.note("reloaded");
    }

    /// What must hold at any time, until the proxy is at rest.
    async fn watch(self: Arc<Self>) {
        while self.state.phase() != Phase::Draining || !self.state.tasks.is_empty() {
            let (tunnels, sessions) =
                (self.state.concurrency.tunnels(), self.state.registry.count());
            assert!(tunnels >= sessions, "{sessions} sessions hold {tunnels} permits");
            sleep(Duration::from_millis(37)).await;
        }
    }

    async fn drain(&self) {
        self.note("drain");
        self.state.set_phase(Phase::Draining);
        let pacing = DrainSettings {
            delay: None,
            window: Duration::from_secs(5),
            rate: None,
            deadline: Duration::from_secs(120),
        };
        let net = self.net.clone() as Arc<dyn Net>;
        let plan = DrainPlan::standard(net, pacing, TerminationReason::Drained);
        let never = std::future::pending();
        let drained = drain(&self.state.registry, &self.state.tasks, &plan, never).await;
        self.note(&format!("drained {}", drained.sessions));
    }

    fn stop_backends(&self) {
        for address in BACKENDS {
            self.net.refuse(address.parse().unwrap());
        }
    }

    fn plant_foreign_byte(&self) {
        let mut tunnels = self.tunnels.lock().unwrap();
        let logs = tunnels.iter_mut().filter_map(|tunnel| tunnel.client.as_mut());
        for log in logs.filter(|log| log.received.len() > 40) {
            let last = log.received.len() / 2;
            log.received[last] ^= 1;
        }
    }
}

/// Differs between all tunnels and sides.
pub fn tag(tunnel: usize, side: u64) -> u64 {
    (tunnel as u64 + 1) << 8 | side
}

async fn read_head<R: AsyncRead + Unpin>(stream: &mut R, deadline: Instant) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = timeout_at(deadline, stream.read_u8()).await.ok()?.ok()?;
        head.push(byte);
    }
    String::from_utf8(head).ok()
}
