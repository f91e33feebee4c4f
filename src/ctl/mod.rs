//! `tidegate ctl`: the asking end of [`crate::protocol`]. Each command is one request, or a few, and
//! a table or a sentence made of the answer.

pub mod args;
pub(crate) mod client;
pub(crate) mod configuration;
pub(crate) mod explain;
pub(crate) mod figures;
pub(crate) mod orders;
pub(crate) mod sessions;
pub(crate) mod speech;
pub(crate) mod status;
pub(crate) mod table;
pub(crate) mod tail;
pub(crate) mod top;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::args::{CtlCommand, WeightArg};
use self::client::ControlClient;
use self::speech::{CommandFailure, Output, say_line};
use crate::ctl::args::CtlArgs;
use crate::protocol::answer::{CommandError, CommandErrorKind, Response};
use crate::protocol::{ControlRequest, line};

/// Does what the command line says.
pub fn main(ctl: CtlArgs) -> ExitCode {
    let speech =
        Output::new(ControlClient::new(ctl.socket.unwrap_or_else(default_socket)), ctl.json);
    finished(obey(&speech, ctl.command))
}

/// What a running process would change if it read this file, whose text is good in itself.
pub fn diff(socket: Option<PathBuf>, json: bool, file: &Path, text: String) -> ExitCode {
    let speech = Output::new(ControlClient::new(socket.unwrap_or_else(default_socket)), json);
    finished(configuration::diff(&speech, file, text))
}

/// Refuses a configuration as a running process would, one fault a line, for programs.
pub fn refuse(faults: Vec<String>) -> ExitCode {
    let message = "the configuration is refused".to_owned();
    let fault = CommandError { kind: CommandErrorKind::Refused, message, faults };
    let mut answer = line(&Response::<()>::Fault(fault.clone()));
    answer.pop();
    let said = say_line(&answer);
    finished(said.and(Err(CommandFailure::Refused { fault, config: true, said: true })))
}

fn obey(speech: &Output, command: CtlCommand) -> Result<(), CommandFailure> {
    match command {
        CtlCommand::Status => status::status(speech),
        CtlCommand::Top => top::top(speech),
        CtlCommand::Sessions(which) => sessions::list(speech, which),
        CtlCommand::Session { session } => sessions::one(speech, session),
        CtlCommand::Kill(kill) => orders::kill(speech, kill),
        CtlCommand::Drain(drain) => orders::drain(speech, drain),
        CtlCommand::Undrain(place) => orders::undrain(speech, place.into()),
        CtlCommand::Weight { backend, weight, route } => {
            let weight = match weight {
                WeightArg::File => None,
                WeightArg::Is(weight) => Some(weight),
            };
            orders::weight(speech, ControlRequest::Weight { backend, route, weight })
        }
        CtlCommand::Tail { session } => tail::tail(speech, session),
        CtlCommand::Explain { url, origin, address } => {
            let address = address.map(|address| address.to_string());
            explain::explain(speech, &ControlRequest::Explain { url, origin, address })
        }
        // It always waits: a reload that nobody hears of has not gone well.
        CtlCommand::Reload { wait: _ } => configuration::reload(speech),
        CtlCommand::Config { changed } => configuration::effective(speech, changed),
        CtlCommand::LogLevel { level } => configuration::log_level(speech, level),
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
