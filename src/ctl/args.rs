//! The arguments of `tidegate ctl`. The doc comments are the text of its help and man pages.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use ws::CLOSE_REASON_MAX;

use super::arg_values::{LogLevelArg, SwitchArg, WeightArg, weight};
use crate::config::values::units::{PerSecond, parse_duration};
use crate::control_protocol::{CloseRequest, DrainPacing, DrainScope, Selection};

/// The arguments that all commands share, and the command.
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
    /// Path of the control socket [default: $TIDEGATE_SOCKET, or control.sock in $RUNTIME_DIRECTORY, or
    /// in /run/tidegate if that is unset]
    #[arg(long, global = true, value_name = "PATH", display_order = 900)]
    pub socket: Option<PathBuf>,
    /// Print the response as one line of JSON.
    #[arg(long, global = true, display_order = 901)]
    pub json: bool,
    /// The command.
    #[command(subcommand)]
    pub command: CtlCommand,
}

/// The commands: inspection first, then changes to tunnels and routing, then configuration.
#[derive(Clone, Debug, Subcommand)]
pub enum CtlCommand {
    /// Show the state of the process: tunnels, traffic, rejections, backends, certificates.
    Status,
    /// Watch the busiest tunnels in the terminal.
    ///
    /// The table is refreshed every second. It can be sorted and filtered, and tunnels can be
    /// inspected and closed. Press `?` for the keys.
    Top,
    /// List open tunnels.
    #[command(after_help = "Examples:
  tidegate ctl sessions --client 192.0.2.7
  tidegate ctl sessions --route chat --older 1h --sort bytes --limit 10
  tidegate ctl sessions --json | jq '.ok.sessions[].session'")]
    Sessions(SessionsArgs),
    /// Show everything known about one tunnel.
    Session {
        /// Number of the tunnel, as in `tidegate ctl sessions` and in access records.
        #[arg(value_name = "ID")]
        session: u64,
    },
    /// Close tunnels immediately.
    ///
    /// Both sides of each tunnel get a Close at the next frame boundary. A tunnel must match every
    /// option: `--route chat --older 1h` closes only old tunnels of that route.
    #[command(after_help = "Examples:
  tidegate ctl kill 4711
  tidegate ctl kill --client 192.0.2.7 --code 1008 --reason 'abuse'
  tidegate ctl kill --route chat --older 24h")]
    Kill(KillArgs),
    /// Close tunnels gradually, and reject new ones.
    ///
    /// The closes are spread evenly over a window, so that clients do not all reconnect at once.
    /// New tunnels to the backend or route, or all new tunnels with --all, are rejected until
    /// `tidegate ctl undrain`. A drain by client or age rejects no new tunnels.
    #[command(after_help = "Examples:
  tidegate ctl drain --backend 10.0.0.7:9001 --wait
  tidegate ctl drain --route chat --window 5m --rate 20/s
  tidegate ctl drain --older 12h --window 10m --deadline 11m --reason 'please reconnect'")]
    Drain(DrainArgs),
    /// Admit new tunnels again after a drain.
    Undrain(ScopeArgs),
    /// Change the weight of a backend until it is reset or the file changes it.
    #[command(after_help = "Examples:
  tidegate ctl weight 10.0.0.7:9001 5
  tidegate ctl weight 10.0.0.7:9001 file")]
    Weight {
        /// Id of the backend, as in `tidegate ctl status`.
        backend: String,
        /// Weight relative to the other backends of a route; `file` restores the configured weight.
        #[arg(value_name = "N|file", value_parser = weight)]
        weight: WeightArg,
        /// Change the weight on this route only.
        #[arg(long)]
        route: Option<String>,
    },
    /// Change the share of requests for the canary backends of a pool until it is reset or the file changes it.
    ///
    /// "off" aborts: new requests go to the other backends, and open tunnels stay open.
    #[command(after_help = "Examples:
  tidegate ctl canary chat 5%
  tidegate ctl canary chat off
  tidegate ctl canary chat file")]
    Canary {
        /// Name of the pool.
        pool: String,
        /// Share such as 5% or 0.5%; `off` for none, `file` for that of the configuration file.
        #[arg(value_name = "SHARE|off|file")]
        share: String,
    },
    /// Switch the maintenance of a route on or off: 503 for its requests, while open tunnels stay open.
    ///
    /// It is kept over reloads, and ends with the process. The body of the response is that of
    /// `error_pages.503`. `route.maintenance_file` switches maintenance by a file.
    #[command(after_help = "Examples:
  tidegate ctl maintenance chat on
  tidegate ctl maintenance chat off")]
    Maintenance {
        /// Name of the route, as in `tidegate ctl status`.
        route: String,
        /// The new state.
        #[arg(value_name = "on|off")]
        state: SwitchArg,
    },
    /// List certificates: names, source, expiry, next order, and why the last one failed.
    Certs,
    /// Order a certificate of `[acme]` now, without waiting for its renewal or after a failure.
    ///
    /// The certificate in use stays active until the new one is issued. Certificate authorities limit the orders for a
    /// name, Let's Encrypt to five in a week.
    Renew {
        /// One of the names of the certificate.
        name: String,
    },
    /// Follow the frames of a tunnel: time, sender, opcode and length, never the payload.
    Tail {
        /// Number of the tunnel.
        #[arg(value_name = "ID")]
        session: u64,
    },
    /// Predict the answer to a handshake: route, limits and backend, or the reject reason.
    #[command(after_help = "Examples:
  tidegate ctl explain wss://chat.example.com/ws
  tidegate ctl explain wss://chat.example.com/ws --origin https://evil.example --address 192.0.2.7")]
    Explain {
        /// URL that a client would connect to, such as wss://chat.example.com/ws
        url: String,
        /// Value of the Origin header; without this option the request has none, like that of most
        /// programs other than browsers.
        #[arg(long)]
        origin: Option<String>,
        /// Address of the client [default: 192.0.2.1, a documentation address]
        #[arg(long, value_name = "IP")]
        address: Option<IpAddr>,
        /// A header field of the request, such as "Cookie: room=7"; may be given several times.
        #[arg(long = "header", value_name = "FIELD")]
        headers: Vec<String>,
    },
    /// Reload the configuration and print the changes.
    ///
    /// If the configuration is invalid, prints every error and exits with 78; the active
    /// configuration stays unchanged. `tidegate check --diff` shows in advance what a reload would
    /// change.
    Reload {
        /// Wait for the result. This is always the case; the option exists to be explicit in unit
        /// files.
        #[arg(long)]
        wait: bool,
    },
    /// Show the effective configuration: every key, its value and the origin of the value.
    Config {
        /// Show only keys that are set in the file or were changed by `tidegate ctl`.
        #[arg(long)]
        changed: bool,
    },
    /// Show or set the log level. It is kept until `log.level` changes in the file or the process
    /// exits.
    LogLevel {
        /// The new level.
        level: Option<LogLevelArg>,
    },
}

/// Arguments of `sessions`.
#[derive(Clone, Debug, Default, Args)]
pub struct SessionsArgs {
    /// Restricts the list.
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Sort by this column, largest first [default: oldest first]
    ///
    /// `rate` takes one second, because it compares two lists.
    #[arg(long, value_name = "KEY")]
    pub sort: Option<SessionOrder>,
    /// Show at most this many tunnels.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

/// Sort keys of `sessions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SessionOrder {
    /// Time since the tunnel opened.
    Age,
    /// Bytes in both directions.
    Bytes,
    /// Messages in both directions.
    Messages,
    /// Bytes per second in both directions.
    Rate,
    /// Latest round-trip time to the client.
    Rtt,
}

/// Options that select tunnels; a tunnel must match all of them.
#[derive(Clone, Debug, Default, Args)]
pub struct SelectionArgs {
    /// Tunnels of this client: an address, or a client key as in access records (192.0.2.7,
    /// 2001:db8::/64)
    #[arg(long)]
    pub client: Option<String>,
    /// Tunnels of this route.
    #[arg(long)]
    pub route: Option<String>,
    /// Tunnels to this backend.
    #[arg(long)]
    pub backend: Option<String>,
    /// Tunnels that are older than this: 90s, 15m, 12h
    #[arg(long, value_name = "AGE", value_parser = parse_duration)]
    pub older: Option<Duration>,
}

impl SelectionArgs {
    /// Combines these options with tunnel numbers to a selection of the control protocol.
    pub fn into_selection(self, sessions: Vec<u64>) -> Selection {
        let Self { client, route, backend, older } = self;
        Selection { sessions, client, route, backend, older_ms: older.map(millis) }
    }
}

/// Arguments of `kill`.
#[derive(Clone, Debug, Args)]
#[command(group = required_selection(&["sessions", "client", "route", "backend", "older", "all"]))]
pub struct KillArgs {
    /// Numbers of tunnels.
    #[arg(value_name = "ID")]
    pub sessions: Vec<u64>,
    /// The tunnels to close.
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Select every tunnel.
    #[arg(long, conflicts_with_all = ["sessions", "client", "route", "backend", "older"])]
    pub all: bool,
    /// Close code and reason.
    #[command(flatten)]
    pub close: CloseArgs,
}

/// Arguments of `drain`.
#[derive(Clone, Debug, Args)]
#[command(group = required_selection(&["client", "route", "backend", "older", "all"]))]
pub struct DrainArgs {
    /// The tunnels to close.
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Select every tunnel.
    #[arg(long, conflicts_with_all = ["client", "route", "backend", "older"])]
    pub all: bool,
    /// Spread the closes over this time [default: drain.window]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub window: Option<Duration>,
    /// Close at most this many per second, such as 100/s; extends the window if necessary
    /// [default: drain.rate]
    #[arg(long, value_name = "N/s", value_parser = PerSecond::parse)]
    pub rate: Option<PerSecond>,
    /// Abort the remaining tunnels after this time [default: drain.deadline]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub deadline: Option<Duration>,
    /// Close code and reason.
    #[command(flatten)]
    pub close: CloseArgs,
    /// Wait until the drain has finished, and print the number of aborted tunnels.
    #[arg(long)]
    pub wait: bool,
}

impl DrainArgs {
    /// Converts the options to the protocol's form.
    pub fn pacing(&self) -> DrainPacing {
        DrainPacing {
            window_ms: self.window.map(millis),
            per_second: self.rate.map(|rate| rate.0.get()),
            deadline_ms: self.deadline.map(millis),
        }
    }
}

/// Content of the Close frames.
#[derive(Clone, Debug, Default, Args)]
pub struct CloseArgs {
    /// Close with this code (RFC 6455 7.4).
    #[arg(long, value_parser = clap::value_parser!(u16).range(1000..=4999))]
    pub code: Option<u16>,
    /// Close with this reason, of at most 123 bytes.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub reason: Option<String>,
}

impl From<CloseArgs> for CloseRequest {
    fn from(CloseArgs { code, reason }: CloseArgs) -> Self {
        Self { code, reason }
    }
}

/// Arguments of `undrain`.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ScopeArgs {
    /// Stop draining everything.
    #[arg(long)]
    pub all: bool,
    /// Stop draining this route.
    #[arg(long)]
    pub route: Option<String>,
    /// Stop draining this backend, on all of its routes.
    #[arg(long)]
    pub backend: Option<String>,
}

impl From<ScopeArgs> for DrainScope {
    fn from(ScopeArgs { all: _, route, backend }: ScopeArgs) -> Self {
        match (route, backend) {
            (Some(route), _) => Self::Route(route),
            (None, Some(backend)) => Self::Backend(backend),
            // clap requires one of the three options.
            (None, None) => Self::All,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn required_selection(names: &'static [&'static str]) -> ArgGroup {
    ArgGroup::new("selection").args(names).required(true).multiple(true)
}

fn reason(text: &str) -> Result<String, String> {
    match text.len() {
        // A control frame holds 125 bytes, two of which are the close code (RFC 6455 5.5).
        0..=CLOSE_REASON_MAX => Ok(text.to_owned()),
        length => {
            Err(format!("it has {length} bytes; a Close frame holds at most {CLOSE_REASON_MAX}"))
        }
    }
}
