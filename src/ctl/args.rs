//! What `tidegate ctl` may be told, and what its help and its man pages say.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};

use crate::config::values::units::{PerSecond, parse_duration};
use crate::protocol::{CloseRequest, DrainPacing, DrainScope, Selection};

/// Where to ask, how to say the answer, and what to ask.
#[derive(Clone, Debug, Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Examples:
  tidegate ctl status
  tidegate ctl sessions --sort rate --limit 20
  tidegate ctl drain --backend 10.0.0.7:9001 --window 1m --wait
  tidegate ctl explain wss://chat.example.com/ws --origin https://example.com"
)]
pub struct CtlArgs {
    /// The control socket [default: control.sock in $RUNTIME_DIRECTORY or, without one, in
    /// /run/tidegate]
    #[arg(long, global = true, value_name = "PATH", display_order = 900)]
    pub socket: Option<PathBuf>,
    /// Print the answer as the line of JSON it is.
    #[arg(long, global = true, display_order = 901)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: CtlCommand,
}

/// The commands, in groups: looking, closing, steering, configuring.
#[derive(Clone, Debug, Subcommand)]
pub enum CtlCommand {
    /// How the process is: tunnels, traffic, refusals, backends, certificates.
    Status,
    /// Watch the busiest tunnels in the terminal.
    ///
    /// A live table of the tunnels, asked for each second: sort it, filter it, look into a tunnel, close
    /// one. Press `?` in it for its keys.
    Top,
    /// List open tunnels.
    #[command(after_help = "Examples:
  tidegate ctl sessions --client 192.0.2.7
  tidegate ctl sessions --route chat --older 1h --sort bytes --limit 10
  tidegate ctl sessions --json | jq '.ok.sessions[].session'")]
    Sessions(SessionsArgs),
    /// Everything known of one tunnel.
    Session {
        /// Its number, as in lists and in records.
        #[arg(value_name = "ID")]
        session: u64,
    },
    /// Close tunnels at once.
    ///
    /// Each gets a Close at its next frame boundary. What is given must all apply: with --route chat
    /// --older 1h only old tunnels of that route are closed.
    #[command(after_help = "Examples:
  tidegate ctl kill 4711
  tidegate ctl kill --client 192.0.2.7 --code 1008 --reason 'against the rules'
  tidegate ctl kill --route chat --older 24h")]
    Kill(KillArgs),
    /// Close tunnels one by one, and keep new ones away meanwhile and afterwards.
    ///
    /// The closes are spread evenly over a window, so that the clients do not come back all at once.
    /// New tunnels stay away from a backend or a route, or from everything with --all, until
    /// `tidegate ctl undrain`. Draining a client or by age keeps nobody away.
    #[command(after_help = "Examples:
  tidegate ctl drain --backend 10.0.0.7:9001 --wait
  tidegate ctl drain --route chat --window 5m --rate 20/s
  tidegate ctl drain --older 12h --window 10m --deadline 11m --reason 'please come back'")]
    Drain(DrainArgs),
    /// Let new tunnels in again where a drain kept them away.
    Undrain(ScopeArgs),
    /// Give a backend another share of the clients, until the file says otherwise.
    #[command(after_help = "Examples:
  tidegate ctl weight 10.0.0.7:9001 5
  tidegate ctl weight 10.0.0.7:9001 file")]
    Weight {
        /// The backend, as in `tidegate ctl status`.
        backend: String,
        /// Its weight among the backends of a route; `file`: as in the configuration file.
        #[arg(value_name = "N|file", value_parser = weight)]
        weight: WeightArg,
        /// On this route only.
        #[arg(long)]
        route: Option<String>,
    },
    /// Follow the frames of a tunnel: time, sender, kind and length of each, never what is in it.
    Tail {
        /// Number of the tunnel.
        #[arg(value_name = "ID")]
        session: u64,
    },
    /// Tell what would happen to a handshake: which route, limits and backend, or which refusal.
    #[command(after_help = "Examples:
  tidegate ctl explain wss://chat.example.com/ws
  tidegate ctl explain wss://chat.example.com/ws --origin https://evil.example --address 192.0.2.7")]
    Explain {
        /// What a client would open, as in wss://chat.example.com/ws
        url: String,
        /// With this Origin; without: as a program that is no browser.
        #[arg(long)]
        origin: Option<String>,
        /// From this address; without: from 192.0.2.1, which is nobody's.
        #[arg(long, value_name = "IP")]
        address: Option<IpAddr>,
    },
    /// Read the configuration again, all or nothing, and tell how it went.
    ///
    /// Exits with 78, and prints every fault, if the configuration is refused; the one in force then
    /// stays. `tidegate check --diff` tells beforehand what a reload would change.
    Reload {
        /// Wait for the outcome, which is what happens without it as well; for unit files to say so.
        #[arg(long)]
        wait: bool,
    },
    /// The configuration in force: every key, its value, and where that comes from.
    Config {
        /// Only what was set: by a line of the file, or over this socket.
        #[arg(long)]
        changed: bool,
    },
    /// Tell how much is logged, or change it until a reload changes it in the file, or the next start.
    LogLevel {
        /// The new level.
        level: Option<LogLevelArg>,
    },
}

/// Which tunnels to list, and how.
#[derive(Clone, Debug, Default, Args)]
pub struct SessionsArgs {
    /// Which.
    #[command(flatten)]
    pub which: SelectionArgs,
    /// By what they are sorted, the most of it first [default: as they came, the oldest first]
    ///
    /// `rate` takes a second, as it compares two lists.
    #[arg(long, value_name = "KEY")]
    pub sort: Option<SessionOrder>,
    /// No more than so many.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

/// By what tunnels are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SessionOrder {
    /// How long they have been open.
    Age,
    /// Bytes in both directions.
    Bytes,
    /// Messages in both directions.
    Messages,
    /// Bytes a second, now.
    Rate,
    /// The client's last round trip.
    Rtt,
}

/// Which tunnels; all that is given applies.
#[derive(Clone, Debug, Default, Args)]
pub struct SelectionArgs {
    /// Of this client: an address, or a key as records have it (192.0.2.7, 2001:db8::/64)
    #[arg(long)]
    pub client: Option<String>,
    /// On this route.
    #[arg(long)]
    pub route: Option<String>,
    /// To this backend.
    #[arg(long)]
    pub backend: Option<String>,
    /// Open for longer than this: 90s, 15m, 12h
    #[arg(long, value_name = "AGE", value_parser = parse_duration)]
    pub older: Option<Duration>,
}

impl SelectionArgs {
    /// As it is asked.
    pub fn selection(self, sessions: Vec<u64>) -> Selection {
        let Self { client, route, backend, older } = self;
        Selection { sessions, client, route, backend, older_ms: older.map(millis) }
    }
}

/// Which tunnels to close at once, and what they are told.
#[derive(Clone, Debug, Args)]
#[command(group = which_must_be_said(&["sessions", "client", "route", "backend", "older", "all"]))]
pub struct KillArgs {
    /// Tunnels by their numbers.
    #[arg(value_name = "ID")]
    pub sessions: Vec<u64>,
    /// Which.
    #[command(flatten)]
    pub which: SelectionArgs,
    /// Every tunnel.
    #[arg(long, conflicts_with_all = ["sessions", "client", "route", "backend", "older"])]
    pub all: bool,
    /// What they are told.
    #[command(flatten)]
    pub says: CloseArgs,
}

/// Which tunnels to close one by one, how fast, and what they are told.
#[derive(Clone, Debug, Args)]
#[command(group = which_must_be_said(&["client", "route", "backend", "older", "all"]))]
pub struct DrainArgs {
    /// Which.
    #[command(flatten)]
    pub which: SelectionArgs,
    /// Every tunnel.
    #[arg(long, conflicts_with_all = ["client", "route", "backend", "older"])]
    pub all: bool,
    /// Spread the closes over this time [default: as in the configuration]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub window: Option<Duration>,
    /// Close no more than so many a second, as in 100/s; the window becomes as long as that takes
    /// [default: as in the configuration]
    #[arg(long, value_name = "N/s", value_parser = PerSecond::parse)]
    pub rate: Option<PerSecond>,
    /// Cut what is left after this time [default: as in the configuration]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub deadline: Option<Duration>,
    /// What they are told.
    #[command(flatten)]
    pub says: CloseArgs,
    /// Return when it is over, and tell how many had to be cut.
    #[arg(long)]
    pub wait: bool,
}

impl DrainArgs {
    /// How fast.
    pub fn pacing(&self) -> DrainPacing {
        DrainPacing {
            window_ms: self.window.map(millis),
            per_second: self.rate.map(|rate| rate.0.get()),
            deadline_ms: self.deadline.map(millis),
        }
    }
}

/// What a closed tunnel's client is told.
#[derive(Clone, Debug, Default, Args)]
pub struct CloseArgs {
    /// Close with this code (RFC 6455 7.4).
    #[arg(long, value_parser = clap::value_parser!(u16).range(1000..=4999))]
    pub code: Option<u16>,
    /// And this reason, of at most 123 bytes.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub reason: Option<String>,
}

impl From<CloseArgs> for CloseRequest {
    fn from(CloseArgs { code, reason }: CloseArgs) -> Self {
        Self { code, reason }
    }
}

/// Where new tunnels may come again.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ScopeArgs {
    /// Everywhere.
    #[arg(long)]
    pub all: bool,
    /// On this route.
    #[arg(long)]
    pub route: Option<String>,
    /// At this backend, on whatever routes.
    #[arg(long)]
    pub backend: Option<String>,
}

impl From<ScopeArgs> for DrainScope {
    fn from(ScopeArgs { all: _, route, backend }: ScopeArgs) -> Self {
        match (route, backend) {
            (Some(route), _) => Self::Route(route),
            (None, Some(backend)) => Self::Backend(backend),
            // One of the three is there.
            (None, None) => Self::All,
        }
    }
}

/// A backend's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightArg {
    /// As in the file.
    File,
    /// Relative to the other backends of a route.
    Is(u32),
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevelArg {
    /// What went wrong.
    Error,
    /// What may go wrong.
    Warn,
    /// What happens to the process.
    Info,
    /// What happens to connections.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevelArg {
    /// As in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// In whole milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn which_must_be_said(names: &'static [&'static str]) -> ArgGroup {
    ArgGroup::new("which").args(names).required(true).multiple(true)
}

fn weight(text: &str) -> Result<WeightArg, String> {
    match text {
        "file" => Ok(WeightArg::File),
        _ => text.parse().map(WeightArg::Is).map_err(|_| {
            "write a whole number, or \"file\" for what the configuration file says".to_owned()
        }),
    }
}

fn reason(text: &str) -> Result<String, String> {
    match text.len() {
        // RFC 6455 5.5: a control frame holds 125 bytes, two of them the code.
        0..=123 => Ok(text.to_owned()),
        length => Err(format!("it has {length} bytes; a Close holds 123")),
    }
}
