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

/// Drains and returns when no session is left. A second stop signal aborts all
/// remaining tunnels immediately.
pub async fn stop(
    state: &Arc<ProxyState>,
    listeners: &mut Listeners,
    signals: &mut mpsc::Receiver<Signal>,
    cause: ExitCause,
) {
    let settings = state.snapshot().settings.drain;
    let mut second_stop = pin!(second_stop(signals));
    state.set_phase(Phase::Unready);
    let mut was_forced = false;
    // A successor answers the health checks of a process that was replaced.
    if let (Some(delay), ExitCause::Stopped) = (settings.delay, cause) {
        info!(
            delay_ms = delay.as_millis() as u64,
            "shutting down: /readyz returns 503; the drain starts after drain.delay"
        );
        was_forced = timeout(delay, &mut second_stop).await.is_ok();
    }
    listeners.close().await;
    if cause == ExitCause::Replaced {
        // Connections accepted just before the handover complete here, and are closed like the
        // rest.
        was_forced = timeout(HANDSHAKE_GRACE, &mut second_stop).await.is_ok();
    }
    state.set_phase(Phase::Draining);
    info!(
        tunnels = state.concurrency.tunnels(),
        window_ms = settings.window.as_millis() as u64,
        deadline_ms = settings.deadline.as_millis() as u64,
        "draining; a second signal aborts all remaining tunnels immediately"
    );
    let plan = DrainPlan::standard(state.net.clone(), settings, TerminationReason::Drained);
    let force = async {
        if !was_forced {
            second_stop.await;
        }
    };
    let drained = drain(&state.registry, &state.tasks, &plan, force).await;
    info!(
        tunnels = drained.sessions,
        aborted = drained.aborted,
        forced = drained.forced,
        "shutdown complete"
    );
}

/// Ready at the next stop signal; rejects everything else.
async fn second_stop(signals: &mut mpsc::Receiver<Signal>) {
    loop {
        match signals.recv().await {
            Some(Signal::Reload) => warn!("reload rejected: the process is shutting down"),
            Some(Signal::HandOver) => warn!("handover rejected: the process is shutting down"),
            Some(Signal::Stop) => return,
            // No further signal can come.
            None => std::future::pending().await,
        }
    }
}

/// Time for handshakes in progress when a successor starts to serve.
const HANDSHAKE_GRACE: Duration = Duration::from_secs(1);
