//! Predicts the answer to a handshake, check by check, with the code that decides about real
//! handshakes.

use ws::{LimitKind, Side, TerminationReason};

use super::hypothetical_request::HypotheticalRequest;
use crate::admission::concurrency::{Permit, TunnelLimits};
use crate::client::ClientInfo;
use crate::config::settings::ListenerSettings;
use crate::config::values::hash_source::HashSource;
use crate::control_protocol::response::{ExplainStep, Explanation};
use crate::http::forwarded::Forwarded;
use crate::http::path::RoutePath;
use crate::http::{Handshake, ValidatedRequest};
use crate::proxy::drained;
use crate::proxy::redirect::ListenerRedirect;
use crate::proxy::route::Route;
use crate::proxy::route_match::{Unrouted, find, own_origin};
use crate::proxy::snapshot::Snapshot;
use crate::proxy::state::ProxyState;
use crate::reject::RejectReason;
use crate::reject::drop_reason::DropReason;
use crate::sys::clock::wall;
use crate::telemetry::metrics::chosen_by::ChosenBy;
use crate::tls::certs::shown::ShownCertificate;
use crate::upstream::choice::key::ChoiceKey;
use crate::upstream::connect_error::ConnectError;
use crate::upstream::pool::Backend;
use crate::upstream::pool::choosing::{NoChoice, Prediction};

/// Runs the checks up to and including the first that fails.
pub(super) fn explain(state: &ProxyState, request: &HypotheticalRequest) -> Explanation {
    let snapshot = state.snapshot();
    let mut trail = ExplainTrail::default();
    let end = trail.run(state, &snapshot, request).err();
    let (status, reason) = match &end {
        None => (None, None),
        Some(ExplainEnd::BeforeHttp(reason)) => (None, Some((*reason).to_owned())),
        Some(ExplainEnd::Rejected(reason)) => {
            (Some(reason.status().as_u16()), Some(reason.as_str().to_owned()))
        }
    };
    Explanation { admitted: end.is_none(), status, reason, steps: trail.0 }
}

/// Why a handshake is not admitted.
enum ExplainEnd {
    /// The connection ends before an HTTP response is possible.
    BeforeHttp(&'static str),
    Rejected(RejectReason),
}

impl From<RejectReason> for ExplainEnd {
    fn from(reason: RejectReason) -> Self {
        Self::Rejected(reason)
    }
}

/// The results so far.
#[derive(Default)]
struct ExplainTrail(Vec<ExplainStep>);

impl ExplainTrail {
    fn pass(&mut self, check: &str, result: impl Into<String>, key: Option<String>) {
        let (check, result) = (check.to_owned(), result.into());
        self.0.push(ExplainStep { check, result, key, passed: true, assumption: None });
    }

    fn fail(&mut self, check: &str, result: impl Into<String>, key: Option<String>) {
        self.pass(check, result, key);
        if let Some(last) = self.0.last_mut() {
            last.passed = false;
        }
    }

    /// Records a failed check; a successful one is passed through.
    fn require<T>(
        &mut self,
        check: &str,
        outcome: Result<T, RejectReason>,
    ) -> Result<T, RejectReason> {
        outcome.inspect_err(|reason| {
            self.fail(check, reason.to_string(), reason.key().map(str::to_owned));
        })
    }

    fn run(
        &mut self,
        state: &ProxyState,
        snapshot: &Snapshot,
        request: &HypotheticalRequest,
    ) -> Result<(), ExplainEnd> {
        let client = request.client(snapshot);
        let listener = self.listener(snapshot, request)?;
        let prefixes = snapshot.settings.client_key;
        let bits =
            format!("client_key.ipv4_prefix = {}, ipv6_prefix = {}", prefixes.v4, prefixes.v6);
        let example = if request.is_example_address {
            " (an example; use --address for another)"
        } else {
            ""
        };
        self.pass("client", format!("key {}{example}", client.key), Some(bits));
        if let Some(rule) = listener.and_then(|of| of.addresses.check(&client.addr).err()) {
            let reason = DropReason::AddressDenied(rule);
            self.fail(
                "address",
                format!("{}{example}: {rule}", client.addr),
                reason.key().map(str::to_owned),
            );
            return Err(ExplainEnd::BeforeHttp(reason.as_str()));
        }
        self.certificate(snapshot, request)?;
        let kind = self.require("request", ValidatedRequest::validate(&request.head))?;
        let (authority, path) = (kind.authority(), kind.path());
        let redirect = listener.and_then(ListenerRedirect::of);
        let method = &request.head.method;
        let status = redirect.and_then(|redirect| redirect.status(&client, method, path));
        let redirected = status.map(RejectReason::Redirected);
        self.require("redirect", redirected.map_or(Ok(()), Err))?;
        let route =
            find(snapshot, &client, authority, path).map_err(|Unrouted { reason, detail }| {
                self.fail(
                    "route",
                    detail.unwrap_or_else(|| reason.to_string()),
                    reason.key().map(str::to_owned),
                );
                reason
            })?;
        self.pass("route", format!("\"{}\"", route.name), None);
        let admitted = route.addresses.check(&client.addr).map_err(RejectReason::AddressDenied);
        self.require("address", admitted)?;
        self.require("maintenance", route.maintenance.admit())?;
        let ValidatedRequest::WebSocket(handshake) = &kind else {
            return Err(RejectReason::NotWebsocket.into());
        };
        self.drain(state, route)?;
        let rate = snapshot.settings.rates.handshakes;
        let rate = format!("{}/s with a burst of {}", rate.per_second, rate.burst);
        let key = "rates.handshakes_per_client, rates.handshakes_burst".to_owned();
        self.pass("rate", format!("limit per client: {rate}; not checked here"), Some(key));
        self.origin(route, &client, handshake)?;
        let permit = self.concurrency(state, snapshot, route, &client);
        drop(self.require("concurrency", permit)?);
        self.backend(state, route, &client, request, path)?;
        self.limits(route);
        Ok(())
    }

    /// The listener of the request, the first if there are several.
    fn listener<'s>(
        &mut self,
        snapshot: &'s Snapshot,
        request: &HypotheticalRequest,
    ) -> Result<Option<&'s ListenerSettings>, ExplainEnd> {
        let scheme = if request.secure { "TLS" } else { "plain TCP" };
        let listeners = snapshot.listeners().map(|(listener, _)| listener);
        let on_port: Vec<_> =
            listeners.filter(|listener| listener.address.port() == request.port).collect();
        let matching = || on_port.iter().filter(|listener| listener.tls == request.secure);
        let names: Vec<&str> = matching().map(|listener| &*listener.name).collect();
        let key = Some("listener.address, listener.tls".to_owned());
        match (names.is_empty(), on_port.is_empty()) {
            (false, _) => self.pass("listener", names.join(", "), None),
            (true, false) => {
                self.fail(
                    "listener",
                    format!("port {} does not accept {scheme}", request.port),
                    key,
                );
                return Err(ExplainEnd::BeforeHttp("listener"));
            }
            (true, true) => {
                self.pass("listener", format!("none on port {}", request.port), key);
                if let Some(last) = self.0.last_mut() {
                    last.assumption = Some(format!("another proxy forwards port {}", request.port));
                }
            }
        }
        Ok(matching().next().copied())
    }

    fn certificate(
        &mut self,
        snapshot: &Snapshot,
        request: &HypotheticalRequest,
    ) -> Result<(), ExplainEnd> {
        let (true, Some(tls)) = (request.secure, &snapshot.tls) else { return Ok(()) };
        let result = match tls.certs().shown_for(&request.host, wall() as u64) {
            ShownCertificate::Valid(name) => {
                self.pass("certificate", name, None);
                return Ok(());
            }
            ShownCertificate::Invalid(problem) => problem,
            ShownCertificate::NotIssued => {
                "it has not been issued yet; see `tidegate ctl certs`".to_owned()
            }
            ShownCertificate::None => {
                "none covers this host and none is the default; TLS fails".to_owned()
            }
        };
        self.fail("certificate", result, Some("certificate.chain".into()));
        Err(ExplainEnd::BeforeHttp("tls_failed"))
    }

    fn drain(&mut self, state: &ProxyState, route: &Route) -> Result<(), RejectReason> {
        if state.is_draining() || route.is_draining() {
            self.fail("drain", drained::describe(state, route), None);
            return Err(RejectReason::Draining);
        }
        Ok(())
    }

    fn origin(
        &mut self,
        route: &Route,
        client: &ClientInfo,
        handshake: &Handshake,
    ) -> Result<(), RejectReason> {
        let sent = handshake.origin.as_deref();
        let own = own_origin(client, &handshake.authority, &Forwarded::default());
        if let Err(mismatch) = route.origins.check(sent, &own) {
            let reason = RejectReason::Origin(mismatch);
            let key = reason.key().map(str::to_owned);
            self.fail("origin", route.origins.describe(mismatch, sent, &own), key);
            return Err(reason);
        }
        let shown = sent.unwrap_or("no Origin (not a browser)");
        self.pass("origin", format!("{shown}: allowed"), Some("route.origins".into()));
        Ok(())
    }

    /// Acquires a permit as a tunnel would. The caller drops it.
    fn concurrency(
        &mut self,
        state: &ProxyState,
        snapshot: &Snapshot,
        route: &Route,
        client: &ClientInfo,
    ) -> Result<Permit, RejectReason> {
        let per_client = snapshot.settings.concurrency.tunnels_per_client;
        let permit = state.concurrency.admit_tunnel(
            client.key,
            &route.tunnels,
            TunnelLimits {
                total: snapshot.capacity.tunnels,
                per_client,
                per_route: route.max_tunnels,
            },
        )?;
        let open = state.concurrency.tunnels().saturating_sub(1);
        let result = format!("{open} of {} tunnels are open", snapshot.capacity.tunnels);
        let key = format!("concurrency.tunnels_per_client = {per_client}");
        self.pass("concurrency", result, Some(key));
        Ok(permit)
    }

    fn backend(
        &mut self,
        state: &ProxyState,
        route: &Route,
        client: &ClientInfo,
        request: &HypotheticalRequest,
        path: &RoutePath,
    ) -> Result<(), RejectReason> {
        let key = Some(route.pool.backends_key().to_owned());
        let hash = &route.pool.settings().hash;
        let choice = route.pool.read_request(&request.head, path, client.key);
        let Prediction { backends: order, chosen_by } =
            match route.pool.predict(&choice, &*state.net) {
                Ok(prediction) => prediction,
                Err(none) => return Err(self.no_backend(state, route, none)),
            };
        let show = |backend: &std::sync::Arc<Backend>| {
            let (weight, state) = (backend.effective_weight(), backend.state());
            let problem = backend.problem().map_or(String::new(), |problem| format!(": {problem}"));
            let backup = if backend.is_backup { ", backup" } else { "" };
            let canary = if backend.is_canary { ", canary" } else { "" };
            let ramp = route.pool.ramp(backend).map(|part| 100.0 * part);
            let slow_start =
                ramp.map_or(String::new(), |part| format!(", slow start at {part:.0} %"));
            let name = match *backend.listed_id() == backend.id {
                true => String::new(),
                false => format!(" of {}", backend.listed_id()),
            };
            format!(
                "{}{name} (weight {weight}{canary}{backup}{slow_start}, {}{problem})",
                backend.id,
                state.as_str()
            )
        };
        let rest: Vec<String> = order.iter().skip(1).map(show).collect();
        let then =
            if rest.is_empty() { String::new() } else { format!("; then {}", rest.join(", ")) };
        let backends = route.pool.backends();
        let down = backends.iter().filter(|backend| backend.is_down_by_probe());
        let down: Vec<String> = down.map(show).collect();
        let down =
            if down.is_empty() { String::new() } else { format!("; not {}", down.join(", ")) };
        let tls = match route.pool.is_verified() {
            Some(true) => ", over TLS",
            Some(false) => ", over TLS without verification",
            None => "",
        };
        let of_pool = route.pool.name.as_deref().map(|name| format!(" of pool \"{name}\"{tls}"));
        let reason = choice_reason(chosen_by, hash, choice.key);
        let result = format!(
            "{}{reason}{then}{down}{}",
            order.first().map_or_else(String::new, show),
            of_pool.unwrap_or_default()
        );
        if !order.iter().any(|backend| backend.is_available()) {
            self.fail("backend", format!("all are down; a request would still try {result}"), key);
            return Err(RejectReason::NoBackend);
        }
        self.pass("backend", result, key);
        Ok(())
    }

    /// Says why no backend may be tried, and returns the reason of the rejection.
    fn no_backend(&mut self, state: &ProxyState, route: &Route, none: NoChoice) -> RejectReason {
        let key = route.pool.backends_key();
        let (reason, result, key) = match none {
            NoChoice::Drained => (RejectReason::Draining, drained::describe(state, route), key),
            NoChoice::ProbedDown => {
                let failed = ConnectError::probed_down(&route.pool);
                (failed.reason, failed.detail, "pool.probe")
            }
            NoChoice::Full => {
                let reason = RejectReason::BackendsFull;
                let waiting = route.pool.state().queue.len();
                let result = format!("{reason}; {waiting} handshakes wait");
                (reason, result, route.pool.max_tunnels_key())
            }
        };
        self.fail("backend", result, Some(key.to_owned()));
        reason
    }

    fn limits(&mut self, route: &Route) {
        let policy = &route.policy;
        let shown = |reason: TerminationReason| {
            Some(format!("{} = {}", reason.key()?, reason.value(policy)?))
        };
        let sides = |limit| Side::BOTH.map(|side| TerminationReason::LimitExceeded(side, limit));
        let limits = LimitKind::ALL
            .into_iter()
            .filter(|limit| *limit != LimitKind::Inflated)
            .flat_map(sides);
        let timeouts = [
            TerminationReason::Idle,
            TerminationReason::Lifetime,
            TerminationReason::HeartbeatTimeout(Side::Client),
        ];
        let set: Vec<String> = limits.chain(timeouts).filter_map(shown).collect();
        self.pass("limits", set.join(", "), None);
    }
}

/// Why the first backend comes first, to be added to its description; nothing if the client's address decides.
fn choice_reason(chosen_by: ChosenBy, hash: &HashSource, key: ChoiceKey) -> String {
    let hashed = match key.is_fallback {
        true => format!("the client key, since the request has no {hash}"),
        false => hash.to_string(),
    };
    match chosen_by {
        ChosenBy::Hash if *hash == HashSource::Client => String::new(),
        ChosenBy::Hash => format!(", by hash of {hashed}"),
        ChosenBy::BalanceFactor => {
            ", because the backend that the hash selects has more than its share".to_owned()
        }
        ChosenBy::Affinity => {
            format!(", because tunnels with the same key ({hashed}) are open there")
        }
        ChosenBy::Pin => ", which the pin cookie names".to_owned(),
        ChosenBy::CookieValue => ", which the cookie of another proxy names".to_owned(),
        ChosenBy::LeastConnections => {
            ", which has the fewest connections for its weight".to_owned()
        }
        ChosenBy::RoundRobin => ", whose turn it is".to_owned(),
        ChosenBy::RandomTwo => ", the less loaded of two drawn at random".to_owned(),
    }
}
