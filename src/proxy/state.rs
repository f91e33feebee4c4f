//! State that all tasks of the process share and that reloads do not replace.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::server::ProducesTickets;
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

use super::opening::TURNS_PER_WORKER;
use super::snapshot::Snapshot;
use crate::admission::concurrency::ConcurrencyLimits;
use crate::admission::pending::PendingConnections;
use crate::admission::turns::Turns;
use crate::config::explain::effect::AppliesTo;
use crate::config::explain::listing::{effective, when_effective};
use crate::config::settings::Settings;
use crate::control_protocol::response::{Change, ChangedKey, EffectiveKey};
use crate::net::http2::waiting::WaitingBytes;
use crate::net::network::Net;
use crate::sessions::drain_plan::Phase;
use crate::sessions::drains::RunningDrains;
use crate::sessions::rebalances::RunningRebalances;
use crate::sessions::registry::Registry;
use crate::sys::clock::{now, wall};
use crate::sys::watchdog::LivenessRegistry;
use crate::telemetry::metrics::Metrics;
use crate::upstream::admin_override::DrainFlag;

/// The shared state of the proxy. A reload replaces only the snapshot.
pub struct ProxyState {
    snapshot: ArcSwap<Snapshot>,
    /// Outgoing connections, name resolution and randomness.
    pub net: Arc<dyn Net>,
    phase: watch::Sender<Phase>,
    /// Counts of open connections and tunnels.
    pub concurrency: Arc<ConcurrencyLimits>,
    /// Connections that carry no tunnel yet.
    pub pending: Arc<PendingConnections>,
    /// Turns of connections that are being opened.
    pub turns: Arc<Turns>,
    /// Bytes that clients have sent over HTTP/2 and that wait for backends.
    pub waiting: Arc<WaitingBytes>,
    /// Open sessions.
    pub registry: Arc<Registry>,
    /// The tasks of connections and sessions; the shutdown waits for them.
    pub tasks: TaskTracker,
    /// Keys of TLS session tickets.
    pub ticketer: Arc<dyn ProducesTickets>,
    /// Metrics of the process.
    pub metrics: Arc<Metrics>,
    /// Result of the last reload; `None` before the first one.
    pub last_reload: ArcSwapOption<LastReload>,
    /// Whether an operator has drained the whole process.
    pub admin_drain: Arc<DrainFlag>,
    /// Drains in progress that were started by an operator or a reload.
    pub drains: RunningDrains,
    /// Notified when there may be a certificate to order: after a reload, or by an operator.
    pub certificate_orders: Notify,
    /// Notified when an issued certificate is in its files.
    pub certificate_installed: Notify,
    /// Rebalances in progress.
    pub rebalances: RunningRebalances,
    /// The tasks that the watchdog checks.
    pub liveness: Arc<LivenessRegistry>,
    /// Start time in seconds since 1970.
    pub started_at: f64,
    /// Limit of open files.
    pub descriptors: usize,
    started: Instant,
    /// Settings that only a restart changes, with the values that the process started with.
    restart_only: Vec<EffectiveKey>,
}

/// The result of a reload.
#[derive(Clone, Debug, PartialEq)]
pub struct LastReload {
    /// Time in seconds since 1970.
    pub at: f64,
    /// The changes, or why it was rejected.
    pub outcome: Result<Vec<Change>, ReloadErrors>,
}

/// The errors of a rejected reload, as they are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadErrors {
    /// One line for each of the first errors.
    pub lines: Vec<String>,
    /// Number of all errors.
    pub count: usize,
}

impl ProxyState {
    /// Creates the state with its first snapshot. `descriptors` is the limit of open files.
    pub fn new(
        net: Arc<dyn Net>,
        snapshot: Snapshot,
        ticketer: Arc<dyn ProducesTickets>,
        descriptors: usize,
    ) -> Self {
        let pending = Arc::<PendingConnections>::default();
        pending.set_memory_limit(snapshot.capacity.pending_memory);
        Self {
            restart_only: restart_only(&snapshot.settings),
            turns: Turns::new(TURNS_PER_WORKER * snapshot.settings.workers),
            metrics: snapshot.metrics.clone(),
            last_reload: ArcSwapOption::empty(),
            started_at: wall(),
            admin_drain: Arc::default(),
            drains: RunningDrains::default(),
            certificate_orders: Notify::new(),
            certificate_installed: Notify::new(),
            rebalances: RunningRebalances::default(),
            liveness: Arc::default(),
            snapshot: ArcSwap::from_pointee(snapshot),
            net,
            phase: watch::Sender::new(Phase::Running),
            concurrency: Arc::default(),
            pending,
            waiting: Arc::default(),
            registry: Arc::default(),
            tasks: TaskTracker::new(),
            ticketer,
            descriptors,
            started: now(),
        }
    }

    /// The current snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Replaces the snapshot. Requests that are being handled keep the previous one.
    pub fn swap(&self, snapshot: Snapshot) {
        self.pending.set_memory_limit(snapshot.capacity.pending_memory);
        self.snapshot.store(Arc::new(snapshot));
    }

    /// The lifecycle phase of the process.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Whether the whole process rejects new tunnels, because it shuts down or because an operator has
    /// drained it.
    pub fn is_draining(&self) -> bool {
        self.is_shutting_down() || self.admin_drain.is_draining()
    }

    /// Whether the final drain has started, which cannot be undone.
    pub fn is_shutting_down(&self) -> bool {
        self.phase() == Phase::Draining
    }

    /// Whether load balancers should send new clients. This ends before the final drain starts.
    pub fn is_ready(&self) -> bool {
        self.phase() == Phase::Running && !self.admin_drain.is_draining()
    }

    /// Why new clients would not be served; `None` if the process admits new tunnels, has a valid certificate, and at
    /// least one backend is neither down nor drained. Says nothing about names: anyone may read it.
    pub fn unready_cause(&self) -> Option<&'static str> {
        let snapshot = self.snapshot();
        if self.phase() != Phase::Running {
            return Some("the process is shutting down");
        }
        if self.admin_drain.is_draining() {
            return Some("everything is drained");
        }
        if snapshot.awaits_certificate() {
            return Some("no certificate has been issued yet");
        }
        if snapshot.has_expired(wall()) {
            return Some("every certificate has expired");
        }
        snapshot.unavailable_cause()
    }

    /// Sets the lifecycle phase. Phases only advance.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Waits until the final drain starts.
    pub async fn wait_draining(&self) {
        // The sender is a field of `self`, so waiting cannot fail.
        let _ = self.phase.subscribe().wait_for(|phase| *phase == Phase::Draining).await;
    }

    /// Changed keys that take effect only after a restart, with the values that are used until then.
    pub fn keys_requiring_restart(&self) -> Vec<EffectiveKey> {
        let configured = restart_only(&self.snapshot().settings);
        let differs = |key: &&EffectiveKey| {
            let new = configured.iter().find(|other| other.key == key.key);
            new.is_some_and(|new| new.value != key.value)
        };
        self.restart_only.iter().filter(differs).cloned().collect()
    }

    /// Whether the new value of a key that only a restart changes is the one that the process started with.
    pub fn still_has(&self, changed: &ChangedKey) -> bool {
        let started = self.restart_only.iter().find(|key| key.key == changed.key);
        started.is_some_and(|started| changed.after.as_ref() == Some(&started.value))
    }

    /// The names of [`Self::keys_requiring_restart`].
    pub fn restart_required(&self) -> Vec<String> {
        self.keys_requiring_restart().into_iter().map(|key| key.key).collect()
    }

    /// Time since the process started.
    pub fn uptime(&self) -> Duration {
        now().duration_since(self.started)
    }
}

/// The settings that a reload does not change.
fn restart_only(settings: &Settings) -> Vec<EffectiveKey> {
    let mut keys = effective(settings);
    keys.retain(|key| when_effective(&key.key) == Some(AppliesTo::Restart));
    keys
}
