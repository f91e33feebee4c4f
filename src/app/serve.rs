//! From the first socket to the last goodbye: starts, serves until it is told to leave, and leaves
//! in order.

use std::future::ready;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{interval, timeout};
use tokio::{join, select};
use tracing::{error, info, warn};
use ws::TerminationReason;

use crate::admin::control::server::{self as control, ControlServer};
use crate::admin::control::service::ReloadRequest;
use crate::admin::control::socket;
use crate::admin::http;
use crate::admin::status::cache::StatusCache;
use crate::app::StartError;
use crate::config::settings::Settings;
use crate::listener::inherited::InheritedSockets;
use crate::listener::socket::BindError;
use crate::net::network::SystemNet;
use crate::protocol::response::ReloadResult;
use crate::proxy::snapshot::Snapshot;
use crate::proxy::state::ProxyState;
use crate::server::cert_renewal::CertWatcher;
use crate::server::critical_task::TaskExited;
use crate::server::handover::{HandoverOutcome, Program, hand_over};
use crate::server::listeners::Listeners;
use crate::server::lost_backends;
use crate::server::reload::{self, ConfigSource};
use crate::server::signals::Signal;
use crate::sessions::drain_plan::{DrainPlan, Phase, drain};
use crate::sys::clock::wall;
use crate::sys::{descriptors, systemd, watchdog};
use crate::telemetry::access_log::AccessLog;

/// Serves until told to stop, then drains. Returns when nothing is left to be done.
pub async fn run(
    settings: Settings,
    source: ConfigSource,
    inherited: InheritedSockets,
    mut signals: mpsc::Receiver<Signal>,
) -> Result<(), StartError> {
    let (reloads, asked) = mpsc::channel(RELOADS_MAX);
    let followed = Arc::new(Notify::new());
    let (gate, mut doors, beside) = start(settings, &source, inherited, reloads, followed.clone())?;
    #[expect(clippy::disallowed_methods, reason = "not a connection: it lives until the end")]
    let mut watchdog = tokio::spawn(watchdog::run(gate.liveness.clone()));
    let serving = async {
        let why = serve(&gate, &mut doors, &source, &mut signals, asked).await?;
        match why {
            ExitCause::Followed => followed.notify_one(),
            ExitCause::Told => {
                let words = format!("draining {} tunnels", gate.occupancy.tunnels());
                systemd::stopping(&words);
            }
        }
        leave(&gate, &mut doors, &mut signals, why).await;
        Ok(())
    };
    // The operator is answered until the very end, so that a drain can be watched.
    let ended = select! {
        ended = serving => ended,
        () = beside => Err(TaskExited::of("what answers the operator", Ok(()))),
        ended = &mut watchdog => Err(TaskExited::of("the watchdog's keeper", ended)),
    };
    watchdog.abort();
    ended.map_err(|fallen| {
        error!(%fallen, "the process ends at once, so that another one can take its place");
        StartError::Broken(fallen.to_string())
    })
}

/// Why the process leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExitCause {
    /// It was told to.
    Told,
    /// Another one serves in its place.
    Followed,
}

type StartedApp<A> = (Arc<ProxyState>, Listeners, A);

fn start(
    settings: Settings,
    source: &ConfigSource,
    inherited: InheritedSockets,
    reloads: mpsc::Sender<ReloadRequest>,
    followed: Arc<Notify>,
) -> Result<StartedApp<impl Future<Output = ()> + Send + use<>>, StartError> {
    let ticketer = crate::tls::terminate::ticketer()
        .map_err(|error| StartError::Machine(error.to_string()))?;
    let descriptors = descriptors::raise_limit();
    let generation =
        Snapshot::build(settings, None, &ticketer, descriptors).map_err(StartError::Settings)?;
    let access = AccessLog::open(&generation.settings)
        .map_err(|fault| StartError::Machine(fault.to_string()))?;
    let listeners = generation.settings.listeners.clone();
    let admin_address = generation.settings.admin;
    let control_path = socket::path(&generation.settings.control);
    let room = generation.capacity;
    let fingerprint = generation.settings.source_map.fingerprint().map(str::to_owned);
    let mut doors = Listeners::new(inherited);
    doors.doubt(&listeners, admin_address);
    let machine = |fault: BindError| StartError::Machine(fault.to_string());
    let bound = doors.bind(&listeners).map_err(machine)?;
    let admin = admin_address.map(|address| doors.admin(address)).transpose();
    let admin = admin.map_err(machine)?;
    // Nothing comes before the first.
    drop(access.activate());
    let gate = Arc::new(ProxyState::new(Arc::new(SystemNet), generation, ticketer, descriptors));
    let status = Arc::<StatusCache>::default();
    let admin = admin.map(|listener| http::serve(gate.clone(), status.clone(), listener));
    let control = control_path
        .map(|path| {
            let state = gate.clone();
            control::bind(state, status.clone(), &path, doors.is_successor(), reloads)
        })
        .transpose()
        .map_err(|fault| StartError::Machine(fault.to_string()))?;
    reload::warn(source, &gate.snapshot().warnings(wall()));
    let follow = |error| StartError::Machine(format!("no word of the process before: {error}"));
    doors.follow().map_err(follow)?;
    let control = control.map(ControlServer::open);
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
    let lost = lost_backends::look_after(gate.clone());
    let beside = async move {
        join!(until(admin, &followed), unless_off(control), lost, expire(status));
    };
    Ok((gate, doors, beside))
}

/// Frees the status once no client has asked for it for a while.
async fn expire(status: Arc<StatusCache>) {
    let mut sweep = interval(SWEEP_EVERY);
    loop {
        sweep.tick().await;
        status.sweep();
    }
}

/// What is switched off never ends.
async fn unless_off(task: Option<impl Future<Output = ()>>) {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

/// Serves, until a successor does.
async fn until(serving: Option<impl Future<Output = ()>>, followed: &Notify) {
    select! {
        () = unless_off(serving) => {}
        () = followed.notified() => std::future::pending().await,
    }
}

/// Follows signals and orders until one of them says to leave.
async fn serve(
    gate: &Arc<ProxyState>,
    doors: &mut Listeners,
    source: &ConfigSource,
    signals: &mut mpsc::Receiver<Signal>,
    mut asked: mpsc::Receiver<ReloadRequest>,
) -> Result<ExitCause, TaskExited> {
    let mut sweep = interval(SWEEP_EVERY);
    let mut renewal = CertWatcher::new(&gate.snapshot());
    let program = Program::current().filter(|_| matches!(source, ConfigSource::File(_)));
    let mut again = false;
    loop {
        // Whatever is ready has its turn: a storm of signals keeps nobody else from theirs.
        select! {
            () = ready(()), if again => {
                // How it went is told of already.
                if reload(gate, doors, source, signals, &mut again).await.is_none() {
                    return Ok(ExitCause::Told);
                }
            }
            signal = signals.recv() => match signal {
                Some(Signal::Reload) => again = true,
                Some(Signal::HandOver) => {
                    match hand_over(program.as_ref(), doors, signals).await {
                        HandoverOutcome::Yes => return Ok(ExitCause::Followed),
                        HandoverOutcome::No => {}
                        HandoverOutcome::Stop => return Ok(ExitCause::Told),
                    }
                }
                Some(Signal::Stop) | None => return Ok(ExitCause::Told),
            },
            Some(ask) = asked.recv() => {
                let Some(told) = reload(gate, doors, source, signals, &mut again).await else {
                    return Ok(ExitCause::Told);
                };
                // Whoever asked may not wait.
                let _ = ReloadRequest::send(ask, told);
            }
            found = renewal.found(gate) => renewal.take(found, gate, source),
            fallen = doors.fallen() => return Err(fallen),
            _ = sweep.tick() => {
                gate.snapshot().rate.sweep();
            }
        }
    }
}

/// Reloads; `again`: that was asked for once more meanwhile. `None`: a stop came first. What was
/// loaded by then is thrown away, and what was swapped is in force.
async fn reload(
    gate: &Arc<ProxyState>,
    doors: &mut Listeners,
    source: &ConfigSource,
    signals: &mut mpsc::Receiver<Signal>,
    again: &mut bool,
) -> Option<Result<ReloadResult, Vec<String>>> {
    *again = false;
    let mut reloading = pin!(reload::reload(gate, doors, source));
    loop {
        select! {
            told = &mut reloading => return Some(told),
            signal = signals.recv() => match signal {
                Some(Signal::Reload) => *again = true,
                Some(Signal::HandOver) => warn!("no hand-over: a reload is under way"),
                Some(Signal::Stop) | None => return None,
            },
        }
    }
}

/// Leaves in order; a further stop signal hurries.
async fn leave(
    gate: &Arc<ProxyState>,
    doors: &mut Listeners,
    signals: &mut mpsc::Receiver<Signal>,
    why: ExitCause,
) {
    let settings = gate.snapshot().settings.drain;
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
    let mut hurry = pin!(hurry);
    gate.enter(Phase::Unready);
    let mut hurried = false;
    // Of one that is followed no balancer needs to know.
    if let (Some(delay), ExitCause::Told) = (settings.delay, why) {
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
    if why == ExitCause::Followed {
        // Whoever came in by our own doors is let in yet, and asked to come again as all others.
        hurried = timeout(JUST_COME, &mut hurry).await.is_ok();
    }
    gate.enter(Phase::Draining);
    let course = DrainPlan::standard(gate.net.clone(), settings, TerminationReason::Drained);
    let hurry = async {
        if !hurried {
            hurry.await;
        }
    };
    let drained = drain(&gate.registry, &gate.tasks, &course, hurry).await;
    info!(
        sessions = drained.sessions,
        aborted = drained.aborted,
        forced = drained.forced,
        "stopped"
    );
}

/// Reloads that are asked for and not begun.
const RELOADS_MAX: usize = 4;
/// For handshakes under way when a successor begins to serve.
const JUST_COME: Duration = Duration::from_secs(1);
const SWEEP_EVERY: Duration = Duration::from_secs(10);
