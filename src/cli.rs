//! The command line: what may be said, and what is made of the same definitions: completions for
//! shells, and man pages.

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
/// tidegate takes WebSocket connections over TLS and relays them to backends, frame by frame, under
/// limits that one file sets.
#[derive(Debug, Parser)]
#[command(
    version,
    arg_required_else_help = true,
    after_help = EXAMPLES
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: CliCommand,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Serve as a configuration file says, until SIGTERM; SIGHUP reloads the file, SIGUSR2 hands
    /// over to a new process.
    ///
    /// SIGTERM and SIGINT close every tunnel, spread over a window, and end the process; a second one
    /// makes it hurry. SIGHUP reads the file again, all or nothing: open tunnels notice nothing.
    #[command(after_help = "Examples:
  tidegate run --config /etc/tidegate/proxy.toml")]
    Run {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Judge a configuration file and the certificates it names; change nothing.
    ///
    /// Every fault is told at once, with its place and what to do about it. With --diff a good file is
    /// then compared with what a running process has: what a reload would change, and how many
    /// live tunnels each change touches.
    #[command(after_help = "Examples:
  tidegate check --config /etc/tidegate/proxy.toml
  tidegate check --diff --config /etc/tidegate/proxy.toml")]
    Check(CheckArgs),
    /// Try the proxy with a generated certificate, a small backend and a page.
    #[cfg(feature = "demo")]
    Demo {
        /// Where to listen.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8443")]
        listen: SocketAddr,
    },
    /// Look at a running process, and give it orders, over its control socket.
    ///
    /// The socket is `[control] socket` of the configuration; only root and the user that tidegate
    /// runs as may use it. Tables are for people; programs read --json, whose names stay as they are.
    Ctl(CtlArgs),
    /// Write what a shell needs to complete these commands.
    #[command(after_help = "Examples:
  tidegate completions bash > /usr/share/bash-completion/completions/tidegate
  tidegate completions zsh > /usr/share/zsh/vendor-completions/_tidegate
  tidegate completions fish > /usr/share/fish/vendor_completions.d/tidegate.fish")]
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// Write the man pages into a folder, which must exist.
    #[command(hide = true)]
    Man {
        /// The folder.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

/// What is judged, and against what.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Tell what a running process would change if it read this file.
    #[arg(long)]
    pub diff: bool,
    /// Its control socket [default: control.sock in $RUNTIME_DIRECTORY or, without one, in
    /// /run/tidegate]
    #[arg(long, value_name = "PATH", requires = "diff")]
    pub socket: Option<PathBuf>,
    /// Print the answer as one line of JSON.
    #[arg(long, requires = "diff")]
    pub json: bool,
}

/// Shells that are helped.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Shell {
    /// GNU bash.
    Bash,
    /// zsh.
    Zsh,
    /// fish.
    Fish,
}

/// Writes what a shell needs.
pub fn completions(shell: Shell, out: &mut impl Write) -> io::Result<()> {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let whole = Arguments::command();
    // Scripts would offer what is hidden.
    let offered = whole.get_subcommands().filter(|of| !of.is_hide_set()).cloned();
    let mut command = clap::Command::new("tidegate").version(VERSION).subcommands(offered);
    // The generator cannot be told of a pipe that is closed.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "tidegate", &mut script);
    out.write_all(&script)?;
    out.flush()
}

/// Writes the man pages: `tidegate.1`, `tidegate-ctl.1`, `tidegate-ctl-status.1`, ...
pub fn man(folder: &Path) -> io::Result<()> {
    let mut root = Arguments::command().disable_help_subcommand(true);
    root.build();
    pages(&root, folder)
}

fn pages(command: &clap::Command, folder: &Path) -> io::Result<()> {
    let man = Man::new(command.clone()).manual("tidegate").source(SOURCE);
    let path = folder.join(man.get_filename());
    let page = page(command, &man)?;
    fs::write(&path, page)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    command.get_subcommands().filter(|of| !of.is_hide_set()).try_for_each(|of| pages(of, folder))
}

fn page(command: &clap::Command, man: &Man) -> io::Result<Vec<u8>> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    writeln!(page, ".SH NAME\n{} \\- {}", escaped(name), escaped(&about))?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|of| !of.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(examples) = command.get_after_help() {
        let examples = examples.to_string();
        let examples = examples.strip_prefix("Examples:\n").unwrap_or(&examples);
        write!(page, ".SH EXAMPLES\n.nf\n{}\n.fi\n", escaped(examples))?;
    }
    let ctl = name.starts_with("tidegate-ctl");
    page.extend_from_slice(if ctl { CTL_ENDS } else { ENDS }.as_bytes());
    if ctl {
        page.extend_from_slice(CTL_FILES.as_bytes());
    }
    let also = SEE_ALSO
        .iter()
        .filter(|also| **also != name)
        .map(|also| format!("\\fB{}\\fR(1)", escaped(also)));
    writeln!(page, ".SH \"SEE ALSO\"\n{}", also.collect::<Vec<_>>().join(",\n"))?;
    Ok(page)
}

/// Text as roff has it, where a line does not begin with a dot.
fn escaped(text: &str) -> String {
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

const ENDS: &str = r#".SH "EXIT STATUS"
.TP
.B 0
It is done; the file is good; the process was told to end, and has ended.
.TP
.B 1
It cannot be done; standard error says why.
.TP
.B 2
The command line is wrong.
.TP
.B 69
No process answers at the control socket.
.TP
.B 78
The configuration is refused; standard error has every fault.
"#;

const CTL_ENDS: &str = r#".SH "EXIT STATUS"
.TP
.B 0
It is done.
.TP
.B 1
The process refuses; standard error says why.
.TP
.B 2
The command line is wrong.
.TP
.B 69
No process answers at the socket.
.TP
.B 78
A reload is refused for faults in the configuration; standard error has every one.
"#;

const CTL_FILES: &str = r#".SH FILES
.TP
.I /run/tidegate/control.sock
The control socket under the shipped unit. Only root and the user that tidegate runs as may use it.
.SH ENVIRONMENT
.TP
.B RUNTIME_DIRECTORY
Where control.sock is looked for without \fB\-\-socket\fR.
.TP
.B NO_COLOR
If set, nothing is bold or coloured.
"#;
