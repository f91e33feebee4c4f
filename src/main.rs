//! The program: its command line, then [`tidegate::app`].

mod cli;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use tidegate::app::serve::run;
use tidegate::app::{StartError, check};
use tidegate::config::settings::Settings;
use tidegate::config::toml::diagnostic::Diagnostics;
use tidegate::config::toml::late_diagnostic::LateDiagnostic;
use tidegate::ctl;
#[cfg(feature = "demo")]
use tidegate::demo;
use tidegate::listener::inherited::InheritedSockets;
use tidegate::server::reload::ConfigSource;
use tidegate::server::signals;
use tidegate::telemetry::log;
use tikv_jemalloc_ctl::{Access, AsName, background_thread};
use tikv_jemallocator::Jemalloc;

use cli::{Arguments, CheckArgs, CliCommand};

/// For Rust and C alike: TLS' keys are made in C.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    if let Err(error) = give_back_early() {
        let _ = writeln!(io::stderr(), "tidegate: memory is given back late: {error}");
    }
    match Arguments::parse().command {
        CliCommand::Run { config } => serve(config),
        CliCommand::Check(check) => judge(check),
        #[cfg(feature = "demo")]
        CliCommand::Demo { listen } => demo::main(listen),
        CliCommand::Ctl(ctl) => ctl::main(ctl),
        CliCommand::Completions { shell } => written(&cli::completions(shell, &mut io::stdout())),
        CliCommand::Man { folder } => written(&cli::man(&folder)),
    }
}

/// What is free goes back to the machine within half a second or so, also where nothing happens any
/// more. jemalloc's own word for this is 10 s.
fn give_back_early() -> Result<(), tikv_jemalloc_ctl::Error> {
    // The first arena is there already; the others come with the threads.
    for arenas in [&b"arena.0.dirty_decay_ms\0"[..], &b"arenas.dirty_decay_ms\0"[..]] {
        arenas.name().write(FREE_FOR_MS)?;
    }
    background_thread::write(true)
}

fn serve(config: PathBuf) -> ExitCode {
    let settings = match Settings::load(&config) {
        Ok(settings) => settings,
        Err(faults) => return refuse(&faults.to_string()),
    };
    // Before there is a thread that could look at the environment.
    let inherited = match InheritedSockets::from_env() {
        Ok(inherited) => inherited,
        Err(error) => {
            return fail(&format!("sockets of the process before cannot be had: {error}"));
        }
    };
    let _flush = log::init(&settings.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(settings.workers)
        // Only names of backends are looked up there; a resolver that hangs gets no more.
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("tidegate")
        // A tunnel with much to do wakes itself; sockets and timers of others are looked at in
        // between.
        .event_interval(EVENT_INTERVAL)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the runtime cannot start: {error}")),
    };
    let outcome = runtime.block_on(async {
        let (_, signals) = signals::listen()
            .map_err(|error| StartError::Machine(format!("signals cannot be heard: {error}")))?;
        run(settings, ConfigSource::File(config.clone()), inherited, signals).await
    });
    // Whatever is left was cut by the drain already.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => refuse_to_start(&config, &fault),
    }
}

fn judge(check_it: CheckArgs) -> ExitCode {
    let CheckArgs { config, diff, socket, json } = check_it;
    let settings = match Settings::load(&config) {
        Ok(settings) => settings,
        Err(faults) if json => return ctl::refuse(faults.lines().collect()),
        Err(faults) => return refuse(&faults.to_string()),
    };
    let (listeners, routes) = (settings.listeners.len(), settings.routes.len());
    match check(settings) {
        Ok(warnings) => warn(&config, &warnings),
        Err(StartError::Settings(faults)) if json => {
            let faults = from_late(&config, &faults);
            return ctl::refuse(faults.iter().flat_map(Diagnostics::lines).collect());
        }
        Err(fault) => return refuse_to_start(&config, &fault),
    }
    if !json {
        let name = config.display();
        let good = format!("{name}: good: {listeners} listener(s), {routes} route(s)");
        // The exit code says the same to whoever closed the pipe.
        let _ = writeln!(io::stdout(), "{good}");
    }
    match (diff, fs::read_to_string(&config)) {
        (false, _) => ExitCode::SUCCESS,
        (true, Ok(text)) => ctl::diff(socket, json, &config, text),
        (true, Err(error)) => fail(&format!("{}: {error}", config.display())),
    }
}

fn written(result: &io::Result<()>) -> ExitCode {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => fail(&error.to_string()),
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

fn refuse_to_start(config: &Path, fault: &StartError) -> ExitCode {
    match fault {
        StartError::Settings(faults) => match from_late(config, faults) {
            Some(faults) => refuse(&faults.to_string()),
            None => fail("the configuration is refused without a fault"),
        },
        StartError::Machine(fault) | StartError::Broken(fault) => fail(fault),
    }
}

fn from_late(config: &Path, faults: &[LateDiagnostic]) -> Option<Diagnostics> {
    let (first, rest) = faults.split_first()?;
    Some(Diagnostics::from_late(config, first, rest))
}

fn warn(config: &Path, warnings: &[LateDiagnostic]) {
    let Some(placed) = from_late(config, warnings) else { return };
    for line in placed.lines() {
        let _ = writeln!(io::stderr(), "warning: {line}");
    }
    let more = warnings.len().saturating_sub(placed.iter().len());
    if more > 0 {
        let _ = writeln!(io::stderr(), "warning: and {more} more");
    }
}

fn refuse(faults: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "{}", faults.trim_end());
    ExitCode::from(EX_CONFIG)
}

fn fail(fault: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "tidegate: {fault}");
    ExitCode::FAILURE
}

const FREE_FOR_MS: isize = 500;
const BLOCKING_THREADS_MAX: usize = 64;
/// Polls of tasks between two looks at sockets and timers; tokio's own is 61.
const EVENT_INTERVAL: u32 = 16;
/// sysexits.h: something in the configuration is wrong.
const EX_CONFIG: u8 = 78;
