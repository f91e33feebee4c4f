//! The shutdown: reports unready, stops accepting, drains the tunnels.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{info, warn};
use ws::TerminationReason;

use crate::proxy::state::ProxyState;
use crate::server::listeners::Listeners;
use crate::server::signals::Signal;
use crate::sessions::drain_plan::{DrainPlan, Phase, drain};

/// Why the process stops serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopCause {
    /// A signal to stop.
    Signal,
    /// A successor serves in its place.
    Handover,
}

/// Drains and returns when all tunnels are closed. A further stop signal aborts the open tunnels.
pub(super) async fn stop(
    state: &Arc<ProxyState>,
    listeners: &mut Listeners,
    signals: &mut mpsc::Receiver<Signal>,
    cause: StopCause,
) {
    let settings = state.snapshot().settings.drain;
    let force = async {
        loop {
            match signals.recv().await {
                Some(Signal::Reload) => warn!("reload rejected: the process is shutting down"),
                Some(Signal::HandOver) => warn!("handover rejected: the process is shutting down"),
                Some(Signal::Stop) => return,
                // No signal can arrive any more.
                None => std::future::pending().await,
            }
        }
    };
    let mut force = pin!(force);
    state.enter(Phase::Unready);
    let mut forced = false;
    // After a handover the successor is ready, so load balancers need no notice.
    if let (Some(delay), StopCause::Signal) = (settings.delay, cause) {
        info!(delay_ms = delay.as_millis() as u64, "unready; still serving during drain.delay");
        forced = timeout(delay, &mut force).await.is_ok();
    }
    info!(
        tunnels = state.occupancy.tunnels(),
        window_ms = settings.window.as_millis() as u64,
        deadline_ms = settings.deadline.as_millis() as u64,
        "draining; a second signal aborts open tunnels"
    );
    listeners.close().await;
    if cause == StopCause::Handover {
        // Connections accepted just before the handover complete their handshakes here and are then
        // closed like the rest.
        forced = timeout(HANDSHAKE_GRACE, &mut force).await.is_ok();
    }
    state.enter(Phase::Draining);
    let plan = DrainPlan::standard(state.net.clone(), settings, TerminationReason::Drained);
    let force = async {
        if !forced {
            force.await;
        }
    };
    let outcome = drain(&state.registry, &state.tasks, &plan, force).await;
    info!(
        sessions = outcome.sessions,
        aborted = outcome.aborted,
        forced = outcome.forced,
        "stopped"
    );
}

/// Time for handshakes in progress when a successor starts to serve.
const HANDSHAKE_GRACE: Duration = Duration::from_secs(1);
