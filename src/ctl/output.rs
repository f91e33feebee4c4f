//! Prints responses on standard output, as text or as JSON, and maps failures to exit codes.

use std::env;
use std::fmt;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use serde::de::{DeserializeOwned, IgnoredAny};

use super::client::{ClientError, ClientErrorKind, ControlClient};
use super::table::{TextTable, sanitize};
use crate::control_protocol::response::{CommandError, CommandErrorKind, Response};
use crate::control_protocol::{ControlRequest, decode};

/// Sends requests and prints the responses.
#[derive(Clone, Debug)]
pub struct Output {
    /// The connection to the proxy.
    pub client: ControlClient,
    /// Prints each response as the line of JSON that was received, instead of as text.
    pub json: bool,
    /// Allows bold and coloured text.
    pub colour: bool,
}

impl Output {
    /// An output to standard output. Text is coloured only on a terminal, and only if neither
    /// `NO_COLOR` nor `TERM=dumb` is set.
    pub fn new(client: ControlClient, json: bool) -> Self {
        let plain = env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty())
            || env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self { client, json, colour: io::stdout().is_terminal() && !plain }
    }

    /// Sends a request and prints the response: as received, or as formatted by `show`.
    ///
    /// # Errors
    ///
    /// Any [`CommandFailure`] except [`CommandFailure::Usage`].
    pub fn print<T: DeserializeOwned>(
        &self,
        request: &ControlRequest,
        show: impl FnOnce(T) -> String,
    ) -> Result<(), CommandFailure> {
        self.print_response(request, self.client.request(request)?, show)
    }

    /// Like [`Self::print`], for requests that take time; `None` waits indefinitely.
    ///
    /// # Errors
    ///
    /// Any [`CommandFailure`] except [`CommandFailure::Usage`].
    pub fn print_within<T: DeserializeOwned>(
        &self,
        request: &ControlRequest,
        timeout: Option<Duration>,
        show: impl FnOnce(T) -> String,
    ) -> Result<(), CommandFailure> {
        self.print_response(request, self.client.request_within(request, timeout)?, show)
    }

    /// Sends a request and returns the response without printing it.
    ///
    /// # Errors
    ///
    /// Any [`CommandFailure`] except [`CommandFailure::Usage`].
    pub fn request<T: DeserializeOwned>(
        &self,
        request: &ControlRequest,
    ) -> Result<T, CommandFailure> {
        let line = self.client.request(request)?;
        self.parse(request, &line)
    }

    fn print_response<T: DeserializeOwned>(
        &self,
        request: &ControlRequest,
        line: Vec<u8>,
        show: impl FnOnce(T) -> String,
    ) -> Result<(), CommandFailure> {
        if self.json {
            // The value is not checked: the line is printed for another program, which may know fields
            // of other versions.
            self.parse::<IgnoredAny>(request, &line)?;
            return write_line(&line);
        }
        write_text(&show(self.parse(request, &line)?))
    }

    /// Parses a line of a reply. In JSON mode an error response is printed here, as received.
    ///
    /// # Errors
    ///
    /// [`CommandFailure::ErrorResponse`] for an error response, [`CommandFailure::Unavailable`] if the
    /// line is not a response, or a failure of standard output.
    pub fn parse<T: DeserializeOwned>(
        &self,
        request: &ControlRequest,
        line: &[u8],
    ) -> Result<T, CommandFailure> {
        match decode::<Response<T>>(line) {
            Ok(Response::Ok(value)) => Ok(value),
            Ok(Response::Error(error)) => {
                if self.json {
                    write_line(line)?;
                }
                let is_config_request =
                    matches!(request, ControlRequest::Reload | ControlRequest::Diff { .. });
                Err(CommandFailure::ErrorResponse { error, is_config_request, printed: self.json })
            }
            Err(error) => Err(CommandFailure::Unavailable(
                self.client.error(ClientErrorKind::Malformed(error)),
            )),
        }
    }

    /// Formats a table, or returns `if_empty` as a line.
    pub fn table(&self, table: &TextTable, if_empty: &str) -> String {
        match table.is_empty() {
            true => format!("{if_empty}\n"),
            false => table.text(self.colour),
        }
    }
}

/// Why a command did not succeed.
#[derive(Debug)]
pub enum CommandFailure {
    /// Standard output was closed by its reader, which ends the command successfully.
    OutputClosed,
    /// Writing to standard output failed.
    OutputFailed(io::Error),
    /// The proxy answered with an error, of any kind.
    ErrorResponse {
        /// The error response.
        error: CommandError,
        /// Whether the request was about a configuration.
        is_config_request: bool,
        /// Whether the error was already printed as JSON.
        printed: bool,
    },
    /// No valid response was received.
    Unavailable(ClientError),
    /// The arguments are invalid.
    Usage(String),
}

impl CommandFailure {
    /// Prints the failure on standard error and returns the exit code.
    pub fn report(&self) -> ExitCode {
        let code = match self {
            Self::OutputClosed => return ExitCode::SUCCESS,
            Self::OutputFailed(_) => EX_FAILED,
            Self::ErrorResponse { error, is_config_request, .. } => {
                let has_diagnostics =
                    error.kind == CommandErrorKind::Rejected && !error.errors.is_empty();
                if *is_config_request && has_diagnostics { EX_CONFIG } else { EX_FAILED }
            }
            Self::Unavailable(_) => EX_UNAVAILABLE,
            Self::Usage(_) => EX_USAGE,
        };
        if let Self::ErrorResponse { error, printed: false, .. } = self {
            for line in &error.errors {
                let _ = writeln!(io::stderr(), "{}", sanitize_lines(line));
            }
        }
        if !matches!(self, Self::ErrorResponse { printed: true, .. }) {
            let _ = writeln!(io::stderr(), "tidegate: {self}");
        }
        ExitCode::from(code)
    }
}

impl fmt::Display for CommandFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutputClosed => f.write_str("standard output is closed"),
            Self::OutputFailed(error) => write!(f, "cannot write to standard output: {error}"),
            Self::ErrorResponse { error, .. } => f.write_str(&sanitize_lines(&error.message)),
            Self::Unavailable(error) => write!(f, "{error}"),
            Self::Usage(message) => f.write_str(message),
        }
    }
}

impl From<ClientError> for CommandFailure {
    fn from(error: ClientError) -> Self {
        Self::Unavailable(error)
    }
}

impl From<io::Error> for CommandFailure {
    fn from(error: io::Error) -> Self {
        match error.kind() == ErrorKind::BrokenPipe {
            true => Self::OutputClosed,
            false => Self::OutputFailed(error),
        }
    }
}

/// Writes text that already contains its newlines.
///
/// # Errors
///
/// [`CommandFailure::OutputClosed`] or [`CommandFailure::OutputFailed`].
pub fn write_text(text: &str) -> Result<(), CommandFailure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Writes one line and its newline.
///
/// # Errors
///
/// [`CommandFailure::OutputClosed`] or [`CommandFailure::OutputFailed`].
pub fn write_line(line: &[u8]) -> Result<(), CommandFailure> {
    let mut out = io::stdout().lock();
    out.write_all(line)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// Applies [`sanitize`] to each line of a text.
fn sanitize_lines(text: &str) -> String {
    text.split('\n').map(sanitize).collect::<Vec<_>>().join("\n")
}

/// The command failed or was rejected.
const EX_FAILED: u8 = 1;
/// The command line is invalid.
const EX_USAGE: u8 = 2;
/// `EX_UNAVAILABLE` of sysexits.h: the proxy cannot be reached or did not answer properly.
const EX_UNAVAILABLE: u8 = 69;
/// `EX_CONFIG` of sysexits.h: the configuration is invalid.
const EX_CONFIG: u8 = 78;
