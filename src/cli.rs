//! The command line, and the shell completions generated from its definitions.

pub mod man;

use std::io::{self, Write};
#[cfg(feature = "demo")]
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use tidegate::ctl::args::CtlArgs;

/// A TLS-terminating reverse proxy that understands WebSockets.
///
/// tidegate accepts WebSocket connections over TLS and relays them to backends frame by frame. One
/// configuration file defines listeners, routes and limits.
#[derive(Debug, Parser)]
#[command(
    version = VERSION,
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
  tidegate run
  tidegate run --config proxy.toml")]
    Run {
        /// Path of the configuration file.
        #[arg(short, long, value_name = "FILE", default_value = CONFIG_DEFAULT)]
        config: PathBuf,
    },
    /// Check a configuration file and its certificates without applying them.
    ///
    /// Reports all errors with their location and a suggestion. With --diff, a valid file is also
    /// compared with the configuration of a running process: the output lists what a reload would
    /// change, and how many open tunnels each change affects.
    #[command(after_help = "Examples:
  tidegate check
  tidegate check --diff
  tidegate check --config proxy.toml")]
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
    #[arg(short, long, value_name = "FILE", default_value = CONFIG_DEFAULT)]
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

#[cfg(feature = "demo")]
const EXAMPLES: &str = "Examples:
  tidegate demo
  tidegate check
  tidegate run
  tidegate ctl status";

#[cfg(not(feature = "demo"))]
const EXAMPLES: &str = "Examples:
  tidegate check
  tidegate run
  tidegate ctl status";

/// The version, and what it was built from.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("TIDEGATE_BUILD"), ")");

/// The file that the shipped unit uses.
const CONFIG_DEFAULT: &str = "/etc/tidegate/proxy.toml";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_and_check_read_the_file_of_the_unit_by_default() {
        let unit = include_str!("../systemd/tidegate.service");
        assert!(unit.contains(&format!("run --config {CONFIG_DEFAULT}\n")), "{unit}");
        for command in ["run", "check"] {
            for (more, expected) in [(&[][..], CONFIG_DEFAULT), (&["-c", "x.toml"], "x.toml")] {
                let parsed = Arguments::try_parse_from([&["tidegate", command], more].concat());
                let config = match parsed.map(|parsed| parsed.command) {
                    Ok(CliCommand::Run { config }) => config,
                    Ok(CliCommand::Check(args)) => args.config,
                    other => panic!("{other:?}"),
                };
                assert_eq!(config, PathBuf::from(expected), "{command}");
            }
        }
    }
}
