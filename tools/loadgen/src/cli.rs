//! The command line.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

const SECONDS_MAX: f64 = 86_400.0;
/// Eight messages at least are kept.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Load for a WebSocket proxy, and the backend behind it.
#[derive(Parser, Debug)]
pub struct Cli {
    #[command(subcommand)]
    pub role: Role,
}

#[derive(Subcommand, Debug)]
pub enum Role {
    /// A plain WebSocket server: /echo, /sink, /source?bytes=N&size=S, /broadcast.
    Backend {
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
    /// Connect, TLS, upgrade, one echo, Close; unit: one of these.
    Handshake {
        #[command(flatten)]
        common: Common,
        /// Each resumes a TLS session.
        #[arg(long)]
        resume: bool,
    },
    /// Echoes in a closed loop; unit: one echo.
    Echo {
        #[command(flatten)]
        common: Common,
        /// So many more tunnels are open and say nothing.
        #[arg(long, default_value_t = 0)]
        idle_tunnels: usize,
    },
    /// Payload one way, as fast as it goes; unit: one MiB.
    Bulk {
        #[command(flatten)]
        common: Common,
        #[arg(long, value_enum)]
        direction: Direction,
    },
    /// Echoes at fixed times; latency from the intended one; unit: one echo.
    OpenLoop {
        #[command(flatten)]
        common: Common,
        /// Messages a second over all tunnels.
        #[arg(long)]
        rate: f64,
    },
    /// One sends, all receive; unit: one delivery.
    Broadcast {
        #[command(flatten)]
        common: Common,
        /// Messages a second.
        #[arg(long)]
        rate: f64,
    },
    /// Memory of open tunnels, and CPU while they say nothing; unit: one tunnel opened.
    Idle {
        #[command(flatten)]
        common: Common,
        /// Seconds in which nothing happens.
        #[arg(long, default_value_t = 5.0, value_parser = seconds)]
        hold: f64,
    },
    /// Waves of tunnels that come and go; unit: one tunnel.
    Churn {
        #[command(flatten)]
        common: Common,
        #[arg(long, default_value_t = 10)]
        waves: usize,
        /// They go by a reset instead of a Close.
        #[arg(long)]
        reset: bool,
    },
    /// Echoes on some of many open tunnels; unit: one echo.
    CostAt {
        #[command(flatten)]
        common: Common,
        #[arg(long, value_parser = some)]
        active: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    Up,
    Down,
}

#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Whom to connect to.
    #[arg(long, value_parser = resolve)]
    pub connect: SocketAddr,
    /// Certificates to trust, PEM; TLS 1.3 with one suite and one group.
    #[arg(long, required_unless_present = "plain", conflicts_with = "plain")]
    pub ca: Option<PathBuf>,
    /// The name to ask for, in TLS and as Host.
    #[arg(long, default_value = "localhost")]
    pub name: String,
    /// ws:// instead of wss://.
    #[arg(long)]
    pub plain: bool,
    /// The processes whose CPU and memory are measured.
    #[arg(long, value_delimiter = ',')]
    pub pids: Vec<u32>,
    /// The measured time.
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    pub seconds: f64,
    /// The time before it.
    #[arg(long, default_value_t = 0.3, value_parser = seconds)]
    pub warmup: f64,
    #[arg(long, value_parser = some)]
    pub tunnels: Option<usize>,
    /// Bytes of a message.
    #[arg(long, value_parser = bytes)]
    pub size: Option<usize>,
    /// Messages of one tunnel that are on their way at a time.
    #[arg(long, default_value_t = 1, value_parser = some)]
    pub inflight: usize,
    #[arg(long)]
    pub path: Option<String>,
    /// Addresses to connect from, 127.0.0.2 and on; 1 leaves it to the kernel.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=250))]
    pub sources: u8,
    /// Handshakes under way at a time; 8 in `handshake`, else 64.
    #[arg(long, value_parser = some)]
    pub concurrency: Option<usize>,
}

fn resolve(text: &str) -> Result<SocketAddr, String> {
    let mut found = text.to_socket_addrs().map_err(|error| error.to_string())?;
    found.next().ok_or_else(|| "no such address".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    let fits = (0.0..=SECONDS_MAX).contains(&seconds);
    if fits { Ok(seconds) } else { Err(format!("must be 0 to {SECONDS_MAX}")) }
}

fn some(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("must be a whole number above 0".to_owned()),
        Ok(number) => Ok(number),
    }
}

fn bytes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes) if bytes <= MESSAGE_BYTES_MAX => Ok(bytes),
        Ok(_) | Err(_) => Err(format!("must be 0 to {MESSAGE_BYTES_MAX}")),
    }
}
