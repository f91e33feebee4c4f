//! The life of the process: starts, handles signals, reloads, renewals and handovers one at a time,
//! and stops.

use std::future::ready;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::select;
use tokio::sync::{Notify, mpsc};
use tokio::time::interval;
use tracing::{error, warn};

use super::start::start;
use super::stop::{ExitCause, stop};
use crate::admin::control::service::ReloadRequest;
use crate::app::RunError;
use crate::config::settings::Settings;
use crate::control_protocol::response::ReloadResult;
use crate::listener::inherited::InheritedSockets;
use crate::proxy::state::ProxyState;
use crate::server::address_files::AddressFileWatcher;
use crate::server::cert_renewal::CertWatcher;
use crate::server::critical_task::TaskExited;
use crate::server::handover::{HandoverOutcome, HandoverUnavailable, Program, hand_over};
use crate::server::listeners::Listeners;
use crate::server::reload::error::ReloadError;
use crate::server::reload::{self, ConfigSource};
use crate::server::signals::Signal;
use crate::sys::{systemd, watchdog};

/// Serves until told to stop, then drains. Returns when no session is left.
///
/// # Errors
/// The process could not start, or a task that it depends on has ended.
pub async fn run(
    settings: Settings,
    source: ConfigSource,
    inherited: InheritedSockets,
    mut signals: mpsc::Receiver<Signal>,
) -> Result<(), RunError> {
    let (reloads, requested) = mpsc::channel(RELOADS_MAX);
    let replaced = Arc::new(Notify::new());
    let (state, mut listeners, background) =
        start(settings, &source, inherited, reloads, replaced.clone()).await?;
    #[expect(clippy::disallowed_methods, reason = "not a connection: it runs until the end")]
    let mut watchdog = tokio::spawn(watchdog::run(state.liveness.clone()));
    let serving = async {
        let cause = serve(&state, &mut listeners, &source, &mut signals, requested).await?;
        match cause {
            ExitCause::Replaced => replaced.notify_one(),
            ExitCause::Stopped => {
                systemd::stopping(&format!("draining {} tunnels", state.concurrency.tunnels()));
            }
        }
        stop(&state, &mut listeners, &mut signals, cause).await;
        Ok(())
    };
    // The operator gets answers until the end, so that a drain can be watched.
    let ended = select! {
        ended = serving => ended,
        () = background => Err(TaskExited::of("the admin and control tasks", Ok(()))),
        ended = &mut watchdog => Err(TaskExited::of("the watchdog task", ended)),
    };
    watchdog.abort();
    ended.map_err(|exited| {
        error!(
            task = %exited,
            "internal error: a critical task ended; exiting so that the service manager restarts \
             tidegate"
        );
        RunError::Task(exited.to_string())
    })
}

/// Handles signals and requests until one of them ends the process.
async fn serve(
    state: &Arc<ProxyState>,
    listeners: &mut Listeners,
    source: &ConfigSource,
    signals: &mut mpsc::Receiver<Signal>,
    mut requested: mpsc::Receiver<ReloadRequest>,
) -> Result<ExitCause, TaskExited> {
    let mut sweep = interval(SWEEP_INTERVAL);
    let mut certificates = CertWatcher::new(&state.snapshot());
    let mut address_files = AddressFileWatcher::start();
    let program = match source {
        ConfigSource::File(_) => Program::current().ok_or(HandoverUnavailable::UnknownProgram),
        ConfigSource::Fixed(_) => Err(HandoverUnavailable::NoConfigFile),
    };
    let mut reload_again = false;
    loop {
        // The branches are polled in random order, so that a storm of signals starves none.
        select! {
            () = ready(()), if reload_again => {
                // The reload has logged its result.
                if reload(state, listeners, source, signals, &mut reload_again).await.is_none() {
                    return Ok(ExitCause::Stopped);
                }
            }
            signal = signals.recv() => match signal {
                Some(Signal::Reload) => reload_again = true,
                Some(Signal::HandOver) => {
                    match hand_over(program.as_ref().map_err(|cause| *cause), listeners, signals).await {
                        HandoverOutcome::Complete => return Ok(ExitCause::Replaced),
                        HandoverOutcome::Failed => {}
                        HandoverOutcome::Stopped => return Ok(ExitCause::Stopped),
                    }
                }
                Some(Signal::Stop) | None => return Ok(ExitCause::Stopped),
            },
            Some(request) = requested.recv() => {
                let reloading = reload(state, listeners, source, signals, &mut reload_again);
                let Some(result) = reloading.await else {
                    return Ok(ExitCause::Stopped);
                };
                // The requester may have disconnected.
                let _ = ReloadRequest::send(request, result);
            }
            scan = certificates.scan(state) => certificates.apply(scan, state, source),
            scan = address_files.scan(state) => address_files.apply(scan, state, source),
            exited = listeners.failed_task() => return Err(exited),
            _ = sweep.tick() => state.snapshot().client_rates.sweep(),
        }
    }
}

/// Reloads once. `again` is set if another reload was requested meanwhile. `None` means that a stop
/// came first: an unfinished load is discarded, and what was already swapped stays active.
async fn reload(
    state: &Arc<ProxyState>,
    listeners: &mut Listeners,
    source: &ConfigSource,
    signals: &mut mpsc::Receiver<Signal>,
    again: &mut bool,
) -> Option<Result<ReloadResult, ReloadError>> {
    *again = false;
    let mut reloading = pin!(reload::reload(state, listeners, source));
    loop {
        select! {
            result = &mut reloading => return Some(result),
            signal = signals.recv() => match signal {
                Some(Signal::Reload) => *again = true,
                Some(Signal::HandOver) => warn!("handover rejected: a reload is in progress"),
                Some(Signal::Stop) | None => return None,
            },
        }
    }
}

/// Reloads that are requested and not started yet.
const RELOADS_MAX: usize = 4;
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
