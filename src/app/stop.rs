//! Stop: unready for a while if configured, then no new connections, then a paced drain.

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

/// Why the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCause {
    /// A signal stopped it.
    Stopped,
    /// A successor serves in its place.
    Replaced,
}

/// Drains and returns when no session is left. A further stop signal closes everything at once.
pub async fn stop(
    state: &Arc<ProxyState>,
    listeners: &mut Listeners,
    signals: &mut mpsc::Receiver<Signal>,
    cause: ExitCause,
) {
    let settings = state.snapshot().settings.drain;
    let mut force = pin!(second_stop(signals));
    state.set_phase(Phase::Unready);
    let mut forced = false;
    // A successor answers the health checks of a process that was replaced.
    if let (Some(delay), ExitCause::Stopped) = (settings.delay, cause) {
        info!(
            delay_ms = delay.as_millis() as u64,
            "unready: still serving before the drain starts"
        );
        forced = timeout(delay, &mut force).await.is_ok();
    }
    info!(
        tunnels = state.concurrency.tunnels(),
        window_ms = settings.window.as_millis() as u64,
        deadline_ms = settings.deadline.as_millis() as u64,
        "draining; a second signal closes all tunnels at once"
    );
    listeners.close().await;
    if cause == ExitCause::Replaced {
        // Connections accepted just before the handover complete here, and are closed like the
        // rest.
        forced = timeout(HANDSHAKE_GRACE, &mut force).await.is_ok();
    }
    state.set_phase(Phase::Draining);
    let plan = DrainPlan::standard(state.net.clone(), settings, TerminationReason::Drained);
    let force = async {
        if !forced {
            force.await;
        }
    };
    let drained = drain(&state.registry, &state.tasks, &plan, force).await;
    info!(
        sessions = drained.sessions,
        aborted = drained.aborted,
        forced = drained.forced,
        "stopped"
    );
}

/// Ready at the next stop signal; rejects everything else.
async fn second_stop(signals: &mut mpsc::Receiver<Signal>) {
    loop {
        match signals.recv().await {
            Some(Signal::Reload) => warn!("reload rejected: the process is stopping"),
            Some(Signal::HandOver) => warn!("handover rejected: the process is stopping"),
            Some(Signal::Stop) => return,
            // No further signal can come.
            None => std::future::pending().await,
        }
    }
}

/// Time for handshakes in progress when a successor starts to serve.
const HANDSHAKE_GRACE: Duration = Duration::from_secs(1);
