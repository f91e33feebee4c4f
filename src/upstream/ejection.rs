//! Ejection of a backend that accepts connections, but whose responses fail: it is tried last for a time
//! that doubles with each ejection that soon follows another.
//!
//! A single client must not take a backend from others, since what it sends may be the cause. Its failures
//! eject a backend only if no other client uses it, and otherwise more clients must have failed than succeeded.

use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use crate::client::ClientKey;
use crate::reject::RejectReason;
use crate::telemetry::metrics::handles::BackendCounts;
use crate::telemetry::once_a_minute::OnceAMinute;

/// What a response answers. Both are judged on their own, since an application may serve pages while its
/// WebSockets fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseKind {
    /// A WebSocket handshake.
    Handshake,
    /// A plain HTTP request.
    Plain,
}

/// What responses show about one backend of one pool. Shared by all routes that use the pool, and kept across
/// reloads.
#[derive(Debug, Default)]
pub struct ResponseHealth {
    /// Whether successes must be recorded: a response has failed, or an ejection has ended. Otherwise a
    /// successful response costs one load.
    is_watched: AtomicBool,
    is_ejected: AtomicBool,
    /// Whether an ejection has ended.
    has_recovered: AtomicBool,
    state: Mutex<ResponseState>,
    /// The metrics of the backend in each route, which count its open tunnels.
    routes: Mutex<Vec<Weak<BackendCounts>>>,
    /// When it was last logged that the pool does not allow an ejection.
    pub refusal_logged: OnceAMinute,
    /// When it was last logged that clients left before the backend responded.
    pub silence_logged: OnceAMinute,
}

#[derive(Debug, Default)]
struct ResponseState {
    handshakes: ResponseWindow,
    plain: ResponseWindow,
    /// Why the last failed handshake failed.
    handshake_cause: Option<RejectReason>,
    ejection: Option<Ejection>,
    /// The last ejection that has ended.
    previous: Option<Ejection>,
    /// No response has come since the end of the last ejection.
    is_returning: bool,
}

/// A backend that is tried last until a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ejection {
    /// Why the last response failed.
    pub cause: RejectReason,
    /// Number of clients whose last response failed.
    pub clients: usize,
    /// When it ends.
    pub until: Instant,
    /// How long it lasts.
    pub time: Duration,
}

impl ResponseHealth {
    /// Whether the backend is ejected.
    pub fn is_ejected(&self) -> bool {
        self.is_ejected.load(Ordering::Relaxed)
    }

    /// Whether no response has come since the end of an ejection.
    pub fn is_returning(&self) -> bool {
        self.is_watched.load(Ordering::Relaxed) && self.lock().is_returning
    }

    /// Adds a route that uses the backend.
    pub fn add_route(&self, counts: &Arc<BackendCounts>) {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.retain(|known| known.strong_count() > 0);
        if !routes.iter().any(|known| ptr::eq(known.as_ptr(), Arc::as_ptr(counts))) {
            routes.push(Arc::downgrade(counts));
        }
    }

    /// Whether a tunnel to the backend is open, through any route.
    pub fn has_tunnels(&self) -> bool {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.iter().filter_map(Weak::upgrade).any(|counts| counts.has_tunnels())
    }

    /// When the last ejection ended.
    pub fn recovered_at(&self) -> Option<Instant> {
        let has_recovered = self.has_recovered.load(Ordering::Relaxed);
        has_recovered.then(|| self.lock().previous).flatten().map(|previous| previous.until)
    }

    /// The present ejection.
    pub fn ejection(&self) -> Option<Ejection> {
        self.lock().ejection
    }

    /// The number of clients whose last handshakes failed and why the last one did, if none of them, and of any other
    /// client since, had a valid response.
    pub fn failing_handshakes(&self, now: Instant) -> Option<(usize, RejectReason)> {
        if !self.is_watched.load(Ordering::Relaxed) {
            return None;
        }
        let mut state = self.lock();
        let clients = state.handshakes.all_failing(now)?;
        state.handshake_cause.map(|cause| (clients, cause))
    }

    /// Records a valid response to this client.
    pub fn record_success(&self, kind: ResponseKind, client: ClientKey, now: Instant) {
        if !self.is_watched.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.lock();
        state.is_returning = false;
        state.window(kind).record(client, false, now);
        let is_watched = state.handshakes.has_failures(now) || state.plain.has_failures(now);
        self.is_watched.store(is_watched, Ordering::Relaxed);
    }

    /// Records that a response to this client failed. `has_tunnels` is whether tunnels to the backend are open,
    /// which may be those of others. Returns the ejection that this causes, if `may_eject` allows it.
    pub fn record_failure(
        &self,
        (kind, client): (ResponseKind, ClientKey),
        cause: RejectReason,
        has_tunnels: bool,
        now: Instant,
        may_eject: impl FnOnce() -> bool,
    ) -> Option<Result<Ejection, EjectionRefused>> {
        let mut state = self.lock();
        self.is_watched.store(true, Ordering::Relaxed);
        state.is_returning = false;
        if kind == ResponseKind::Handshake {
            state.handshake_cause = Some(cause);
        }
        state.window(kind).record(client, true, now);
        let has_others = has_tunnels || state.has_others(client, now);
        let clients = state.window(kind).failing_clients(has_others, now)?;
        if state.ejection.is_some() {
            return None;
        }
        if !may_eject() {
            return Some(Err(EjectionRefused));
        }
        let time = state.next_ejection(now);
        let ejection = Ejection { cause, clients, until: now + time, time };
        state.ejection = Some(ejection);
        self.is_ejected.store(true, Ordering::Relaxed);
        Some(Ok(ejection))
    }

    /// Ends an ejection whose time is over, and forgets the failures that led to it. Returns it.
    pub fn end_ejection(&self, now: Instant) -> Option<Ejection> {
        if !self.is_ejected() {
            return None;
        }
        let mut state = self.lock();
        let ended = state.ejection.take_if(|ejection| ejection.until <= now)?;
        (state.handshakes, state.plain) = Default::default();
        (state.previous, state.is_returning) = (Some(ended), true);
        self.has_recovered.store(true, Ordering::Relaxed);
        self.is_watched.store(true, Ordering::Relaxed);
        self.is_ejected.store(false, Ordering::Relaxed);
        Some(ended)
    }

    fn lock(&self) -> MutexGuard<'_, ResponseState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pool does not allow the ejection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EjectionRefused;

impl ResponseState {
    fn window(&mut self, kind: ResponseKind) -> &mut ResponseWindow {
        match kind {
            ResponseKind::Handshake => &mut self.handshakes,
            ResponseKind::Plain => &mut self.plain,
        }
    }

    /// Whether another client has got a response of either kind.
    fn has_others(&mut self, client: ClientKey, now: Instant) -> bool {
        [&mut self.handshakes, &mut self.plain].into_iter().any(|window| {
            window.prune(now);
            window.0.iter().any(|other| other.client != client)
        })
    }

    /// How long an ejection that starts now lasts. An ejection counts as following another if the backend has
    /// served for less time than it was ejected.
    fn next_ejection(&self, now: Instant) -> Duration {
        let following = self.previous.filter(|previous| {
            now.saturating_duration_since(previous.until) < previous.time.max(WINDOW)
        });
        following.map_or(EJECTION_MIN, |previous| (previous.time * 2).min(EJECTION_MAX))
    }
}

/// The last responses to the latest clients, within [`WINDOW`].
#[derive(Debug, Default)]
struct ResponseWindow(Vec<ClientResponses>);

#[derive(Debug)]
struct ClientResponses {
    client: ClientKey,
    /// When the last one ended.
    last: Instant,
    /// Failures since the last valid one.
    failures: u32,
    /// When the first of them ended.
    failing_since: Instant,
}

impl ResponseWindow {
    fn record(&mut self, client: ClientKey, has_failed: bool, now: Instant) {
        self.prune(now);
        let known = self.0.iter().position(|known| known.client == client);
        let known = known.map(|index| self.0.remove(index));
        if self.0.len() == CLIENTS_MAX {
            self.0.remove(0);
        }
        let mut entry = ClientResponses { client, last: now, failing_since: now, failures: 0 };
        if has_failed {
            let failing = known.filter(|known| known.failures > 0);
            entry.failures = failing.as_ref().map_or(0, |known| known.failures) + 1;
            entry.failing_since = failing.map_or(now, |known| known.failing_since);
        }
        self.0.push(entry);
    }

    fn has_failures(&mut self, now: Instant) -> bool {
        self.prune(now);
        self.0.iter().any(|client| client.failures > 0)
    }

    /// The number of clients whose responses fail, if those of all that are remembered do.
    fn all_failing(&mut self, now: Instant) -> Option<usize> {
        self.prune(now);
        let is_failing = self.0.iter().all(|client| client.failures > 0);
        Some(self.0.len()).filter(|clients| is_failing && *clients > 0)
    }

    /// The number of clients whose responses fail, if they are enough to eject the backend. `has_others` is
    /// whether more than one client uses it.
    fn failing_clients(&self, has_others: bool, now: Instant) -> Option<usize> {
        let failing = || self.0.iter().filter(|client| client.failures > 0);
        let clients = failing().count();
        let since = failing().map(|client| client.failing_since).min()?;
        let is_proven = match clients {
            1 => !has_others && now.saturating_duration_since(since) >= ALONE_MIN,
            _ => clients > self.0.len() - clients,
        };
        let failures: u32 = failing().map(|client| client.failures).sum();
        (is_proven && failures >= FAILURES_MIN).then_some(clients)
    }

    fn prune(&mut self, now: Instant) {
        self.0.retain(|client| now.saturating_duration_since(client.last) < WINDOW);
    }
}

/// How long the last response to a client counts: longer than the default of `timeouts.response_header`, so that the
/// time-outs of a client that tries again add up.
const WINDOW: Duration = Duration::from_secs(120);
/// Failures that eject a backend.
const FAILURES_MIN: u32 = 3;
/// For how long the failures of a single client must have lasted: any other client that comes meanwhile shows
/// whether it is the backend.
const ALONE_MIN: Duration = Duration::from_secs(10);
/// Clients that are remembered.
const CLIENTS_MAX: usize = 32;
const EJECTION_MIN: Duration = Duration::from_secs(10);
const EJECTION_MAX: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests;
