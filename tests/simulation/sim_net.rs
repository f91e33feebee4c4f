//! The simulated network of the proxy: addresses that accept or refuse connections, and seeded randomness.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use tidegate::net::network::{Net, NetFuture, TargetAddr};
use tidegate::net::socket::Socket;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::pipe::{Fault, SimStream, Weather, pipe};
use crate::rng::Rng;

/// Implements [`Net`] without the operating system.
#[derive(Debug)]
pub struct SimNet {
    rng: Mutex<Rng>,
    listening: Mutex<HashMap<SocketAddr, mpsc::Sender<SimStream>>>,
    /// Probability, in percent, that one direction of a connection breaks.
    faults_percent: u64,
}

impl SimNet {
    pub fn new(rng: Rng, faults_percent: u64) -> Self {
        Self { rng: Mutex::new(rng), listening: Mutex::default(), faults_percent }
    }

    /// Accepts connections to `address` from now on.
    pub fn listen(&self, address: SocketAddr) -> mpsc::Receiver<SimStream> {
        let (sender, receiver) = mpsc::channel(64);
        self.listening.lock().unwrap().insert(address, sender);
        receiver
    }

    /// Refuses connections to `address` from now on; open ones stay.
    pub fn refuse(&self, address: SocketAddr) {
        self.listening.lock().unwrap().remove(&address);
    }

    /// A new connection with random behaviour.
    pub fn connection(&self) -> (SimStream, SimStream) {
        let mut rng = self.rng.lock().unwrap();
        let weather = weather(&mut rng, self.faults_percent);
        pipe(&mut rng, &weather)
    }
}

fn weather(rng: &mut Rng, faults_percent: u64) -> Weather {
    let fault = |rng: &mut Rng| {
        let kind = if rng.chance(50) { Fault::Eof } else { Fault::Reset };
        let at = if rng.chance(50) { rng.between(150, 3_000) } else { rng.between(1, 100_000) };
        rng.chance(faults_percent).then_some((at, kind))
    };
    Weather {
        latency_ms: [0, 1, 20, 300][rng.below(4) as usize],
        window: [700, 4_096, 65_536, 300_000][rng.below(4) as usize],
        faults: [fault(rng), fault(rng)],
    }
}

impl Net for SimNet {
    fn connect<'a>(&'a self, to: &'a TargetAddr) -> NetFuture<'a, Socket> {
        Box::pin(async move {
            let wait = self.rng.lock().unwrap().below(30);
            sleep(Duration::from_millis(wait)).await;
            let TargetAddr::Tcp(to) = to else { return Err(io::ErrorKind::Unsupported.into()) };
            let backend = self.listening.lock().unwrap().get(to).cloned();
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let (near, far) = self.connection();
            backend.ok_or_else(refused)?.send(far).await.map_err(|_| refused())?;
            Ok(Socket::Boxed(Box::new(near)))
        })
    }

    fn resolve<'a>(&'a self, host: &'a str, _: u16) -> NetFuture<'a, Vec<SocketAddr>> {
        Box::pin(async move { Err(io::Error::new(io::ErrorKind::NotFound, host.to_owned())) })
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.rng.lock().unwrap().fill(bytes);
    }
}
