//! SIGHUP: all or nothing. The new configuration is loaded, built and bound before anything is
//! swapped; a fault anywhere leaves everything as it was.

use std::path::PathBuf;
use std::sync::Arc;

use tracing::{error, info, warn};

use super::doors::Doors;
use super::gate::{Gate, wall};
use super::generation::Generation;
use super::systemd;
use crate::config::settings::Settings;
use crate::config::{Faults, Later};
use crate::control;
use crate::observe::AccessLog;

/// Where the configuration comes from, each time.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// Built into the program.
    Fixed(Box<Settings>),
}

impl Source {
    /// Reads it anew; faults in words, one a line.
    pub fn load(&self) -> Result<Settings, Vec<String>> {
        match self {
            Self::File(path) => Settings::load(path).map_err(|faults| faults.lines().collect()),
            Self::Fixed(settings) => Ok((**settings).clone()),
        }
    }

    /// Faults that showed later, one a line, with their place if there is a file.
    fn place(&self, faults: &[Later]) -> Vec<String> {
        match (self, faults) {
            (Self::File(path), [first, rest @ ..]) => {
                Faults::found_later(path, first, rest).lines().collect()
            }
            (Self::File(_) | Self::Fixed(_), _) => {
                faults.iter().map(|later| format!("{}: {}", later.key, later.problem)).collect()
            }
        }
    }
}

/// How a reload went.
#[derive(Clone, Debug, PartialEq)]
pub struct Reloaded {
    /// When, in seconds since 1970.
    pub at: f64,
    /// What changed, or the faults, one a line.
    pub outcome: Result<String, Vec<String>>,
}

/// Reloads, and says how it went.
pub async fn reload(
    gate: &Arc<Gate>,
    doors: &mut Doors,
    source: &Source,
) -> Result<control::Reloaded, Vec<String>> {
    systemd::reloading();
    let before = gate.generation();
    let mut outcome = String::new();
    let told = match try_reload(gate, doors, source, &before).await {
        Ok(()) => {
            let after = gate.generation();
            for key in needs_restart(&before.settings, &after.settings) {
                warn!(key, "this change takes effect at the next restart");
            }
            let changed = changes(&before.settings, &after.settings);
            info!(
                generation = after.number,
                changed,
                tunnels = gate.occupancy.tunnels(),
                "reloaded; open tunnels keep their route"
            );
            Ok(changed)
        }
        Err(faults) => {
            reopen(&before.settings, source, &faults).await;
            outcome = format!("; reload refused: {} faults, see the journal", faults.len());
            for fault in &faults {
                error!(fault, "reload refused");
            }
            error!(
                faults = faults.len(),
                generation = before.number,
                "the configuration in force stays as it was"
            );
            Err(faults)
        }
    };
    gate.metrics.reloaded(told.is_ok());
    let faults = told.as_ref().err().cloned();
    gate.reloaded.store(Some(Arc::new(Reloaded { at: wall(), outcome: told })));
    systemd::ready(&(status(gate) + &outcome));
    let generation = gate.generation().number;
    faults.map_or(Ok(control::Reloaded { generation, changes: Vec::new() }), Err)
}

/// One line for `systemctl status`.
pub fn status(gate: &Gate) -> String {
    let generation = gate.generation();
    format!(
        "generation {}: {} listeners, {} routes, {} tunnels",
        generation.number,
        generation.settings.listeners.len(),
        generation.settings.routes.len(),
        gate.occupancy.tunnels()
    )
}

async fn try_reload(
    gate: &Arc<Gate>,
    doors: &mut Doors,
    source: &Source,
    before: &Generation,
) -> Result<(), Vec<String>> {
    let settings = source.load()?;
    let after = Generation::build(settings, Some(before), &gate.ticketer, gate.descriptors)
        .map_err(|faults| source.place(&faults))?;
    let access = open_access(&after.settings, source)?;
    let listeners = after.settings.listeners.clone();
    let bound = doors.bind(&listeners).map_err(|fault| vec![fault.to_string()])?;
    gate.swap(after);
    let outgoing = access.begin();
    doors.open(gate, bound);
    doors.keep(&listeners).await;
    // Whoever moved the old file may do with it as they like once the reload is reported.
    outgoing.finish().await;
    Ok(())
}

/// Whoever rotates files asks for a new one, not for a new configuration: they get it even if
/// there is a fault in the latter.
async fn reopen(settings: &Settings, source: &Source, told: &[String]) {
    match open_access(settings, source) {
        Ok(access) => access.begin().finish().await,
        Err(faults) => {
            for fault in faults.iter().filter(|fault| !told.contains(fault)) {
                error!(fault, "the access log stays as it was");
            }
        }
    }
}

fn open_access(settings: &Settings, source: &Source) -> Result<AccessLog, Vec<String>> {
    match settings.records_refused() {
        Some(refused) => Err(source.place(&[refused])),
        None => AccessLog::open(settings).map_err(|fault| vec![fault.to_string()]),
    }
}

/// Which parts of the file differ.
fn changes(before: &Settings, after: &Settings) -> String {
    let parts = [
        ("listeners", before.listeners != after.listeners),
        ("certificates", before.certificates != after.certificates),
        ("routes", before.routes != after.routes),
        ("client_key", before.client_key != after.client_key),
        ("caps", before.caps != after.caps),
        ("timeouts", before.timeouts != after.timeouts),
        ("drain", before.drain != after.drain),
        ("server", (before.workers, before.tls) != (after.workers, after.tls)),
        ("admin", before.admin != after.admin),
        ("log", before.log != after.log),
        ("access", before.access != after.access),
    ];
    let changed: Vec<&str> = parts.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
    if changed.is_empty() {
        "nothing in the file; certificates read anew".into()
    } else {
        changed.join(", ")
    }
}

fn needs_restart(before: &Settings, after: &Settings) -> Vec<&'static str> {
    let parts = [
        ("server.workers", before.workers != after.workers),
        ("admin", before.admin != after.admin),
        ("log.format, log.level", {
            (before.log.format, before.log.level) != (after.log.format, after.log.level)
        }),
    ];
    parts.iter().filter(|(_, is)| *is).map(|(key, _)| *key).collect()
}
