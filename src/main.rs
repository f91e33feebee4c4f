//! The binary: parses the command line and calls the library.

#[cfg(feature = "jemalloc")]
mod allocator;
mod cli;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use tidegate::app::run::run;
use tidegate::app::{self, RunError};
use tidegate::config::toml::diagnostic::Diagnostics;
use tidegate::config::toml::late_diagnostic::LateDiagnostic;
use tidegate::ctl;
#[cfg(feature = "demo")]
use tidegate::demo;
use tidegate::listener::inherited::InheritedSockets;
use tidegate::server::reload::ConfigSource;
use tidegate::server::signals;
use tidegate::sys::worker_share;
use tidegate::telemetry::log;

use cli::{Arguments, CheckArgs, CliCommand};

fn main() -> ExitCode {
    #[cfg(feature = "jemalloc")]
    if let Err(error) = allocator::shorten_memory_decay() {
        let _ = writeln!(io::stderr(), "tidegate: cannot set the decay time of jemalloc: {error}");
    }
    match Arguments::parse().command {
        CliCommand::Run { config } => serve(config),
        CliCommand::Check(args) => check(args),
        #[cfg(feature = "demo")]
        CliCommand::Demo { listen } => demo::main(listen),
        CliCommand::Ctl(ctl) => ctl::main(ctl),
        CliCommand::Completions { shell } => exit_code(&cli::completions(shell, &mut io::stdout())),
        CliCommand::Man { directory } => exit_code(&cli::man::write(&directory)),
    }
}

fn serve(config: PathBuf) -> ExitCode {
    let settings = match app::load(&config) {
        Ok(settings) => settings,
        Err(diagnostics) => return invalid_config(&diagnostics.to_string()),
    };
    // Changes the environment, so it must run before any other thread can read the environment.
    let inherited = match InheritedSockets::from_env() {
        Ok(inherited) => inherited,
        Err(error) => return fail(&format!("cannot use the inherited sockets: {error}")),
    };
    let _flush = log::init(&settings.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(settings.workers)
        // Used for name resolution and file access; bounds the threads that a hanging resolver
        // blocks.
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("tidegate")
        // Busy tunnels reschedule themselves, so sockets and timers must be polled more often.
        .event_interval(EVENT_INTERVAL)
        .on_thread_park(worker_share::rest)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the runtime: {error}")),
    };
    let outcome = runtime.block_on(async {
        let (_, signals) = signals::listen().map_err(|error| {
            RunError::System(format!("cannot install signal handlers: {error}"))
        })?;
        run(settings, ConfigSource::File(config.clone()), inherited, signals).await
    });
    // The drain has already aborted the remaining connections.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report_error(&config, &error),
    }
}

fn check(args: CheckArgs) -> ExitCode {
    let CheckArgs { config, diff, socket, json } = args;
    let settings = match app::load(&config) {
        Ok(settings) => settings,
        Err(diagnostics) if json => return ctl::print_rejection(diagnostics.lines().collect()),
        Err(diagnostics) => return invalid_config(&diagnostics.to_string()),
    };
    let (listeners, routes) = (settings.listeners.len(), settings.routes.len());
    let checked = match app::check(settings) {
        Ok(checked) => {
            print_warnings(&config, &checked.warnings);
            checked
        }
        Err(RunError::Settings(errors)) if json => {
            let diagnostics = locate(&config, &errors);
            return ctl::print_rejection(diagnostics.iter().flat_map(Diagnostics::lines).collect());
        }
        Err(error) => return report_error(&config, &error),
    };
    if !json {
        let name = config.display();
        let mut summary = format!("{name}: valid: {listeners} listener(s), {routes} route(s)");
        for file in checked.trusted_proxies.files.iter() {
            let path = file.path.display();
            summary += &format!("\n{path}: {} address(es) of trusted proxies", file.networks);
        }
        checked.ordered.iter().for_each(|line| summary += &format!("\n{line}"));
        // If standard output is closed, the exit code still tells the result.
        let _ = writeln!(io::stdout(), "{summary}");
    }
    match (diff, fs::read_to_string(&config)) {
        (false, _) => ExitCode::SUCCESS,
        (true, Ok(text)) => ctl::diff(socket, json, &config, text),
        (true, Err(error)) => fail(&format!("{}: {error}", config.display())),
    }
}

fn exit_code(result: &io::Result<()>) -> ExitCode {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => fail(&error.to_string()),
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

fn report_error(config: &Path, error: &RunError) -> ExitCode {
    match error {
        RunError::Settings(errors) => match locate(config, errors) {
            Some(diagnostics) => invalid_config(&diagnostics.to_string()),
            None => fail("the configuration was rejected without a diagnostic"),
        },
        RunError::System(error) | RunError::Task(error) => fail(error),
    }
}

/// Adds file, line and column to diagnostics; `None` if there are none.
fn locate(config: &Path, diagnostics: &[LateDiagnostic]) -> Option<Diagnostics> {
    let (first, rest) = diagnostics.split_first()?;
    Some(Diagnostics::from_late(config, first, rest))
}

fn print_warnings(config: &Path, warnings: &[LateDiagnostic]) {
    let Some(located) = locate(config, warnings) else { return };
    for line in located.lines() {
        let _ = writeln!(io::stderr(), "warning: {line}");
    }
    let more = warnings.len().saturating_sub(located.iter().len());
    if more > 0 {
        let plural = if more == 1 { "" } else { "s" };
        let _ = writeln!(io::stderr(), "warning: {more} more warning{plural}");
    }
}

fn invalid_config(diagnostics: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "{}", diagnostics.trim_end());
    ExitCode::from(EX_CONFIG)
}

fn fail(message: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "tidegate: {message}");
    ExitCode::FAILURE
}

const BLOCKING_THREADS_MAX: usize = 64;
/// Task polls between two polls of sockets and timers; the default of tokio is 61.
const EVENT_INTERVAL: u32 = 16;
/// `EX_CONFIG` of sysexits.h: the configuration is invalid.
const EX_CONFIG: u8 = 78;
