//! What connection attempts, responses and probes show about a backend.

use std::fmt;

use tokio::time::Instant;

use super::Backend;
use crate::sys::clock::now;
use crate::telemetry::events::{backend_connect_failed, backend_held, backend_recovered};
use crate::telemetry::metrics::backend_state::BackendState;
use crate::upstream::probe::health::ProbeState;

impl Backend {
    /// What connection attempts, responses and probes showed, unless an operator has drained it.
    pub fn state(&self) -> BackendState {
        if self.is_draining() { BackendState::Drained } else { self.shown_state() }
    }

    /// What connection attempts, responses and probes showed; never [`BackendState::Drained`].
    pub fn shown_state(&self) -> BackendState {
        let probed = self.probe.as_ref().map(|probe| probe.state());
        let state = self.health.state();
        match (probed, state) {
            (Some(ProbeState::Down), _) => BackendState::Down,
            (_, _) if self.is_ejected() => BackendState::Down,
            // A connection that fails between two probes is one failure.
            (Some(ProbeState::Up), _) => BackendState::Up,
            (_, BackendState::Up) if self.responses.is_returning() => BackendState::Untried,
            (_, state) => state,
        }
    }

    /// Whether its probes have failed, so that it gets no requests.
    pub fn is_down_by_probe(&self) -> bool {
        self.probe.as_ref().is_some_and(|probe| probe.state() == ProbeState::Down)
    }

    /// Whether it is tried after the others of its pool: connection attempts or responses failed.
    pub fn is_ejected(&self) -> bool {
        self.responses.is_ejected() || self.health.is_ejected()
    }

    /// When it last came back, after failed connection attempts, responses or probes.
    pub fn recovered_at(&self) -> Option<Instant> {
        let probed = self.probe.as_ref().and_then(|probe| probe.recovered_at());
        self.health.recovered_at().max(self.responses.recovered_at()).max(probed)
    }

    /// What failed last, although it may still be up, and what ends it.
    pub fn problem(&self) -> Option<String> {
        if let Some((probe, cause)) = self.probe.as_ref().and_then(|p| Some((p, p.cause()?))) {
            return Some(format!("{} probe failed: {cause}", probe.settings.kind.as_str()));
        }
        if let Some(ejection) = self.responses.ejection() {
            let left = ejection.until.saturating_duration_since(Instant::now()).as_secs() + 1;
            return Some(format!("ejected for another {left}s: {}", ejection.cause));
        }
        if let Some(cause) = self.lookup_failure() {
            return Some(cause);
        }
        let (failures, cause) = self.health.failures();
        if failures == 0 || self.shown_state() != BackendState::Down {
            let (clients, cause) = self.responses.failing_handshakes(Instant::now())?;
            let of = if clients == 1 { "1 client" } else { &format!("{clients} clients") };
            return Some(format!("the last handshakes of {of} failed: {cause}"));
        }
        let cause = cause.as_deref().unwrap_or("the last connection attempt failed");
        Some(match failures {
            1 => cause.to_owned(),
            _ => format!("{cause}, {failures} attempts in a row"),
        })
    }

    /// Why nothing can be sent to it whatever its state: its name has no address, and looking it up failed.
    pub fn lookup_failure(&self) -> Option<String> {
        let listed = self.listed.as_ref().filter(|listed| listed.id == self.id)?;
        if !listed.name.answer().is_empty() {
            return None;
        }
        listed.name.failure()
    }

    /// Whether it counts as available to new tunnels.
    pub fn is_available(&self) -> bool {
        self.state().is_available() && self.lookup_failure().is_none()
    }

    /// Records an accepted connection, and logs that an ejected backend is back.
    pub fn record_connection(&self) {
        if self.health.record_success(Instant::now()) {
            backend_recovered(&self.id, &self.counts.route.name);
        }
    }

    /// Records a failed connection attempt that started at `started`, and logs it together with the
    /// ejection it may cause.
    pub fn record_failure(&self, started: Instant, error: &dyn fmt::Display) {
        self.counts.connect_failures.inc();
        let is_ejected = self.health.record_failure(started, Instant::now());
        self.health.set_cause(error.to_string());
        backend_connect_failed(&self.id, &self.counts.route.name, error, is_ejected);
    }

    /// Counts a connection attempt that timed out while exchanges on this many other connections wait for request
    /// bodies. It does not show that the backend is down: clients that send slowly may hold all of its workers.
    pub fn record_held(&self, uploads: u64) {
        self.counts.connect_failures.inc();
        if self.health.held_logged.is_due(now()) {
            backend_held(&self.id, &self.counts.route.name, uploads);
        }
    }
}
