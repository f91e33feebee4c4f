//! The life of the process: starts, serves until told to stop, and drains.

use std::future::ready;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::select;
use tokio::sync::{Notify, mpsc};
use tokio::time::interval;
use tracing::{error, warn};

use super::start::{StartedApp, start};
use super::stop::{StopCause, stop};
use crate::admin::control::service::ReloadRequest;
use crate::app::StartError;
use crate::config::settings::Settings;
use crate::listener::inherited::InheritedSockets;
use crate::protocol::response::ReloadResult;
use crate::proxy::state::ProxyState;
use crate::server::cert_renewal::CertWatcher;
use crate::server::critical_task::TaskExited;
use crate::server::handover::{HandoverOutcome, Program, hand_over};
use crate::server::listeners::Listeners;
use crate::server::reload::{self, ConfigSource};
use crate::server::signals::Signal;
use crate::sys::{systemd, watchdog};

/// Starts, serves until a signal or a handover, and drains. Returns when the process can exit.
///
/// # Errors
/// The process cannot start, or a critical task has ended.
pub async fn run(
    settings: Settings,
    source: ConfigSource,
    inherited: InheritedSockets,
    mut signals: mpsc::Receiver<Signal>,
) -> Result<(), StartError> {
    let (reloads, reload_requests) = mpsc::channel(RELOADS_MAX);
    let handed_over = Arc::new(Notify::new());
    let StartedApp { state, mut listeners, services } =
        start(settings, &source, inherited, reloads, handed_over.clone())?;
    #[expect(clippy::disallowed_methods, reason = "lives as long as the process")]
    let mut watchdog = tokio::spawn(watchdog::run(state.liveness.clone()));
    let serving = async {
        let cause = serve(&state, &mut listeners, &source, &mut signals, reload_requests).await?;
        match cause {
            StopCause::Handover => handed_over.notify_one(),
            StopCause::Signal => {
                let status = format!("draining {} tunnels", state.occupancy.tunnels());
                systemd::stopping(&status);
            }
        }
        stop(&state, &mut listeners, &mut signals, cause).await;
        Ok(())
    };
    // The admin services run until the end, so that a drain can be watched.
    let ended = select! {
        ended = serving => ended,
        () = services => Err(TaskExited::of("admin services", Ok(()))),
        ended = &mut watchdog => Err(TaskExited::of("watchdog", ended)),
    };
    watchdog.abort();
    ended.map_err(|error| {
        error!(%error, "critical task ended; the process exits so that it can be restarted");
        StartError::Task(error.to_string())
    })
}

/// Handles signals, reload requests and certificate renewal until a signal to stop or a handover.
async fn serve(
    state: &Arc<ProxyState>,
    listeners: &mut Listeners,
    source: &ConfigSource,
    signals: &mut mpsc::Receiver<Signal>,
    mut reload_requests: mpsc::Receiver<ReloadRequest>,
) -> Result<StopCause, TaskExited> {
    let mut sweep = interval(SWEEP_INTERVAL);
    let mut certs = CertWatcher::new(&state.snapshot());
    let program = Program::current().filter(|_| matches!(source, ConfigSource::File(_)));
    let mut reload_pending = false;
    loop {
        // Unbiased: a flood of signals must not starve the other branches.
        select! {
            () = ready(()), if reload_pending => {
                if reload(state, listeners, source, signals, &mut reload_pending).await.is_none() {
                    return Ok(StopCause::Signal);
                }
            }
            signal = signals.recv() => match signal {
                Some(Signal::Reload) => reload_pending = true,
                Some(Signal::HandOver) => {
                    match hand_over(program.as_ref(), listeners, signals).await {
                        HandoverOutcome::Complete => return Ok(StopCause::Handover),
                        HandoverOutcome::Failed => {}
                        HandoverOutcome::Stopped => return Ok(StopCause::Signal),
                    }
                }
                Some(Signal::Stop) | None => return Ok(StopCause::Signal),
            },
            Some(request) = reload_requests.recv() => {
                let Some(outcome) = reload(state, listeners, source, signals, &mut reload_pending).await else {
                    return Ok(StopCause::Signal);
                };
                // The client may have disconnected.
                let _ = ReloadRequest::send(request, outcome);
            }
            result = certs.scan(state) => certs.apply(result, state, source),
            exited = listeners.failed_task() => return Err(exited),
            _ = sweep.tick() => {
                state.snapshot().rate.sweep();
            }
        }
    }
}

/// Runs a reload. Sets `pending` if another one is requested meanwhile. `None` if a signal to stop arrived
/// first: what was loaded by then is discarded, what was replaced stays active.
async fn reload(
    state: &Arc<ProxyState>,
    listeners: &mut Listeners,
    source: &ConfigSource,
    signals: &mut mpsc::Receiver<Signal>,
    pending: &mut bool,
) -> Option<Result<ReloadResult, Vec<String>>> {
    *pending = false;
    let mut reloading = pin!(reload::reload(state, listeners, source));
    loop {
        select! {
            outcome = &mut reloading => return Some(outcome),
            signal = signals.recv() => match signal {
                Some(Signal::Reload) => *pending = true,
                Some(Signal::HandOver) => warn!("handover rejected: a reload is in progress"),
                Some(Signal::Stop) | None => return None,
            },
        }
    }
}

/// Reload requests that may wait.
const RELOADS_MAX: usize = 4;
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
