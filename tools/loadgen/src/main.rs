//! The load generator for `benches/peers`. One process runs the backend, another one runs a
//! scenario and prints its measurements as one JSON object.
//!
//! ```text
//! loadgen backend
//! loadgen echo --connect 127.0.0.1:8443 --ca ca.pem --pids 4711 --size 125 --tunnels 64
//! loadgen bridge --connect 127.0.0.1:8443 --ca ca.pem --streams 32
//! ```
//!
//! It has its own WebSocket framing and HTTP/1.1, and verifies every byte it receives. A wrong byte, or a rejected
//! or lost tunnel, ends the run with exit code 2 and `{"scenario":..,"failed":"why"}`.

#![expect(
    clippy::disallowed_methods,
    reason = "not the proxy: it reads the clock and has no drain"
)]
#![expect(clippy::print_stderr, reason = "error messages")]
#![allow(missing_docs, reason = "a program, not a library")]

mod backend;
mod bridge;
mod buffer;
mod cli;
mod client;
mod error;
mod frame;
mod http;
mod measure;
mod message;
mod scenario;

use std::io::Write;
use std::process::ExitCode;
use std::rc::Rc;

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Map, Value, json};

use cli::{Cli, Role};
use error::Error;
use scenario::Plan;

const EX_USAGE: u8 = 64;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let name = cli.role.name();
    match start(cli.role).and_then(|report| print(&Value::Object(report))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loadgen {name}: {}", error.0);
            let _ = print(&json!({ "scenario": name, "failed": error.0 }));
            ExitCode::from(2)
        }
    }
}

fn print(report: &Value) -> Result<(), Error> {
    Ok(writeln!(std::io::stdout().lock(), "{report}")?)
}

fn start(role: Role) -> Result<Map<String, Value>, Error> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    setrlimit(Resource::Nofile, raised).map_err(std::io::Error::from)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(run(role))
}

async fn run(role: Role) -> Result<Map<String, Value>, Error> {
    let name = role.name();
    match role {
        Role::Backend { listen } => backend::run(listen).await.map(|()| Map::new()),
        Role::Bridge(options) => bridge::run(options).await.map(|()| Map::new()),
        Role::Handshake { common, resume, reset, count } => {
            let plan = Rc::new(Plan::new(common, resume)?);
            scenario::handshake::run(plan, resume, reset, count).await
        }
        Role::Storm { common, hold } => {
            scenario::storm::run(Rc::new(Plan::unverified(common)?), hold).await
        }
        Role::Living { common, rate, storm } => {
            scenario::living::run(&Plan::new(common, false)?, rate, storm).await
        }
        Role::Flood { common, rate, flood } => {
            scenario::flood::run(Rc::new(Plan::new(common, false)?), rate, flood).await
        }
        Role::HalfOpen { common, rate } => {
            scenario::half_open::run(Rc::new(Plan::new(common, false)?), rate).await
        }
        Role::Echo { common, idle_tunnels } => {
            let plan = Plan::new(common, false)?;
            scenario::echo::run(&plan, name, plan.tunnels_or(64), idle_tunnels).await
        }
        Role::CostAt { common, active } => {
            let plan = Plan::new(common, false)?;
            let idle = plan.tunnels_or(active).saturating_sub(active);
            scenario::echo::run(&plan, name, active, idle).await
        }
        Role::Bulk { common, direction } => {
            scenario::bulk::run(&Plan::new(common, false)?, direction).await
        }
        Role::Http { common, method, count } => {
            scenario::http::run(&Plan::new(common, false)?, method, count).await
        }
        Role::OpenLoop { common, rate } => {
            scenario::open_loop::run(&Plan::new(common, false)?, rate).await
        }
        Role::Broadcast { common, rate } => {
            scenario::broadcast::run(&Plan::new(common, false)?, rate).await
        }
        Role::Attack { common, attack } => {
            scenario::attack::run(Rc::new(Plan::unverified(common)?), &attack).await
        }
        Role::Idle { common, hold } => scenario::idle::run(&Plan::new(common, false)?, hold).await,
        Role::Churn { common, waves, reset } => {
            scenario::churn::run(&Plan::new(common, false)?, waves, reset).await
        }
    }
}

impl Role {
    fn name(&self) -> &'static str {
        match self {
            Self::Backend { .. } => "backend",
            Self::Bridge(_) => "bridge",
            Self::Handshake { .. } => "handshake",
            Self::Storm { .. } => "storm",
            Self::Living { .. } => "living",
            Self::Flood { .. } => "flood",
            Self::HalfOpen { .. } => "half-open",
            Self::Echo { .. } => "echo",
            Self::Bulk { .. } => "bulk",
            Self::Http { .. } => "http",
            Self::OpenLoop { .. } => "open-loop",
            Self::Broadcast { .. } => "broadcast",
            Self::Attack { .. } => "attack",
            Self::Idle { .. } => "idle",
            Self::Churn { .. } => "churn",
            Self::CostAt { .. } => "cost-at",
        }
    }
}
