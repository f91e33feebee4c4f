//! `tidegate ctl`: the asking end of [`crate::protocol`]. Each command is one request, or a few, and
//! a table or a sentence made of the answer.

pub mod args;
pub(crate) mod client;
pub(crate) mod commands;
pub(crate) mod configuration;
pub(crate) mod explain;
pub(crate) mod format;
pub(crate) mod output;
pub(crate) mod sessions;
pub(crate) mod status;
pub(crate) mod table;
pub(crate) mod tail;
pub(crate) mod top;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::args::{CtlCommand, WeightArg};
use self::client::ControlClient;
use self::output::{CommandFailure, Output, say_line};
use crate::ctl::args::CtlArgs;
use crate::protocol::response::{CommandError, CommandErrorKind, Response};
use crate::protocol::{ControlRequest, encode};

/// Does what the command line says.
pub fn main(ctl: CtlArgs) -> ExitCode {
    let output =
        Output::new(ControlClient::new(ctl.socket.unwrap_or_else(default_socket)), ctl.json);
    finished(obey(&output, ctl.command))
}

/// What a running process would change if it read this file, whose text is good in itself.
pub fn diff(socket: Option<PathBuf>, json: bool, file: &Path, text: String) -> ExitCode {
    let output = Output::new(ControlClient::new(socket.unwrap_or_else(default_socket)), json);
    finished(configuration::diff(&output, file, text))
}

/// Refuses a configuration as a running process would, one fault a line, for programs.
pub fn refuse(faults: Vec<String>) -> ExitCode {
    let message = "the configuration is refused".to_owned();
    let fault = CommandError { kind: CommandErrorKind::Rejected, message, errors: faults };
    let mut answer = encode(&Response::<()>::Error(fault.clone()));
    answer.pop();
    let said = say_line(&answer);
    finished(said.and(Err(CommandFailure::Refused { fault, config: true, said: true })))
}

fn obey(output: &Output, command: CtlCommand) -> Result<(), CommandFailure> {
    match command {
        CtlCommand::Status => status::status(output),
        CtlCommand::Top => top::top(output),
        CtlCommand::Sessions(which) => sessions::list(output, which),
        CtlCommand::Session { session } => sessions::one(output, session),
        CtlCommand::Kill(kill) => commands::kill(output, kill),
        CtlCommand::Drain(drain) => commands::drain(output, drain),
        CtlCommand::Undrain(place) => commands::undrain(output, place.into()),
        CtlCommand::Weight { backend, weight, route } => {
            let weight = match weight {
                WeightArg::File => None,
                WeightArg::Is(weight) => Some(weight),
            };
            commands::weight(output, ControlRequest::Weight { backend, route, weight })
        }
        CtlCommand::Tail { session } => tail::tail(output, session),
        CtlCommand::Explain { url, origin, address } => {
            let address = address.map(|address| address.to_string());
            explain::explain(output, &ControlRequest::Explain { url, origin, address })
        }
        // It always waits: a reload that nobody hears of has not gone well.
        CtlCommand::Reload { wait: _ } => configuration::reload(output),
        CtlCommand::Config { changed } => configuration::effective(output, changed),
        CtlCommand::LogLevel { level } => configuration::log_level(output, level),
    }
}

fn finished(result: Result<(), CommandFailure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(ending) => ending.tell(),
    }
}

/// Where a service manager, or the shipped unit, has the socket.
fn default_socket() -> PathBuf {
    let given = env::var_os("RUNTIME_DIRECTORY").filter(|given| !given.is_empty());
    let folder = given.map(|given| {
        // systemd separates several with colons.
        env::split_paths(&given).next().unwrap_or_default()
    });
    folder.unwrap_or_else(|| PathBuf::from("/run/tidegate")).join("control.sock")
}
