//! The house: the only room that knows all the others. It binds, serves, reloads, drains; it owns
//! every task, the clock and the signals. [`journey`](crate::run::journey) tells the story of one connection.

mod admin;
mod chance;
mod core;
mod deciding;
mod descriptors;
mod doors;
mod facts;
mod gate;
mod generation;
mod handover;
mod inquiry;
pub mod journey;
mod lifecycle;
mod live;
mod registry;
mod reload;
mod session;
pub mod signals;
mod status;
mod systemd;
mod watchdog;

use std::sync::Arc;
use std::time::Duration;

use tokio::select;
use tokio::sync::{Notify, mpsc};
use tokio::time::interval;
use tracing::{error, info, warn};

use self::core::Fallen;
use self::doors::Doors;
use self::gate::Gate;
use self::generation::Generation;
use self::handover::{HandedOver, Program, hand_over};
use self::lifecycle::drain;
use self::signals::Signal;
use crate::accept::Inherited;
use crate::config::Later;
use crate::config::settings::Settings;
use crate::observe::AccessLog;

pub use self::reload::Source;

/// Why the process could not begin to serve, or cannot go on.
#[derive(Debug)]
pub enum StartFault {
    /// The configuration cannot be met here.
    Settings(Vec<Later>),
    /// The machine refused something.
    Machine(String),
    /// It served, until something broke without which it cannot.
    Broken(String),
}

/// Serves until told to stop, then drains. Returns when nothing is left to be done.
pub async fn run(
    settings: Settings,
    source: Source,
    inherited: Inherited,
    mut signals: mpsc::Receiver<Signal>,
) -> Result<(), StartFault> {
    let (gate, mut doors, admin) = start(settings, inherited)?;
    #[expect(clippy::disallowed_methods, reason = "not a connection: it lives until the end")]
    let mut watchdog = tokio::spawn(watchdog::run(gate.roll.clone()));
    let mut sweep = interval(SWEEP_EVERY);
    let program = Program::current().filter(|_| matches!(source, Source::File(_)));
    let followed = Notify::new();
    let serving = async {
        loop {
            select! {
                signal = signals.recv() => match signal {
                    Some(Signal::Reload) => reload::reload(&gate, &mut doors, &source).await,
                    Some(Signal::HandOver) => {
                        match hand_over(program.as_ref(), &doors, &mut signals).await {
                            HandedOver::Yes => {
                                followed.notify_one();
                                break;
                            }
                            HandedOver::No => {}
                            HandedOver::Stop => {
                                tell_stopping(&gate);
                                break;
                            }
                        }
                    }
                    Some(Signal::Stop) | None => {
                        tell_stopping(&gate);
                        break;
                    }
                },
                fallen = doors.fallen() => return Err(fallen),
                _ = sweep.tick() => {
                    gate.generation().rate.sweep();
                    gate.watch.sweep();
                }
            }
        }
        leave(&gate, &mut doors, &mut signals).await;
        Ok(())
    };
    // The admin listener answers until the very end, so that a drain can be watched.
    let ended = select! {
        ended = serving => ended,
        () = until(admin, &followed) => Err(Fallen::of("the admin listener", Ok(()))),
        ended = &mut watchdog => Err(Fallen::of("the watchdog's keeper", ended)),
    };
    watchdog.abort();
    ended.map_err(|fallen| {
        error!(%fallen, "the process ends at once, so that another one can take its place");
        StartFault::Broken(fallen.to_string())
    })
}

/// Judges a configuration as [`run`] would, but binds nothing.
pub fn check(settings: Settings) -> Result<(), StartFault> {
    let ticketer =
        crate::accept::ticketer().map_err(|error| StartFault::Machine(error.to_string()))?;
    Generation::build(settings, None, &ticketer, descriptors::raise_limit())
        .map(drop)
        .map_err(StartFault::Settings)
}

type Started<A> = (Arc<Gate>, Doors, A);

fn start(
    settings: Settings,
    inherited: Inherited,
) -> Result<Started<impl Future<Output = ()> + Send>, StartFault> {
    let ticketer =
        crate::accept::ticketer().map_err(|error| StartFault::Machine(error.to_string()))?;
    let descriptors = descriptors::raise_limit();
    let generation =
        Generation::build(settings, None, &ticketer, descriptors).map_err(StartFault::Settings)?;
    let access = AccessLog::open(&generation.settings)
        .map_err(|fault| StartFault::Machine(fault.to_string()))?;
    let listeners = generation.settings.listeners.clone();
    let admin_address = generation.settings.admin;
    let room = generation.room;
    let mut doors = Doors::new(inherited);
    doors.doubt(&listeners, admin_address);
    let machine = |fault: crate::accept::BindFault| StartFault::Machine(fault.to_string());
    let bound = doors.bind(&listeners).map_err(machine)?;
    let admin = admin_address.map(|address| doors.admin(address)).transpose();
    let admin = admin.map_err(machine)?;
    // Nothing comes before the first.
    drop(access.begin());
    let gate = Arc::new(Gate::new(generation, ticketer, descriptors));
    let admin = admin.map(|listener| admin::serve(gate.clone(), listener));
    let follow = |error| StartFault::Machine(format!("no word of the process before: {error}"));
    doors.follow().map_err(follow)?;
    doors.open(&gate, bound);
    info!(
        version = env!("CARGO_PKG_VERSION"),
        connections_max = room.connections,
        tunnels_max = room.tunnels,
        descriptors,
        "serving"
    );
    systemd::ready(&reload::status(&gate));
    let admin = async {
        match admin {
            Some(admin) => admin.await,
            None => std::future::pending().await,
        }
    };
    Ok((gate, doors, admin))
}

/// Serves, until a successor does.
async fn until(serving: impl Future<Output = ()>, followed: &Notify) {
    select! {
        () = serving => {}
        () = followed.notified() => std::future::pending().await,
    }
}

fn tell_stopping(gate: &Gate) {
    systemd::stopping(&format!("draining {} tunnels", gate.occupancy.tunnels()));
}

/// Leaves in order; a further stop signal hurries.
async fn leave(gate: &Arc<Gate>, doors: &mut Doors, signals: &mut mpsc::Receiver<Signal>) {
    let settings = gate.generation().settings.drain;
    info!(
        tunnels = gate.occupancy.tunnels(),
        window_ms = settings.window.as_millis() as u64,
        deadline_ms = settings.deadline.as_millis() as u64,
        "draining; a second signal cuts at once"
    );
    doors.close().await;
    gate.begin_drain();
    let hurry = async {
        loop {
            match signals.recv().await {
                Some(Signal::Reload) => warn!("reload refused: the process is leaving"),
                Some(Signal::HandOver) => warn!("no hand-over: the process is leaving"),
                Some(Signal::Stop) => return,
                // Nobody is left who could hurry us.
                None => std::future::pending().await,
            }
        }
    };
    let drained = drain(&gate.registry, &gate.tasks, &settings, hurry).await;
    info!(sessions = drained.sessions, cut = drained.cut, hurried = drained.hurried, "stopped");
}

const SWEEP_EVERY: Duration = Duration::from_secs(10);
