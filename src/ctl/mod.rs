//! `tidegate ctl`, the client of the control socket. Each command sends one or a few requests and
//! formats the responses.

pub mod arg_values;
pub mod args;
pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod commands;
pub(crate) mod configuration;
pub(crate) mod explain;
pub(crate) mod format;
pub(crate) mod output;
pub(crate) mod rebalance;
pub(crate) mod sessions;
pub(crate) mod status;
pub(crate) mod table;
pub(crate) mod tail;
pub(crate) mod top;
pub mod tunnel_args;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::arg_values::{SwitchArg, WeightArg};
use self::args::CtlCommand;
use self::client::ControlClient;
use self::output::{CommandFailure, Output, write_line};
use crate::control_protocol::place::{CONTROL_SOCKET, RUNTIME_FOLDER, runtime_directory};
use crate::control_protocol::response::{CommandError, CommandErrorKind, Response};
use crate::control_protocol::{ControlRequest, encode};
use crate::ctl::args::CtlArgs;

/// Runs a command and returns its exit code.
pub fn main(ctl: CtlArgs) -> ExitCode {
    let output =
        Output::new(ControlClient::new(ctl.socket.unwrap_or_else(default_socket)), ctl.json);
    exit_code(run(&output, ctl.command))
}

/// Prints what a running process would change if it reloaded this file, which was already
/// validated.
pub fn diff(socket: Option<PathBuf>, json: bool, file: &Path, text: String) -> ExitCode {
    let output = Output::new(ControlClient::new(socket.unwrap_or_else(default_socket)), json);
    exit_code(configuration::diff(&output, file, text))
}

/// Prints the diagnostics of an invalid configuration as JSON, in the format of the control socket.
pub fn print_rejection(errors: Vec<String>) -> ExitCode {
    let message = "the configuration is invalid".to_owned();
    let error = CommandError { kind: CommandErrorKind::Rejected, message, errors };
    let mut line = encode(&Response::<()>::Error(error.clone()));
    line.pop();
    let written = write_line(&line);
    exit_code(written.and(Err(CommandFailure::ErrorResponse {
        error,
        is_config_request: true,
        printed: true,
    })))
}

fn run(output: &Output, command: CtlCommand) -> Result<(), CommandFailure> {
    match command {
        CtlCommand::Status => status::status(output),
        CtlCommand::Top => top::top(output),
        CtlCommand::Sessions(args) => sessions::list(output, args),
        CtlCommand::Session { session } => sessions::detail(output, session),
        CtlCommand::Kill(args) => commands::kill(output, args),
        CtlCommand::Drain(args) => commands::drain(output, args),
        CtlCommand::Undrain(scope) => commands::undrain(output, scope.into()),
        CtlCommand::Weight { backend, weight, route } => {
            let weight = match weight {
                WeightArg::File => None,
                WeightArg::Value(weight) => Some(weight),
            };
            commands::weight(output, ControlRequest::Weight { backend, route, weight })
        }
        CtlCommand::Canary { pool, share } => {
            commands::canary(output, pool, Some(share).filter(|share| share != "file"))
        }
        CtlCommand::Rebalance(args) => rebalance::rebalance(output, args),
        CtlCommand::Maintenance { route, state } => {
            commands::maintenance(output, route, state == SwitchArg::On)
        }
        CtlCommand::Certs => certificates::list(output),
        CtlCommand::Renew { name } => certificates::renew(output, name),
        CtlCommand::Tail { session } => tail::tail(output, session),
        CtlCommand::Explain { url, origin, address, headers } => {
            let address = address.map(|address| address.to_string());
            let request = ControlRequest::Explain { url, origin, address, headers };
            explain::explain(output, &request)
        }
        // Always waits, so that a failed reload is never reported as a success.
        CtlCommand::Reload { wait: _ } => configuration::reload(output),
        CtlCommand::Config { changed } => configuration::effective(output, changed),
        CtlCommand::LogLevel { level } => configuration::log_level(output, level),
    }
}

fn exit_code(result: Result<(), CommandFailure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// `$TIDEGATE_SOCKET`, or the path that a process uses if its configuration names none.
fn default_socket() -> PathBuf {
    let variable = env::var_os("TIDEGATE_SOCKET").filter(|path| !path.is_empty());
    let default = || {
        let folder = runtime_directory().unwrap_or_else(|| PathBuf::from(RUNTIME_FOLDER));
        folder.join(CONTROL_SOCKET)
    };
    variable.map_or_else(default, PathBuf::from)
}
