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

use self::args::{Command, Weight};
use self::client::Client;
use self::speech::{Ending, Speech, say_line};
use crate::ctl::args::Ctl;
use crate::protocol::answer::{Answer, Fault, FaultKind};
use crate::protocol::{Request, line};

/// Does what the command line says.
pub fn main(ctl: Ctl) -> ExitCode {
    let speech = Speech::new(Client::new(ctl.socket.unwrap_or_else(default_socket)), ctl.json);
    finished(obey(&speech, ctl.command))
}

/// What a running process would change if it read this file, whose text is good in itself.
pub fn diff(socket: Option<PathBuf>, json: bool, file: &Path, text: String) -> ExitCode {
    let speech = Speech::new(Client::new(socket.unwrap_or_else(default_socket)), json);
    finished(configuration::diff(&speech, file, text))
}

/// Refuses a configuration as a running process would, one fault a line, for programs.
pub fn refuse(faults: Vec<String>) -> ExitCode {
    let message = "the configuration is refused".to_owned();
    let fault = Fault { kind: FaultKind::Refused, message, faults };
    let mut answer = line(&Answer::<()>::Fault(fault.clone()));
    answer.pop();
    let said = say_line(&answer);
    finished(said.and(Err(Ending::Refused { fault, config: true, said: true })))
}

fn obey(speech: &Speech, command: Command) -> Result<(), Ending> {
    match command {
        Command::Status => status::status(speech),
        Command::Top => top::top(speech),
        Command::Sessions(which) => sessions::list(speech, which),
        Command::Session { session } => sessions::one(speech, session),
        Command::Kill(kill) => orders::kill(speech, kill),
        Command::Drain(drain) => orders::drain(speech, drain),
        Command::Undrain(place) => orders::undrain(speech, place.into()),
        Command::Weight { backend, weight, route } => {
            let weight = match weight {
                Weight::File => None,
                Weight::Is(weight) => Some(weight),
            };
            orders::weight(speech, Request::Weight { backend, route, weight })
        }
        Command::Tail { session } => tail::tail(speech, session),
        Command::Explain { url, origin, address } => {
            let address = address.map(|address| address.to_string());
            explain::explain(speech, &Request::Explain { url, origin, address })
        }
        // It always waits: a reload that nobody hears of has not gone well.
        Command::Reload { wait: _ } => configuration::reload(speech),
        Command::Config { changed } => configuration::effective(speech, changed),
        Command::LogLevel { level } => configuration::log_level(speech, level),
    }
}

fn finished(result: Result<(), Ending>) -> ExitCode {
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
