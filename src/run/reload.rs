//! SIGHUP: all or nothing. The new configuration is loaded, built and bound before anything is
//! swapped; a fault anywhere leaves everything as it was.

use std::path::PathBuf;
use std::sync::Arc;

use tracing::{error, info, warn};

use super::doors::Doors;
use super::gate::Gate;
use super::generation::Generation;
use super::systemd;
use crate::config::settings::Settings;
use crate::config::{Faults, Later};

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

/// Reloads, and says how it went.
pub async fn reload(gate: &Arc<Gate>, doors: &mut Doors, source: &Source) {
    systemd::reloading();
    let before = gate.generation();
    let mut outcome = String::new();
    match try_reload(gate, doors, source, &before).await {
        Ok(()) => {
            let after = gate.generation();
            for key in needs_restart(&before.settings, &after.settings) {
                warn!(key, "this change takes effect at the next restart");
            }
            info!(
                generation = after.number,
                changed = changes(&before.settings, &after.settings),
                tunnels = gate.occupancy.tunnels(),
                "reloaded; open tunnels keep their route"
            );
        }
        Err(faults) => {
            outcome = format!("; reload refused: {} faults, see the journal", faults.len());
            for fault in &faults {
                error!(fault, "reload refused");
            }
            error!(
                faults = faults.len(),
                generation = before.number,
                "the configuration in force stays as it was"
            );
        }
    }
    systemd::ready(&(status(gate) + &outcome));
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
    let listeners = after.settings.listeners.clone();
    let bound = doors.bind(&listeners).map_err(|fault| vec![fault.to_string()])?;
    gate.swap(after);
    doors.open(gate, bound);
    doors.keep(&listeners).await;
    Ok(())
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
        ("server", before.workers != after.workers),
        ("admin", before.admin != after.admin),
        ("log", before.log != after.log),
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
