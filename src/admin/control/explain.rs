//! What would happen to a handshake, question by question, by the same code that answers real ones.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{CONNECTION, HOST, ORIGIN, UPGRADE};
use hyper::http::request::Parts;
use hyper::{Request, Uri};
use ws::{LimitKind, Side, TerminationReason};

use crate::admission::concurrency::Permit;
use crate::client::{ClientInfo, TlsInfo, TlsVersion};
use crate::http::{Handshake, RequestKind};
use crate::protocol::answer::{CommandError, CommandErrorKind, ExplainStep, Explanation};
use crate::proxy::route_match::{find, own_origin};
use crate::proxy::snapshot::{Route, Snapshot};
use crate::proxy::state::ProxyState;
use crate::reject::RejectReason;
use crate::sys::clock::now;
use crate::upstream::pool::Backend;

/// A handshake that nobody made.
pub(super) struct HypotheticalRequest {
    head: Parts,
    host: Box<str>,
    port: u16,
    secure: bool,
    address: IpAddr,
    /// Nobody said whom it is from.
    anybody: bool,
}

impl HypotheticalRequest {
    /// As a browser or, without an origin, a program would make it.
    pub(super) fn read(
        url: &str,
        origin: Option<&str>,
        address: Option<&str>,
    ) -> Result<Self, CommandError> {
        let bad = |words: String| CommandError::new(CommandErrorKind::BadRequest, words);
        let whole = "write a whole one, as in wss://chat.example.com/ws";
        let uri: Uri = url.parse().map_err(|_| bad(format!("\"{url}\" is no URL: {whole}")))?;
        let scheme = uri.scheme_str().map(str::to_ascii_lowercase);
        let secure = match scheme.as_deref() {
            Some("wss" | "https") => true,
            Some("ws" | "http") => false,
            Some(_) | None => return Err(bad(format!("\"{url}\" is no ws or wss URL: {whole}"))),
        };
        let Some(authority) = uri.authority() else {
            return Err(bad(format!("\"{url}\" names no host: {whole}")));
        };
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let mut request = Request::builder()
            .uri(target)
            .header(HOST, authority.as_str())
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==");
        if let Some(origin) = origin {
            request = request.header(ORIGIN, origin);
        }
        let request = request.body(()).map_err(|error| bad(error.to_string()))?;
        let (anybody, address) = (address.is_none(), address.unwrap_or(ANYBODY));
        Ok(Self {
            head: request.into_parts().0,
            host: authority.host().to_ascii_lowercase().trim_end_matches('.').into(),
            port: authority.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            secure,
            address: address
                .parse()
                .map_err(|_| bad(format!("\"{address}\" is not an IP address")))?,
            anybody,
        })
    }

    fn visitor(&self, generation: &Snapshot) -> ClientInfo {
        let peer = SocketAddr::new(self.address, 0);
        let mut visitor = ClientInfo::new(peer, generation.settings.client_key, "explain".into());
        visitor.secure = self.secure;
        // A name that is an address is not sent (RFC 6066 3).
        let sni = self.host.parse::<IpAddr>().is_err() && !self.host.starts_with('[');
        visitor.tls = self.secure.then(|| TlsInfo {
            sni: sni.then(|| self.host.clone()),
            version: TlsVersion::V13,
            cipher: "",
        });
        visitor
    }
}

/// Answers every question up to the first that ends the way.
pub(super) fn explain(gate: &ProxyState, asked: &HypotheticalRequest) -> Explanation {
    let generation = gate.snapshot();
    let mut way = ExplainTrail::default();
    let ended = way.walk(gate, &generation, asked).err();
    let (status, reason) = match &ended {
        None => (None, None),
        Some(ExplainEnd::Before(reason)) => (None, Some((*reason).to_owned())),
        Some(ExplainEnd::Refused(refusal)) => {
            (Some(refusal.status().as_u16()), Some(refusal.slug().to_owned()))
        }
    };
    Explanation { admitted: ended.is_none(), status, reason, steps: way.0 }
}

/// Where the way ends.
enum ExplainEnd {
    /// There is no HTTP to answer in.
    Before(&'static str),
    Refused(RejectReason),
}

impl From<RejectReason> for ExplainEnd {
    fn from(refusal: RejectReason) -> Self {
        Self::Refused(refusal)
    }
}

/// The questions so far.
#[derive(Default)]
struct ExplainTrail(Vec<ExplainStep>);

impl ExplainTrail {
    fn say(&mut self, question: &str, answer: impl Into<String>, key: Option<String>) {
        let (question, answer) = (question.to_owned(), answer.into());
        self.0.push(ExplainStep { question, answer, key, passes: true });
    }

    fn stop(&mut self, question: &str, answer: impl Into<String>, key: Option<String>) {
        self.say(question, answer, key);
        if let Some(last) = self.0.last_mut() {
            last.passes = false;
        }
    }

    /// The answer, or why the way ends here.
    fn ask<T>(
        &mut self,
        question: &str,
        answer: Result<T, RejectReason>,
    ) -> Result<T, RejectReason> {
        answer.inspect_err(|refusal| {
            self.stop(question, refusal.to_string(), refusal.key().map(str::to_owned));
        })
    }

    fn walk(
        &mut self,
        gate: &ProxyState,
        generation: &Snapshot,
        asked: &HypotheticalRequest,
    ) -> Result<(), ExplainEnd> {
        let visitor = asked.visitor(generation);
        self.listener(generation, asked)?;
        let prefixes = generation.settings.client_key;
        let bits =
            format!("client_key.ipv4_prefix = {}, ipv6_prefix = {}", prefixes.v4, prefixes.v6);
        let example = if asked.anybody { ", for example (--address names another)" } else { "" };
        self.say("client", format!("counted as {}{example}", visitor.key), Some(bits));
        self.certificate(generation, asked)?;
        let asked_for = self.ask("request", RequestKind::read(&asked.head))?;
        let (authority, path) = (asked_for.authority(), asked_for.path());
        let route = self.ask("route", find(generation, &visitor, authority, path))?;
        self.say("route", format!("\"{}\"", route.name), None);
        let RequestKind::WebSocket(handshake) = &asked_for else {
            return Err(RejectReason::NotWebsocket.into());
        };
        self.drain(gate, route)?;
        let rates = &generation.settings.rates;
        let rate = format!("{}/s, {} at once", rates.handshakes_per_client, rates.handshakes_burst);
        let key = "rates.handshakes_per_client, rates.handshakes_burst".to_owned();
        self.say("rate", format!("one client may begin {rate}; not counted here"), Some(key));
        self.origin(route, &visitor, handshake)?;
        let permit = self.concurrency(gate, generation, route, &visitor);
        drop(self.ask("concurrency", permit)?);
        self.backend(route, &visitor)?;
        self.limits(route);
        Ok(())
    }

    fn listener(
        &mut self,
        generation: &Snapshot,
        asked: &HypotheticalRequest,
    ) -> Result<(), ExplainEnd> {
        let scheme = if asked.secure { "TLS" } else { "plain TCP" };
        let here = generation.listeners().map(|(listener, _)| listener);
        let here: Vec<_> = here.filter(|found| found.address.port() == asked.port).collect();
        let fits = here.iter().filter(|listener| listener.tls == asked.secure);
        let names: Vec<&str> = fits.map(|listener| &*listener.name).collect();
        let key = Some("listener.address, listener.tls".to_owned());
        match (names.is_empty(), here.is_empty()) {
            (false, _) => self.say("listener", names.join(", "), None),
            (true, false) => {
                self.stop("listener", format!("port {} does not speak {scheme}", asked.port), key);
                return Err(ExplainEnd::Before("listener"));
            }
            (true, true) => {
                let words = format!(
                    "none is on port {}; as if something in front led from there to one",
                    asked.port
                );
                self.say("listener", words, key);
            }
        }
        Ok(())
    }

    fn certificate(
        &mut self,
        generation: &Snapshot,
        asked: &HypotheticalRequest,
    ) -> Result<(), ExplainEnd> {
        let (true, Some(tls)) = (asked.secure, &generation.tls) else { return Ok(()) };
        match tls.certs().name_shown_for(&asked.host) {
            Some(name) if name.is_empty() => self.say("certificate", "one without a name", None),
            Some(name) => self.say("certificate", format!("the one of {name}"), None),
            None => {
                let words = "none covers this host, and none is the default: TLS fails";
                self.stop("certificate", words, Some("certificate.chain".into()));
                return Err(ExplainEnd::Before("tls_failed"));
            }
        }
        Ok(())
    }

    fn drain(&mut self, gate: &ProxyState, route: &Route) -> Result<(), RejectReason> {
        if gate.is_closed() {
            self.stop("drain", "everything is drained: no new tunnels", None);
            return Err(RejectReason::Draining);
        }
        if route.drain.is_away() {
            self.stop("drain", "this route is drained by order: no new tunnels", None);
            return Err(RejectReason::Draining);
        }
        Ok(())
    }

    fn origin(
        &mut self,
        route: &Route,
        visitor: &ClientInfo,
        handshake: &Handshake,
    ) -> Result<(), RejectReason> {
        let sent = handshake.origin.as_deref();
        let own = own_origin(visitor, &handshake.authority);
        let welcome = route.origins.welcome(sent, &own);
        self.ask("origin", welcome.then_some(()).ok_or(RejectReason::Origin))?;
        let shown = sent.map_or("no Origin, as from programs".to_owned(), str::to_owned);
        self.say("origin", format!("{shown}: welcome"), Some("route.origins".into()));
        Ok(())
    }

    /// Takes a place as a tunnel would, and gives it back.
    fn concurrency(
        &mut self,
        gate: &ProxyState,
        generation: &Snapshot,
        route: &Route,
        visitor: &ClientInfo,
    ) -> Result<Permit, RejectReason> {
        let per_client = generation.settings.concurrency.tunnels_per_client;
        let permit = gate.occupancy.tunnel(
            visitor.key,
            generation.capacity.tunnels,
            per_client,
            &route.tunnels,
            route.tunnels_max,
        )?;
        let open = gate.occupancy.tunnels().saturating_sub(1);
        let words = format!("room: {open} of {} tunnels are open", generation.capacity.tunnels);
        let key = format!("concurrency.tunnels_per_client = {per_client}");
        self.say("concurrency", words, Some(key));
        Ok(permit)
    }

    fn backend(&mut self, route: &Route, visitor: &ClientInfo) -> Result<(), RejectReason> {
        let now = now().into();
        let order = route.pool.order(visitor.key, now);
        let Some(first) = order.first() else {
            self.stop("backend", "every one is drained by order", Some("route.backends".into()));
            return Err(RejectReason::Draining);
        };
        let show = |backend: &std::sync::Arc<Backend>| {
            let down = if backend.health.is_up(now) { "" } else { ", down" };
            format!("{} (weight {}{down})", backend.id, backend.share())
        };
        let rest: Vec<String> = order.iter().skip(1).map(show).collect();
        let then =
            if rest.is_empty() { String::new() } else { format!("; then {}", rest.join(", ")) };
        let words = format!("{}{then}", show(first));
        let key = Some("route.backends".to_owned());
        if order.iter().all(|backend| !backend.health.is_up(now)) {
            self.stop("backend", format!("all are down; tried all the same: {words}"), key);
            return Err(RejectReason::NoBackend);
        }
        self.say("backend", words, key);
        Ok(())
    }

    fn limits(&mut self, route: &Route) {
        let terms = &route.terms;
        let of = |end: TerminationReason| Some(format!("{} = {}", end.key()?, end.value(terms)?));
        let sides = |rule| Side::BOTH.map(|side| TerminationReason::LimitExceeded(side, rule));
        let ends =
            LimitKind::ALL.into_iter().filter(|rule| *rule != LimitKind::Inflated).flat_map(sides);
        let clocks = [
            TerminationReason::Idle,
            TerminationReason::Lifetime,
            TerminationReason::HeartbeatTimeout(Side::Client),
        ];
        let set: Vec<String> = ends.chain(clocks).filter_map(of).collect();
        self.say("limits", set.join(", "), None);
    }
}

/// An address that nobody has (RFC 5737).
const ANYBODY: &str = "192.0.2.1";
