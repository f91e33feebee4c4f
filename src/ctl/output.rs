//! What is said to whoever asked: the answer on standard output, for people or as it came, and how
//! the program ends.

use std::env;
use std::fmt;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use serde::de::{DeserializeOwned, IgnoredAny};

use super::client::{ClientError, ClientErrorKind, ControlClient};
use super::table::{TextTable, sanitize};
use crate::protocol::response::{CommandError, CommandErrorKind, Response};
use crate::protocol::{ControlRequest, decode};

/// Asks on behalf of a command, and says what is answered.
#[derive(Clone, Debug)]
pub struct Output {
    /// Who is asked.
    pub client: ControlClient,
    /// Answers are said as they came.
    pub json: bool,
    /// Headings may be bold.
    pub colour: bool,
}

impl Output {
    /// On the standard output of this process.
    pub fn new(client: ControlClient, json: bool) -> Self {
        let plain = env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty())
            || env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self { client, json, colour: io::stdout().is_terminal() && !plain }
    }

    /// Asks, and says the answer: as it came, or as `show` puts it.
    pub fn put<T: DeserializeOwned>(
        &self,
        request: &ControlRequest,
        show: impl FnOnce(T) -> String,
    ) -> Result<(), CommandFailure> {
        self.told(request, self.client.line(request)?, show)
    }

    /// The same for what may take its time.
    pub fn put_within<T: DeserializeOwned>(
        &self,
        request: &ControlRequest,
        patience: Option<Duration>,
        show: impl FnOnce(T) -> String,
    ) -> Result<(), CommandFailure> {
        self.told(request, self.client.line_within(request, patience)?, show)
    }

    /// Asks for something to work with, before anything is said.
    pub fn ask<T: DeserializeOwned>(&self, request: &ControlRequest) -> Result<T, CommandFailure> {
        let line = self.client.line(request)?;
        self.sift(request, &line)
    }

    fn told<T: DeserializeOwned>(
        &self,
        request: &ControlRequest,
        line: Vec<u8>,
        show: impl FnOnce(T) -> String,
    ) -> Result<(), CommandFailure> {
        if self.json {
            // Only whether it is an answer; what is in it is for others to read.
            self.sift::<IgnoredAny>(request, &line)?;
            return say_line(&line);
        }
        say(&show(self.sift(request, &line)?))
    }

    /// What a line holds; a fault that is to be said as it came is said here.
    pub fn sift<T: DeserializeOwned>(
        &self,
        request: &ControlRequest,
        line: &[u8],
    ) -> Result<T, CommandFailure> {
        match decode::<Response<T>>(line) {
            Ok(Response::Ok(value)) => Ok(value),
            Ok(Response::Error(fault)) => {
                if self.json {
                    say_line(line)?;
                }
                let config =
                    matches!(request, ControlRequest::Reload | ControlRequest::Diff { .. });
                Err(CommandFailure::Refused { fault, config, said: self.json })
            }
            Err(error) => Err(CommandFailure::Unavailable(
                self.client.trouble(ClientErrorKind::Garbage(error)),
            )),
        }
    }

    /// A table, or what to say if it has no rows.
    pub fn table(&self, table: &TextTable, otherwise: &str) -> String {
        match table.is_empty() {
            true => format!("{otherwise}\n"),
            false => table.text(self.colour),
        }
    }
}

/// How a command ends if it does not just end.
#[derive(Debug)]
pub enum CommandFailure {
    /// Nobody reads any more.
    Closed,
    /// Standard output fails.
    Output(io::Error),
    /// The process says no.
    Refused {
        /// In its words.
        fault: CommandError,
        /// It is about a configuration.
        config: bool,
        /// It was said already, as it came.
        said: bool,
    },
    /// There is no answer.
    Unavailable(ClientError),
    /// It cannot be meant so.
    Usage(String),
}

impl CommandFailure {
    /// Says why on standard error, and gives the exit code.
    pub fn tell(&self) -> ExitCode {
        let code = match self {
            Self::Closed => return ExitCode::SUCCESS,
            Self::Output(_) => EX_REFUSED,
            Self::Refused { fault, config, .. } => {
                let faulty = fault.kind == CommandErrorKind::Rejected && !fault.errors.is_empty();
                if *config && faulty { EX_CONFIG } else { EX_REFUSED }
            }
            Self::Unavailable(_) => EX_UNAVAILABLE,
            Self::Usage(_) => EX_USAGE,
        };
        if let Self::Refused { fault, said: false, .. } = self {
            for line in &fault.errors {
                let _ = writeln!(io::stderr(), "{}", sanitize_lines(line));
            }
        }
        if !matches!(self, Self::Refused { said: true, .. }) {
            let _ = writeln!(io::stderr(), "tidegate: {self}");
        }
        ExitCode::from(code)
    }
}

impl fmt::Display for CommandFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("standard output is closed"),
            Self::Output(error) => write!(f, "standard output: {error}"),
            Self::Refused { fault, .. } => f.write_str(&sanitize_lines(&fault.message)),
            Self::Unavailable(trouble) => write!(f, "{trouble}"),
            Self::Usage(what) => f.write_str(what),
        }
    }
}

impl From<ClientError> for CommandFailure {
    fn from(trouble: ClientError) -> Self {
        Self::Unavailable(trouble)
    }
}

impl From<io::Error> for CommandFailure {
    fn from(error: io::Error) -> Self {
        match error.kind() == ErrorKind::BrokenPipe {
            true => Self::Closed,
            false => Self::Output(error),
        }
    }
}

/// Says text that has its line ends.
pub fn say(text: &str) -> Result<(), CommandFailure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Says one line as it came.
pub fn say_line(line: &[u8]) -> Result<(), CommandFailure> {
    let mut out = io::stdout().lock();
    out.write_all(line)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// Text of several lines, each [`sanitize`].
pub fn sanitize_lines(text: &str) -> String {
    text.split('\n').map(sanitize).collect::<Vec<_>>().join("\n")
}

/// What was asked was refused.
const EX_REFUSED: u8 = 1;
/// What was asked cannot be meant.
const EX_USAGE: u8 = 2;
/// sysexits.h: no process answers.
const EX_UNAVAILABLE: u8 = 69;
/// sysexits.h: something in the configuration is wrong.
const EX_CONFIG: u8 = 78;
