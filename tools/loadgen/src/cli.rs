//! The command line.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

const SECONDS_MAX: f64 = 86_400.0;

/// Load generator for WebSocket and HTTP proxies, and a backend for them
#[derive(Parser, Debug)]
pub struct Cli {
    #[command(subcommand)]
    pub role: Role,
}

#[derive(Subcommand, Debug)]
pub enum Role {
    /// Run a server without TLS: WebSockets on /echo, /sink, /source?bytes=N&size=S and /broadcast, and
    /// HTTP on any path with ?size=S&message=M
    Backend {
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
    /// Accept WebSockets without TLS, and open each as a stream of an HTTP/2 connection to the proxy (RFC
    /// 8441): scenarios with --plain that connect to it measure HTTP/2
    Bridge(BridgeOptions),
    /// Connect, TLS, upgrade, one echo, Close; the unit is one such connection
    Handshake {
        #[command(flatten)]
        common: Common,
        /// Resume a TLS session on every connection
        #[arg(long)]
        resume: bool,
        /// Reset each connection after its echo instead of closing it
        #[arg(long)]
        reset: bool,
        /// Stop after this number of connections instead of after --seconds; without a warm-up
        #[arg(long, value_parser = some)]
        count: Option<usize>,
    },
    /// Open all tunnels at once, with one echo each; the unit is one tunnel
    Storm {
        #[command(flatten)]
        common: Common,
        /// Keep each tunnel open until all have had their echo; otherwise it is closed after it
        #[arg(long)]
        hold: bool,
    },
    /// Echo at fixed times, first alone and then while another process runs a storm; the unit is one
    /// echo during the storm
    Living {
        #[command(flatten)]
        common: Common,
        /// Messages per second over all tunnels
        #[arg(long)]
        rate: f64,
        /// Number of tunnels that the storm opens and holds
        #[arg(long, value_parser = some)]
        storm: usize,
    },
    /// Connections with one echo at fixed times, first alone and then while another process starts
    /// handshakes that it does not complete; the unit is one connection during the flood
    Flood {
        #[command(flatten)]
        common: Common,
        /// Complete connections per second
        #[arg(long)]
        rate: f64,
        /// Incomplete handshakes per second
        #[arg(long)]
        flood: f64,
    },
    /// Start TLS handshakes at fixed times and do not complete them; the unit is one attempt
    HalfOpen {
        #[command(flatten)]
        common: Common,
        /// Attempts per second
        #[arg(long)]
        rate: f64,
    },
    /// Echo in a closed loop; the unit is one echo
    Echo {
        #[command(flatten)]
        common: Common,
        /// Number of additional tunnels that stay idle
        #[arg(long, default_value_t = 0)]
        idle_tunnels: usize,
    },
    /// Transfer data in one direction at maximum speed; the unit is one MiB
    Bulk {
        #[command(flatten)]
        common: Common,
        #[arg(long, value_enum)]
        direction: Direction,
    },
    /// Plain HTTP requests on kept-alive connections; the unit is one request, or one MiB of bodies
    /// that are not smaller
    Http {
        #[command(flatten)]
        common: Common,
        #[arg(long, value_enum)]
        method: Method,
        /// Stop each connection after this number of requests instead of after --seconds; without a warm-up
        #[arg(long, value_parser = some)]
        count: Option<usize>,
    },
    /// Echo at fixed times, with latency from the scheduled time; the unit is one echo
    OpenLoop {
        #[command(flatten)]
        common: Common,
        /// Messages per second over all tunnels
        #[arg(long)]
        rate: f64,
    },
    /// Send on one tunnel, receive on all; the unit is one delivered message
    Broadcast {
        #[command(flatten)]
        common: Common,
        /// Messages per second
        #[arg(long)]
        rate: f64,
    },
    /// Measure memory and CPU of idle tunnels; the unit is one opened tunnel
    Idle {
        #[command(flatten)]
        common: Common,
        /// Idle time in seconds
        #[arg(long, default_value_t = 5.0, value_parser = seconds)]
        hold: f64,
    },
    /// Open and close waves of tunnels; the unit is one tunnel
    Churn {
        #[command(flatten)]
        common: Common,
        #[arg(long, default_value_t = 10)]
        waves: usize,
        /// Reset the connections instead of closing them
        #[arg(long)]
        reset: bool,
    },
    /// Send given bytes on many connections, again and again, whatever the peer answers; the unit is one
    /// connection
    Attack {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        attack: AttackOptions,
    },
    /// Echo on some of many open tunnels; the unit is one echo
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

/// The one key exchange group that the client offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Group {
    X25519,
    /// The post-quantum hybrid
    #[value(name = "x25519mlkem768")]
    X25519MlKem768,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Method {
    Get,
    Post,
    /// GET and POST in turn, as Socket.IO sends them without a WebSocket
    Poll,
}

#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Address of the proxy
    #[arg(long, value_parser = resolve)]
    pub connect: SocketAddr,
    /// Trusted certificates in PEM; TLS 1.3 with one cipher suite and one group
    #[arg(long, required_unless_present = "plain", conflicts_with = "plain")]
    pub ca: Option<PathBuf>,
    /// Server name for TLS and the Host header
    #[arg(long, default_value = "localhost")]
    pub name: String,
    /// Key exchange group; no other is offered
    #[arg(long, value_enum, default_value_t = Group::X25519)]
    pub group: Group,
    /// ws:// instead of wss://.
    #[arg(long)]
    pub plain: bool,
    /// Process ids to measure: CPU time and memory
    #[arg(long, value_delimiter = ',')]
    pub pids: Vec<u32>,
    /// Measurement time in seconds
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    pub seconds: f64,
    /// Warm-up time in seconds before the measurement
    #[arg(long, default_value_t = 0.3, value_parser = seconds)]
    pub warmup: f64,
    #[arg(long, visible_alias = "connections", value_parser = some)]
    pub tunnels: Option<usize>,
    /// Size of a message or an HTTP body in bytes
    #[arg(long)]
    pub size: Option<usize>,
    /// Messages in flight per tunnel
    #[arg(long, default_value_t = 1, value_parser = some)]
    pub inflight: usize,
    #[arg(long)]
    pub path: Option<String>,
    /// Number of source addresses from 127.0.0.2 on [default: the kernel chooses]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=250))]
    pub sources: Option<u8>,
    /// Concurrent handshakes [default: 8 in `handshake`, otherwise 64]
    #[arg(long, value_parser = some)]
    pub concurrency: Option<usize>,
}

#[derive(Args, Clone, Debug)]
pub struct BridgeOptions {
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Address of the proxy
    #[arg(long, value_parser = resolve)]
    pub connect: SocketAddr,
    /// Trusted certificates in PEM
    #[arg(long)]
    pub ca: PathBuf,
    /// Server name for TLS and :authority
    #[arg(long, default_value = "localhost")]
    pub name: String,
    /// Streams of each connection; a further WebSocket opens a new one
    #[arg(long, default_value_t = 32, value_parser = some)]
    pub streams: usize,
}

/// What each connection of an attack does: --first, then --repeat or --records, then its end.
#[derive(Args, Clone, Debug)]
pub struct AttackOptions {
    /// File with the first bytes; with several, connections take them in turn
    #[arg(long)]
    pub first: Vec<PathBuf>,
    /// Wait for a byte of the answer to --first
    #[arg(long)]
    pub answer: bool,
    /// File with the bytes to repeat
    #[arg(long)]
    pub repeat: Option<PathBuf>,
    /// Send each repetition only after a byte of the answer to the one before
    #[arg(long)]
    pub paced: bool,
    /// Before each repetition, send as many TLS records without content as libraries accept
    #[arg(long, value_enum, requires = "repeat", conflicts_with = "plain")]
    pub records: Option<Records>,
    /// Number of repetitions [default: until the peer closes]
    #[arg(long)]
    pub times: Option<u64>,
    /// Seconds between repetitions, and before a connection is opened again
    #[arg(long, default_value_t = 0.0, value_parser = seconds)]
    pub pause: f64,
    /// Plaintext bytes of each TLS record
    #[arg(long, default_value_t = 16 << 10, value_parser = some)]
    pub record: usize,
    /// Do not read what the peer sends
    #[arg(long)]
    pub unread: bool,
    /// Close the sending side after the repetitions
    #[arg(long)]
    pub half_close: bool,
    /// Wait for the peer to close instead of resetting the connection
    #[arg(long)]
    pub stay: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Records {
    Empty,
    KeyUpdate,
}

fn resolve(text: &str) -> Result<SocketAddr, String> {
    let mut found = text.to_socket_addrs().map_err(|error| error.to_string())?;
    found.next().ok_or_else(|| "the name has no address".to_owned())
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
