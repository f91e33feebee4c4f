//! The arguments of `tidegate ctl`. The doc comments are the text of its help and man pages.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::arg_values::{LogLevelArg, SwitchArg, WeightArg, weight};
use super::tunnel_args::{DrainArgs, KillArgs, RebalanceArgs, ScopeArgs, SelectionArgs};

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
    /// Close tunnels gradually, and send new ones elsewhere or reject them.
    ///
    /// The closes are spread evenly over a window, so that clients do not all reconnect at once.
    /// Until `tidegate ctl undrain`, new tunnels go to the other backends if a backend is drained, and are
    /// rejected if there are none, if a route is drained, or with --all. A drain by client or age concerns no
    /// new tunnels. The same drain given again replaces the first, for example to change its window.
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
    /// "off" aborts: new requests go to the other backends, and the tunnels of canaries are closed with
    /// 1012 at the rate of `pool.rebalance_rate`, so that their clients come back to the others.
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
    /// Close tunnels whose clients have another backend now, so that they come back to it.
    ///
    /// After a backend was added or got another weight, some clients belong to another backend than the
    /// one that their tunnels lead to. These tunnels, and no others, are closed with 1012, one after
    /// another. A client that was moved is not moved again within ten minutes. The rebalance goes on in
    /// the background; --stop ends it at any time, and what is open then stays open.
    #[command(after_help = "Examples:
  tidegate ctl rebalance --dry-run
  tidegate ctl rebalance --pool chat --rate 50/s
  tidegate ctl rebalance --stop")]
    Rebalance(RebalanceArgs),
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
