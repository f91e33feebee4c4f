//! Choosing among the backends of a pool: what is known about them is passed to the functions of
//! [`choice`](crate::upstream::choice).

use std::sync::Arc;
use std::time::Duration;

use hyper::HeaderMap;
use hyper::http::request::Parts;
use tokio::time::{Instant, timeout_at};

use super::{Backend, Pool};
use crate::client::ClientKey;
use crate::config::settings::choice::{Balance, QueueSettings};
use crate::config::values::share::Share;
use crate::http::path::RoutePath;
use crate::net::network::Net;
use crate::telemetry::metrics::chosen_by::ChosenBy;
use crate::upstream::choice::canary::{self, CanaryRequest};
use crate::upstream::choice::key::{ChoiceKey, has_value};
use crate::upstream::choice::load::LoadGuard;
use crate::upstream::choice::order::{Candidate, Method, Order, order, ramped};
use crate::upstream::choice::pin::Pinned;
use crate::upstream::choice::queue::{MaximumReached, TunnelPlace};
use crate::upstream::choice::rendezvous::KeyHash;
use crate::upstream::choice::round_robin::RoundRobinTurn;

/// What a request says about its backend.
#[derive(Clone, Debug)]
pub struct ChoiceRequest {
    /// The key that is hashed.
    pub key: ChoiceKey,
    /// The backend that its pin cookie names.
    pub pinned: Option<Pinned>,
    /// Whether it has the mark of canary requests.
    pub is_marked: bool,
}

/// What a backend is chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChoicePurpose<'b> {
    /// A handshake, and the tunnel that it opens.
    Tunnel,
    /// A tunnel that is open at the backend with this id, and has a place there.
    OpenTunnel(&'b str),
    /// A plain request.
    Request,
}

/// The backends that a request tries.
#[derive(Debug)]
pub struct Choice {
    /// In the order in which they are tried; never empty.
    pub backends: Vec<Arc<Backend>>,
    /// Why the first one is the first.
    pub chosen_by: ChosenBy,
    /// Counts the request at the first one, in pools that count.
    pub load: Option<LoadGuard>,
}

/// The backends that a handshake would try now.
#[derive(Debug)]
pub struct Prediction {
    /// In the order in which they would be tried; never empty.
    pub backends: Vec<Arc<Backend>>,
    /// Why the first one is the first.
    pub chosen_by: ChosenBy,
}

/// Why there is no backend for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoChoice {
    /// An operator has drained every backend.
    Drained,
    /// The probes of every backend that is not drained have failed.
    ProbedDown,
    /// Every backend has `max_tunnels`.
    Full,
}

impl Pool {
    /// Reads what a request says about its backend.
    pub fn read_request(&self, head: &Parts, path: &RoutePath, client: ClientKey) -> ChoiceRequest {
        ChoiceRequest {
            key: ChoiceKey::of_request(&self.settings.hash, head, path, client),
            pinned: self.backends().pins().and_then(|pins| pins.read(&head.headers)),
            is_marked: self
                .settings
                .canary
                .request
                .as_ref()
                .is_some_and(|mark| has_value(mark, head, path)),
        }
    }

    /// Adds the pin cookie of the backend that answered a request to the response, if the client needs it.
    pub fn issue_pin(&self, request: &ChoiceRequest, backend: &Backend, response: &mut HeaderMap) {
        if let Some(pins) = self.backends().pins() {
            pins.issue(request.pinned.as_ref(), &backend.id, response);
        }
    }

    /// The backends that a request tries, without those that are drained or down by their probe and, for a tunnel,
    /// those that have `max_tunnels`.
    ///
    /// # Errors
    /// There is no such backend.
    pub fn choose(
        &self,
        request: &ChoiceRequest,
        purpose: ChoicePurpose<'_>,
        net: &dyn Net,
    ) -> Result<Choice, NoChoice> {
        loop {
            let Prediction { backends, chosen_by } =
                self.order(request, purpose, self.method(net))?;
            let first = backends.first().ok_or(NoChoice::Drained)?;
            let place = match purpose {
                ChoicePurpose::Tunnel if self.is_counting => {
                    match first.load.tunnels.enter(first.max_tunnels, &self.state.queue) {
                        // Another handshake has taken the last place in the meantime.
                        Err(MaximumReached) => continue,
                        Ok(place) => Some(place),
                    }
                }
                ChoicePurpose::Tunnel | ChoicePurpose::OpenTunnel(_) | ChoicePurpose::Request => {
                    None
                }
            };
            let load = self.guard(first, request.key, place);
            return Ok(Choice { backends, chosen_by, load });
        }
    }

    /// As [`choose`](Self::choose) for a tunnel, but waits in the queue of the pool, if it has one, while others do or
    /// all backends have `max_tunnels`.
    ///
    /// # Errors
    /// There is no such backend, and the queue is full or the time is up.
    pub async fn choose_or_wait(
        &self,
        request: &ChoiceRequest,
        net: &dyn Net,
    ) -> Result<Choice, NoChoice> {
        let choose = || self.choose(request, ChoicePurpose::Tunnel, net);
        let Some(queue) = self.settings.queue else { return choose() };
        if self.state.queue.len() == 0 {
            match choose() {
                Err(NoChoice::Full) => {}
                chosen => return chosen,
            }
        }
        // Allocated, since hardly any handshake waits.
        Box::pin(self.wait(queue, choose)).await
    }

    async fn wait(
        &self,
        QueueSettings { length, time }: QueueSettings,
        choose: impl Fn() -> Result<Choice, NoChoice>,
    ) -> Result<Choice, NoChoice> {
        let waiting = self.state.queue.enter(length).ok_or(NoChoice::Full)?;
        let deadline = Instant::now() + time;
        let may_differ = self.backends().iter().any(|backend| backend.is_canary);
        if may_differ {
            // The places that those before it cannot use.
            self.state.queue.notify();
        }
        let mut has_turn = false;
        loop {
            if has_turn || waiting.is_first() {
                match choose() {
                    Err(NoChoice::Full) if may_differ => waiting.pass_on(),
                    Err(NoChoice::Full) => {}
                    chosen => return chosen,
                }
            }
            let until = deadline.min(Instant::now() + RETRY_INTERVAL);
            has_turn = timeout_at(until, waiting.turn()).await.is_ok();
            if !has_turn && Instant::now() >= deadline {
                return Err(NoChoice::Full);
            }
        }
    }

    /// What [`choose`](Self::choose) would return for a tunnel, without taking a turn or a place.
    ///
    /// # Errors
    /// As [`choose`](Self::choose).
    pub fn predict(&self, request: &ChoiceRequest, net: &dyn Net) -> Result<Prediction, NoChoice> {
        let method = match self.settings.balance {
            Balance::RoundRobin => Method::RoundRobin(RoundRobinTurn::Predict),
            Balance::Hash | Balance::LeastConnections | Balance::RandomTwo => self.method(net),
        };
        self.order(request, ChoicePurpose::Tunnel, method)
    }

    /// Counts a plain request at a backend that was not the first, and has accepted the connection.
    pub fn enter(&self, backend: &Backend, key: ChoiceKey) -> Option<LoadGuard> {
        self.guard(backend, key, None)
    }

    /// Counts a tunnel at a backend that is not the first.
    ///
    /// # Errors
    /// It has `max_tunnels`.
    pub fn enter_tunnel(
        &self,
        backend: &Backend,
        key: ChoiceKey,
    ) -> Result<Option<LoadGuard>, MaximumReached> {
        if !self.is_counting {
            return Ok(None);
        }
        let place = backend.load.tunnels.enter(backend.max_tunnels, &self.state.queue)?;
        Ok(self.guard(backend, key, Some(place)))
    }

    fn guard(
        &self,
        backend: &Backend,
        key: ChoiceKey,
        place: Option<TunnelPlace>,
    ) -> Option<LoadGuard> {
        if !self.is_counting {
            return None;
        }
        let guard = LoadGuard::new(&backend.load, place);
        Some(match self.balance_factor() {
            Some(_) => guard.keep_key(&self.state.affinity, key.hash, &backend.id),
            None => guard,
        })
    }

    fn method(&self, net: &dyn Net) -> Method<'_> {
        match self.settings.balance {
            Balance::Hash => Method::Hash { balance_factor: self.balance_factor() },
            Balance::LeastConnections => Method::LeastConnections,
            Balance::RoundRobin => Method::RoundRobin(RoundRobinTurn::Take(&self.state.turns)),
            Balance::RandomTwo => {
                let mut random = [0; 8];
                net.fill_random(&mut random);
                Method::RandomTwo(KeyHash::of_text(&random))
            }
        }
    }

    pub(super) fn order(
        &self,
        request: &ChoiceRequest,
        purpose: ChoicePurpose<'_>,
        method: Method<'_>,
    ) -> Result<Prediction, NoChoice> {
        let is_canary = self.is_canary_request(request);
        let is_usable =
            |backend: &&Arc<Backend>| !backend.is_draining() && (is_canary || !backend.is_canary);
        let backends = self.backends();
        // With their capacity, since growing takes as many instructions as the rest of this.
        let mut usable = Vec::with_capacity(backends.len());
        usable.extend(backends.iter().filter(is_usable));
        if usable.is_empty() {
            return Err(NoChoice::Drained);
        }
        usable.retain(|backend| !backend.is_down_by_probe());
        if usable.is_empty() {
            return Err(NoChoice::ProbedDown);
        }
        if purpose != ChoicePurpose::Request {
            let is_accepting =
                |backends: &[&Arc<Backend>]| backends.iter().any(|of| !of.is_ejected());
            let was_accepting = is_accepting(&usable);
            usable.retain(|of| {
                of.max_tunnels.is_none_or(|max| of.load.tunnels.get() < max)
                    || purpose == ChoicePurpose::OpenTunnel(&of.id)
            });
            // An ejected backend has places, and probably accepts no connection.
            if usable.is_empty() || (was_accepting && !is_accepting(&usable)) {
                return Err(NoChoice::Full);
            }
        }
        if let ([only], Method::Hash { .. }) = (&usable[..], method) {
            // Most pools have one backend, and there is nothing to compare.
            let preferred = self.preferred(request).filter(|(id, _)| only.id == *id);
            let chosen_by = preferred.map_or(ChosenBy::Hash, |(_, reason)| reason);
            return Ok(Prediction { backends: vec![Arc::clone(only)], chosen_by });
        }
        let now = Instant::now();
        let candidates: Vec<Candidate<'_>> =
            usable.iter().map(|backend| self.candidate(backend, is_canary, now)).collect();
        let position = |id: &Arc<str>| usable.iter().position(|backend| backend.id == *id);
        let preferred = self.preferred(request);
        let preferred = preferred.and_then(|(id, reason)| Some((position(&id)?, reason)));
        let Order { indices, chosen_by } = order(&candidates, method, request.key.hash, preferred);
        let chosen = indices.iter().filter_map(|index| usable.get(*index));
        let mut found = Vec::with_capacity(indices.len());
        found.extend(chosen.map(|backend| Arc::clone(backend)));
        Ok(Prediction { backends: found, chosen_by })
    }

    /// The id of the backend that the client is pinned to, or where its key is in use.
    fn preferred(&self, request: &ChoiceRequest) -> Option<(Arc<str>, ChosenBy)> {
        if let Some(Pinned { id, reason, .. }) = &request.pinned {
            return Some((id.clone(), *reason));
        }
        self.balance_factor()?;
        Some((self.state.affinity.backend_of(request.key.hash)?, ChosenBy::Affinity))
    }

    /// The share of keys that go to the canary backends: the operator's, or else that of the file.
    pub fn canary_share(&self) -> Share {
        let settings = &self.settings.canary;
        self.state.canary.get(settings).unwrap_or(settings.share)
    }

    /// Whether the request goes to the canary backends, as long as one of them is up.
    pub fn is_canary_request(&self, request: &ChoiceRequest) -> bool {
        let backends = self.backends();
        if !backends.iter().any(|backend| backend.is_canary) {
            return false;
        }
        let is_named = |backend: &&Arc<Backend>| {
            request.pinned.as_ref().is_some_and(|pinned| pinned.id == backend.id)
        };
        let pinned = backends.iter().find(is_named).map(|backend| backend.is_canary);
        let canary = CanaryRequest { key: request.key.hash, is_marked: request.is_marked, pinned };
        let settings = &self.settings.canary;
        canary::is_selected(canary, self.state.canary.get(settings), settings)
    }

    fn candidate<'b>(
        &self,
        backend: &'b Backend,
        is_canary_request: bool,
        now: Instant,
    ) -> Candidate<'b> {
        Candidate {
            id: &backend.id,
            weight: self.weight_now(backend, now),
            load: backend.load.get(),
            credit: &backend.load.credit,
            // The other backends serve a canary request if no canary can.
            is_backup: backend.is_backup || (is_canary_request && !backend.is_canary),
            is_ejected: backend.is_ejected(),
        }
    }

    /// The weight of a backend, smaller than the effective one for some time after it has recovered.
    pub fn weight_now(&self, backend: &Backend, now: Instant) -> f64 {
        let weight = f64::from(backend.effective_weight().get());
        let Some(slow_start) = self.settings.slow_start else { return weight };
        let recovered = backend.recovered_at();
        ramped(weight, recovered.map(|at| now.saturating_duration_since(at)), slow_start)
    }

    /// The part of its weight that a backend has by now, while it grows after a recovery.
    pub fn ramp(&self, backend: &Backend) -> Option<f64> {
        let whole = f64::from(backend.effective_weight().get());
        let part = self.weight_now(backend, Instant::now()) / whole;
        (part < 1.0).then_some(part)
    }

    fn balance_factor(&self) -> Option<f64> {
        self.settings.hash_balance_factor.map(|percent| f64::from(percent) / 100.0)
    }
}

/// How often the first handshake that waits tries again: a backend may have recovered, or a reload may have raised its
/// limit.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
