//! Everything shared and permanent: what the tasks of a process have in common, across reloads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::server::ProducesTickets;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::snapshot::Snapshot;
use crate::admission::concurrency::ConcurrencyLimits;
use crate::config::explain::effect::AppliesTo;
use crate::config::explain::listing::{effective, takes_effect};
use crate::config::settings::Settings;
use crate::net::network::Net;
use crate::protocol::response::{Change, EffectiveKey};
use crate::sessions::drain_plan::Phase;
use crate::sessions::drains::RunningDrains;
use crate::sessions::registry::Registry;
use crate::sys::clock::{now, wall};
use crate::sys::watchdog::LivenessRegistry;
use crate::telemetry::metrics::Metrics;
use crate::upstream::admin_override::DrainFlag;

/// The house itself.
pub struct ProxyState {
    snapshot: ArcSwap<Snapshot>,
    /// Connections, name look-ups and randomness.
    pub net: Arc<dyn Net>,
    phase: watch::Sender<Phase>,
    /// Who is inside.
    pub occupancy: Arc<ConcurrencyLimits>,
    /// Open sessions.
    pub registry: Arc<Registry>,
    /// Connections and sessions; a drain waits for them.
    pub tasks: TaskTracker,
    /// Ticket keys, kept over reloads.
    pub ticketer: Arc<dyn ProducesTickets>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// How the last reload went; `None` before the first.
    pub reloaded: ArcSwapOption<LastReload>,
    /// Whether an operator keeps everybody out.
    pub away: Arc<DrainFlag>,
    /// Drains that go on beside everything else.
    pub drains: RunningDrains,
    /// Whom the watchdog asks.
    pub liveness: Arc<LivenessRegistry>,
    /// When it was opened, in seconds since 1970.
    pub born: f64,
    /// How many descriptors the process may open.
    pub descriptors: usize,
    started: Instant,
    /// What takes a restart, as it was at the start.
    fixed: Vec<EffectiveKey>,
}

/// How a reload went.
#[derive(Clone, Debug, PartialEq)]
pub struct LastReload {
    /// When, in seconds since 1970.
    pub at: f64,
    /// What changed, or the faults, one a line.
    pub outcome: Result<Vec<Change>, Vec<String>>,
}

impl ProxyState {
    /// Opens under a first generation.
    pub fn new(
        net: Arc<dyn Net>,
        snapshot: Snapshot,
        ticketer: Arc<dyn ProducesTickets>,
        descriptors: usize,
    ) -> Self {
        Self {
            fixed: fixed(&snapshot.settings),
            metrics: snapshot.metrics.clone(),
            reloaded: ArcSwapOption::empty(),
            born: wall(),
            away: Arc::default(),
            drains: RunningDrains::default(),
            liveness: Arc::default(),
            snapshot: ArcSwap::from_pointee(snapshot),
            net,
            phase: watch::Sender::new(Phase::Running),
            occupancy: Arc::default(),
            registry: Arc::default(),
            tasks: TaskTracker::new(),
            ticketer,
            descriptors,
            started: now(),
        }
    }

    /// The configuration in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Puts a new configuration in force; who holds the old one keeps it.
    pub fn swap(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
    }

    /// Where the process stands.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Whether the process is on its way out, and takes no new session.
    pub fn is_draining(&self) -> bool {
        self.phase() == Phase::Draining
    }

    /// Whether new sessions are kept out: for good, or until an operator says otherwise.
    pub fn is_closed(&self) -> bool {
        self.is_draining() || self.away.is_away()
    }

    /// Whether balancers should send more clients.
    pub fn is_wanted(&self) -> bool {
        self.phase() == Phase::Running && !self.away.is_away()
    }

    /// Begins to leave, one step after the other.
    pub fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Ready when the process begins to leave.
    pub async fn draining(&self) {
        // The sender lives in this very gate, so that waiting cannot fail.
        let _ = self.phase.subscribe().wait_for(|phase| *phase == Phase::Draining).await;
    }

    /// Keys of the configuration in force that hold after a restart only, with what holds until then.
    pub fn overdue(&self) -> Vec<EffectiveKey> {
        let file = fixed(&self.snapshot().settings);
        let differs = |key: &&EffectiveKey| {
            let now = file.iter().find(|other| other.key == key.key);
            now.is_some_and(|now| now.value != key.value)
        };
        self.fixed.iter().filter(differs).cloned().collect()
    }

    /// Their names.
    pub fn restart_required(&self) -> Vec<String> {
        self.overdue().into_iter().map(|key| key.key).collect()
    }

    /// Since the gate was opened.
    pub fn uptime(&self) -> Duration {
        now().duration_since(self.started)
    }
}

/// What of these settings a reload does not touch.
fn fixed(settings: &Settings) -> Vec<EffectiveKey> {
    let mut keys = effective(settings);
    keys.retain(|key| takes_effect(&key.key) == Some(AppliesTo::Restart));
    keys
}
