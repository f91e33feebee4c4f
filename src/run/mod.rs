//! The house: the only room that knows all the others. It binds, serves, reloads, drains; it owns
//! every task, the clock and the signals. [`journey`](crate::run::journey) tells the story of one connection.

mod admin;
mod chance;
mod control;
mod core;
mod deciding;
mod descriptors;
mod doors;
mod drains;
mod facts;
mod gate;
mod generation;
mod handover;
mod inquiry;
pub mod journey;
mod lifecycle;
mod live;
mod lookup;
mod lost;
mod memory;
mod registry;
mod reload;
mod renewal;
mod report;
mod serve;
mod session;
pub mod signals;
mod status;
mod systemd;
mod watchdog;

use self::gate::wall;
use self::generation::Generation;
use crate::config::Later;
use crate::config::settings::Settings;

pub use self::reload::Source;
pub use self::serve::run;

/// Why the process could not begin to serve, or cannot go on.
#[derive(Debug)]
pub enum StartFault {
    /// The configuration cannot be met here.
    Settings(Vec<Later>),
    /// The machine refused something.
    Machine(String),
    /// A task that it cannot do without has ended.
    Broken(String),
}

/// Judges a configuration as [`run`] would, but binds nothing. What is good may yet be worth a
/// look.
pub fn check(settings: Settings) -> Result<Vec<Later>, StartFault> {
    let ticketer =
        crate::accept::ticketer().map_err(|error| StartFault::Machine(error.to_string()))?;
    Generation::build(settings, None, &ticketer, descriptors::raise_limit())
        .map(|generation| generation.warnings(wall()))
        .map_err(StartFault::Settings)
}
