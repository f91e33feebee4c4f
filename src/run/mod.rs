//! The house: the only room that knows all the others. It binds, serves, reloads, drains; it owns
//! every task, the clock and the signals. [`journey`](crate::run::journey) tells the story of one connection.

mod admin;
mod chance;
mod control;
mod deciding;
mod descriptors;
mod doors;
mod facts;
mod gate;
mod generation;
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
mod session;
pub mod signals;
mod status;
mod systemd;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{interval, timeout};
use tokio::{join, select};
use tracing::{info, warn};

use self::control::ReloadAsk;
use self::doors::Doors;
use self::gate::{Gate, wall};
use self::generation::Generation;
use self::lifecycle::{Course, Phase, drain};
use self::renewal::Renewal;
use self::signals::Signal;
use crate::config::Later;
use crate::config::settings::Settings;
use crate::observe::AccessLog;
use crate::ws::End;

pub use self::reload::{Source, preview};

/// Why the process could not begin to serve.
#[derive(Debug)]
pub enum StartFault {
    /// The configuration cannot be met here.
    Settings(Vec<Later>),
    /// The machine refused something.
    Machine(String),
}

/// Serves until told to stop, then drains. Returns when nothing is left to be done.
pub async fn run(
    settings: Settings,
    source: Source,
    mut signals: mpsc::Receiver<Signal>,
) -> Result<(), StartFault> {
    let (reloads, mut asked) = mpsc::channel(RELOADS_MAX);
    let (gate, mut doors, beside) = start(settings, &source, reloads)?;
    let mut sweep = interval(SWEEP_EVERY);
    let mut renewal = Renewal::new(&gate.generation());
    let serving = async {
        loop {
            select! {
                signal = signals.recv() => match signal {
                    Some(Signal::Reload) => {
                        // Told of already.
                        let _ = reload::reload(&gate, &mut doors, &source).await;
                    }
                    Some(Signal::Stop) | None => break,
                },
                Some(ask) = asked.recv() => {
                    // Whoever asked may not wait.
                    let _ = ReloadAsk::send(ask, reload::reload(&gate, &mut doors, &source).await);
                }
                found = renewal.found(&gate) => renewal.take(found, &gate, &source),
                _ = sweep.tick() => {
                    gate.generation().rate.sweep();
                    gate.watch.sweep();
                }
            }
        }
        drop(asked);
        leave(&gate, &mut doors, &mut signals).await;
    };
    // The operator is answered until the very end, so that a drain can be watched.
    select! {
        () = serving => {}
        () = beside => {}
    }
    Ok(())
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

type Started<A> = (Arc<Gate>, Doors, A);

fn start(
    settings: Settings,
    source: &Source,
    reloads: mpsc::Sender<ReloadAsk>,
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
    let fingerprint = generation.settings.written.fingerprint().map(str::to_owned);
    let mut doors = Doors::default();
    let machine = |fault: crate::accept::BindFault| StartFault::Machine(fault.to_string());
    let bound = doors.bind(&listeners).map_err(machine)?;
    // Nothing comes before the first.
    drop(access.begin());
    let gate = Arc::new(Gate::new(generation, ticketer, descriptors));
    let admin = admin_address
        .map(|address| admin::bind(gate.clone(), address))
        .transpose()
        .map_err(machine)?;
    let control = control::place(&gate.generation().settings.control)
        .map(|path| control::bind(gate.clone(), &path, reloads))
        .transpose()
        .map_err(|fault| StartFault::Machine(fault.to_string()))?;
    reload::warn(source, &gate.generation().warnings(wall()));
    doors.open(&gate, bound);
    info!(
        version = env!("CARGO_PKG_VERSION"),
        connections_max = room.connections,
        tunnels_max = room.tunnels,
        descriptors,
        config_sha256 = fingerprint,
        "serving"
    );
    systemd::ready(&reload::status(&gate));
    let lost = lost::look_after(gate.clone());
    let beside = async {
        join!(unless_off(admin), unless_off(control), lost);
    };
    Ok((gate, doors, beside))
}

/// What is switched off never ends.
async fn unless_off(task: Option<impl Future<Output = ()>>) {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

/// Leaves in order; a further stop signal hurries.
async fn leave(gate: &Arc<Gate>, doors: &mut Doors, signals: &mut mpsc::Receiver<Signal>) {
    let settings = gate.generation().settings.drain;
    systemd::stopping(&format!("draining {} tunnels", gate.occupancy.tunnels()));
    let hurry = async {
        loop {
            match signals.recv().await {
                Some(Signal::Reload) => warn!("reload refused: the process is leaving"),
                Some(Signal::Stop) => return,
                // Nobody is left who could hurry us.
                None => std::future::pending().await,
            }
        }
    };
    let mut hurry = pin!(hurry);
    gate.enter(Phase::Leaving);
    let mut hurried = false;
    if let Some(delay) = settings.delay {
        info!(delay_ms = delay.as_millis() as u64, "unready; all else goes on for a while");
        hurried = timeout(delay, &mut hurry).await.is_ok();
    }
    info!(
        tunnels = gate.occupancy.tunnels(),
        window_ms = settings.window.as_millis() as u64,
        deadline_ms = settings.deadline.as_millis() as u64,
        "draining; a second signal cuts at once"
    );
    doors.close().await;
    gate.enter(Phase::Draining);
    let course = Course::standard(settings, End::Drained);
    let hurry = async {
        if !hurried {
            hurry.await;
        }
    };
    let drained = drain(&gate.registry, &gate.tasks, &course, hurry).await;
    info!(sessions = drained.sessions, cut = drained.cut, hurried = drained.hurried, "stopped");
}

/// Reloads that are asked for and not begun.
const RELOADS_MAX: usize = 4;
const SWEEP_EVERY: Duration = Duration::from_secs(10);
