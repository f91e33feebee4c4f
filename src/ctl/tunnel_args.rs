//! The options of `tidegate ctl` that say which tunnels are closed, how fast, and with which code. The doc comments are
//! the text of its help and man pages.

use std::time::Duration;

use clap::{ArgGroup, Args};
use ws::{CLOSE_REASON_MAX, CloseCode};

use crate::config::values::units::{PerSecond, parse_duration};
use crate::control_protocol::{CloseRequest, DrainPacing, DrainScope, Selection, close_code};

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
    #[arg(long, value_parser = code)]
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

/// Arguments of `rebalance`.
#[derive(Clone, Debug, Args)]
pub struct RebalanceArgs {
    /// Rebalance this pool only, or the backends of the route with this name [default: all]
    #[arg(long, value_name = "NAME")]
    pub pool: Option<String>,
    /// Close this many tunnels of each pool per second, such as 50/s [default: pool.rebalance_rate]
    #[arg(long, value_name = "N/s", value_parser = PerSecond::parse, conflicts_with = "stop")]
    pub rate: Option<PerSecond>,
    /// Only count the tunnels that would be closed.
    #[arg(long, conflicts_with = "stop")]
    pub dry_run: bool,
    /// Stop the rebalances in progress; tunnels that are still open stay open.
    #[arg(long)]
    pub stop: bool,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn required_selection(names: &'static [&'static str]) -> ArgGroup {
    ArgGroup::new("selection").args(names).required(true).multiple(true)
}

fn code(text: &str) -> Result<u16, String> {
    let number = text
        .parse()
        .map_err(|_| "write a number of 1000 to 1003, 1007 to 1013, or 3000 to 4999".to_owned())?;
    close_code(number).map(CloseCode::get)
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
