//! The command line, and the shell completions and man pages generated from its definitions.

use std::fs;
use std::io::{self, Write};
#[cfg(feature = "demo")]
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use clap_mangen::Man;
use tidegate::ctl::args::CtlArgs;

/// A TLS-terminating reverse proxy that understands WebSockets.
///
/// tidegate accepts WebSocket connections over TLS and relays them to backends frame by frame. One
/// configuration file defines listeners, routes and limits.
#[derive(Debug, Parser)]
#[command(
    version,
    arg_required_else_help = true,
    after_help = EXAMPLES
)]
pub struct Arguments {
    /// The command.
    #[command(subcommand)]
    pub command: CliCommand,
}

/// The commands of the program.
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Run the proxy until SIGTERM; SIGHUP reloads the configuration, SIGUSR2 hands over to a new
    /// process.
    ///
    /// SIGTERM and SIGINT close all tunnels, spread over a window, and then end the process; a
    /// second signal closes the remaining tunnels immediately. SIGHUP applies the file as a whole
    /// or, if it is invalid, not at all; open tunnels are not interrupted.
    #[command(after_help = "Examples:
  tidegate run --config /etc/tidegate/proxy.toml")]
    Run {
        /// Path of the configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check a configuration file and its certificates without applying them.
    ///
    /// Reports all errors with their location and a suggestion. With --diff, a valid file is also
    /// compared with the configuration of a running process: the output lists what a reload would
    /// change, and how many open tunnels each change affects.
    #[command(after_help = "Examples:
  tidegate check --config /etc/tidegate/proxy.toml
  tidegate check --diff --config /etc/tidegate/proxy.toml")]
    Check(CheckArgs),
    /// Try the proxy with a generated certificate, a built-in backend and a web page.
    #[cfg(feature = "demo")]
    Demo {
        /// Address to listen on.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8443")]
        listen: SocketAddr,
    },
    /// Inspect and control a running process over its control socket.
    ///
    /// The socket is set by `[control] socket` in the configuration; only root and the user that
    /// tidegate runs as may use it. Scripts should use --json: its names are stable.
    ///
    /// A session is the state of one tunnel, and its number identifies the tunnel.
    Ctl(CtlArgs),
    /// Print the completion script of a shell.
    #[command(after_help = "Examples:
  tidegate completions bash > /usr/share/bash-completion/completions/tidegate
  tidegate completions zsh > /usr/share/zsh/vendor-completions/_tidegate
  tidegate completions fish > /usr/share/fish/vendor_completions.d/tidegate.fish")]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the man pages to an existing directory.
    #[command(hide = true)]
    Man {
        /// The target directory.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Path of the configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Show what a running process would change if it reloaded this file.
    #[arg(long)]
    pub diff: bool,
    /// Path of the control socket [default: $TIDEGATE_SOCKET, or control.sock in $RUNTIME_DIRECTORY, or
    /// in /run/tidegate if that is unset]
    #[arg(long, value_name = "PATH", requires = "diff")]
    pub socket: Option<PathBuf>,
    /// Print the response as one line of JSON.
    #[arg(long, requires = "diff")]
    pub json: bool,
}

/// Shells with completion support.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Shell {
    /// GNU bash.
    Bash,
    /// zsh.
    Zsh,
    /// fish.
    Fish,
}

/// Writes the completion script of a shell, without hidden commands.
///
/// # Errors
///
/// Errors of `out`.
pub fn completions(shell: Shell, out: &mut impl Write) -> io::Result<()> {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let all = Arguments::command();
    // The generators do not omit hidden commands themselves.
    let visible = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let mut command = clap::Command::new("tidegate").version(VERSION).subcommands(visible);
    // The generators panic on write errors, so they write to memory.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "tidegate", &mut script);
    out.write_all(&script)?;
    out.flush()
}

/// Writes the man pages `tidegate.1`, `tidegate-ctl.1`, `tidegate-ctl-status.1` and so on to a
/// directory.
///
/// # Errors
///
/// The error of the file system, with the path of the file.
pub fn man(directory: &Path) -> io::Result<()> {
    let mut root = Arguments::command().disable_help_subcommand(true);
    root.build();
    write_pages(&root, directory)
}

fn write_pages(command: &clap::Command, directory: &Path) -> io::Result<()> {
    let man = Man::new(command.clone()).manual("tidegate").source(SOURCE);
    let path = directory.join(man.get_filename());
    let page = render_page(command, &man)?;
    fs::write(&path, page)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    let mut visible = command.get_subcommands().filter(|command| !command.is_hide_set());
    visible.try_for_each(|command| write_pages(command, directory))
}

fn render_page(command: &clap::Command, man: &Man) -> io::Result<Vec<u8>> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    writeln!(page, ".SH NAME\n{} \\- {}", escape_roff(name), escape_roff(&about))?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|command| !command.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(examples) = command.get_after_help() {
        let examples = examples.to_string();
        let examples = examples.strip_prefix("Examples:\n").unwrap_or(&examples);
        write!(page, ".SH EXAMPLES\n.nf\n{}\n.fi\n", escape_roff(examples))?;
    }
    let ctl = name.starts_with("tidegate-ctl");
    page.extend_from_slice(if ctl { CTL_EXIT_STATUS } else { EXIT_STATUS }.as_bytes());
    if ctl {
        page.extend_from_slice(CTL_FILES.as_bytes());
    }
    let others = SEE_ALSO
        .iter()
        .filter(|other| **other != name)
        .map(|other| format!("\\fB{}\\fR(1)", escape_roff(other)));
    writeln!(page, ".SH \"SEE ALSO\"\n{}", others.collect::<Vec<_>>().join(",\n"))?;
    Ok(page)
}

/// Escapes text for roff. Lines that begin with a dot are not supported.
fn escape_roff(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq")
}

#[cfg(feature = "demo")]
const EXAMPLES: &str = "Examples:
  tidegate demo
  tidegate check --config /etc/tidegate/proxy.toml
  tidegate run --config /etc/tidegate/proxy.toml
  tidegate ctl status";

#[cfg(not(feature = "demo"))]
const EXAMPLES: &str = "Examples:
  tidegate check --config /etc/tidegate/proxy.toml
  tidegate run --config /etc/tidegate/proxy.toml
  tidegate ctl status";

const VERSION: &str = env!("CARGO_PKG_VERSION");

const SOURCE: &str = concat!("tidegate ", env!("CARGO_PKG_VERSION"));

const SEE_ALSO: [&str; 4] = ["tidegate", "tidegate-check", "tidegate-ctl", "tidegate-run"];

const EXIT_STATUS: &str = r#".SH "EXIT STATUS"
.TP
.B 0
Success: the file is valid, or the process has shut down after a signal.
.TP
.B 1
The command failed; standard error has the reason.
.TP
.B 2
The command line is invalid.
.TP
.B 69
The proxy cannot be reached over the control socket, or did not answer properly.
.TP
.B 78
The configuration is invalid; standard error lists every error.
"#;

const CTL_EXIT_STATUS: &str = r#".SH "EXIT STATUS"
.TP
.B 0
Success.
.TP
.B 1
The command failed or was rejected; standard error has the reason.
.TP
.B 2
The command line is invalid.
.TP
.B 69
The proxy cannot be reached over the control socket, or did not answer properly.
.TP
.B 78
The configuration to reload is invalid; standard error lists every error.
"#;

const CTL_FILES: &str = r#".SH FILES
.TP
.I /run/tidegate/control.sock
The control socket of the shipped unit. Only root and the user that tidegate runs as may use it.
.SH ENVIRONMENT
.TP
.B TIDEGATE_SOCKET
The path of the control socket if \fB\-\-socket\fR is not given.
.TP
.B RUNTIME_DIRECTORY
The directory of control.sock if neither is given.
.TP
.B NO_COLOR
If set, output is neither bold nor coloured.
"#;
