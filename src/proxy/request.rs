//! One request, in order: client, route, admission, backend. The result is a response, or a tunnel that
//! starts once the client has received the 101, and at most one record, written by [`RequestLog`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::http::request::Parts;
use hyper::{Request, Response};

use super::charged_response;
use super::client_body::ClientBody;
use super::drained;
use super::forwarded_body::{ForwardedBody, RequestHolds};
use super::own_response::own_response;
use super::redirect::ListenerRedirect;
use super::request_log::RequestLog;
use super::request_observer::RequestObserver;
use super::route::Route;
use super::route_match::{find, own_origin};
use super::session::{HandshakeResult, PendingTunnel};
use super::snapshot::Snapshot;
use super::state::ProxyState;
use crate::admission::concurrency::{Permit, TunnelLimits};
use crate::admission::pending::PendingConnection;
use crate::admission::request_memory::RequestCharge;
use crate::downstream::client_address;
use crate::downstream::reply::Reply;
use crate::downstream::request_timer::HttpTimeouts;
use crate::downstream::response::{self, Body, boxed, set_hsts};
use crate::http::forwarded::Forwarded;
use crate::http::head_limits::HeadLimits;
use crate::http::upgrade::{declined_status, handshake_defect};
use crate::http::{Handshake, ValidatedRequest};
use crate::reject::RejectReason;
use crate::sessions::connection::Connection;
use crate::sys::clock::now;
use crate::telemetry::redact::truncate;
use crate::upstream::connect::Connector;
use crate::upstream::connect_error::ConnectError;
use crate::upstream::ejection::ResponseKind;
use crate::upstream::forward::{self, ForwardOptions};
use crate::upstream::forwarded_headers::ForwardedHeaders;
use crate::upstream::handshake::{self, UpgradeFailure, UpgradeOptions};
use crate::upstream::http1::idle_timer::IdleLimits;
use crate::upstream::http1::response_body::ResponseBody;
use crate::upstream::negotiate::NegotiationPolicy;
use crate::upstream::pool::choosing::{Choice, ChoicePurpose, ChoiceRequest, NoChoice};

/// What all requests of one connection share; freed when the connection becomes a tunnel.
pub struct ConnectionContext {
    /// State shared by all connections.
    pub state: Arc<ProxyState>,
    /// The peer's connection, which holds the permit.
    pub connection: Arc<Connection>,
    /// The address that the client connected to.
    pub local: SocketAddr,
    /// The path that answers a load balancer's health check.
    pub health_path: Option<String>,
    /// How large request heads may be.
    pub request_head: HeadLimits,
    /// The redirect to `https`.
    pub redirect: Option<ListenerRedirect>,
    /// How long its first head was awaited before.
    pub waited: Duration,
    /// Set with the first response.
    pub pending: Arc<PendingConnection>,
}

/// The outcome of a request that no rule of ours rejected.
enum Outcome {
    /// The backend's response to a plain request, which counts for the client until its end.
    Forwarded(Response<ResponseBody>, RequestHolds),
    /// The backend accepted the upgrade.
    Upgraded(Reply<PendingTunnel>),
    /// The backend rejected the upgrade, or the request was redirected: the response, and the reason for the record.
    Declined(Response<Body>, RejectReason),
}

/// What stays the same while one request is handled.
struct RequestContext<'r> {
    snapshot: &'r Snapshot,
    connection: &'r Arc<Connection>,
    forwarded: &'r Forwarded,
    request_id: &'r str,
    /// Sends an interim response to the client.
    send_interim: &'r (dyn Fn(&Response<()>) + Sync),
}

impl ConnectionContext {
    /// The timeouts of the connection.
    pub fn timeouts(&self) -> HttpTimeouts {
        let configured = self.state.snapshot().settings.timeouts;
        HttpTimeouts {
            request_header: configured.request_header,
            first_header: configured.request_header.saturating_sub(self.waited),
            keep_alive: configured.keep_alive,
            write: configured.requests.idle,
        }
    }

    /// Responds to a request. `checked` is an error if the head cannot be used, for example because the
    /// length of the request is ambiguous; `send_interim` sends what precedes the response.
    ///
    /// Every request gets a response, and a rejected one also gets a record. If the client disconnects
    /// first, the future is dropped and the record shows this.
    pub async fn handle_request<B: ClientBody>(
        &self,
        request: Request<B>,
        checked: Result<(), RejectReason>,
        send_interim: &(dyn Fn(&Response<()>) + Sync),
    ) -> Reply<PendingTunnel> {
        let snapshot = self.state.snapshot();
        let (health_path, path) = (self.health_path.as_deref(), request.uri().path());
        let peer = &self.connection.client;
        let own = own_response(&self.state, &snapshot, health_path, peer, path);
        if let Some(response) = own.filter(|_| checked.is_ok()) {
            return Reply::Response(response);
        }
        let (connection, mut forwarded) = self.client_of(&request, &snapshot);
        let id = forwarded.request_id.take().unwrap_or_else(|| self.state.net.request_id());
        let mut log = RequestLog::start(connection.clone(), &snapshot, &request, &forwarded, &id);
        let context = RequestContext {
            snapshot: &snapshot,
            connection: &connection,
            forwarded: &forwarded,
            request_id: &id,
            send_interim,
        };
        let outcome = match checked {
            Ok(()) => self.respond(&context, request, &mut log).await,
            Err(reason) => Err(reason),
        };
        let route = log.route().filter(|_| connection.client.secure);
        let hsts = route.and_then(|route| route.hsts.clone());
        let (mut reply, rejected) = match outcome {
            Ok(Outcome::Forwarded(mut response, holds)) => {
                set_hsts(response.headers_mut(), hsts);
                log.issue_pin(response.headers_mut());
                // The request ends with the body of its response, and so does its log.
                let status = response.status();
                return Reply::Response(
                    response.map(|body| boxed(ForwardedBody::new(body, status, holds, log))),
                );
            }
            Ok(Outcome::Upgraded(mut reply)) => {
                log.issue_pin(reply.headers_mut());
                (reply, None)
            }
            Ok(Outcome::Declined(mut response, reason)) => {
                log.issue_pin(response.headers_mut());
                (Reply::Response(response), Some(reason))
            }
            Err(reason) => {
                let mut response = response::reject(&reason, self.state.net.random_f64());
                snapshot.error_pages.apply(&mut response);
                (Reply::Response(response), Some(reason))
            }
        };
        set_hsts(reply.headers_mut(), hsts);
        log.finish(rejected, &snapshot);
        reply
    }

    /// The client of a request, with the connection that carries it, and what trusted proxies say about both.
    fn client_of<B>(
        &self,
        request: &Request<B>,
        snapshot: &Snapshot,
    ) -> (Arc<Connection>, Forwarded) {
        let peer = &self.connection;
        let (client, forwarded) = client_address::identify(
            &peer.client,
            request.headers(),
            &snapshot.trusted_proxies,
            snapshot.settings.client_key,
        );
        let connection = match client {
            Some(client) => {
                if client.addr_source != peer.client.addr_source {
                    self.state.metrics.forwarded_address(client.addr_source);
                }
                Arc::new(Connection::forwarded(client, peer.clone()))
            }
            None => peer.clone(),
        };
        (connection, forwarded)
    }

    /// Routes a request, then forwards it or upgrades it.
    async fn respond<B: ClientBody>(
        &self,
        context: &RequestContext<'_>,
        request: Request<B>,
        log: &mut RequestLog,
    ) -> Result<Outcome, RejectReason> {
        let client = &context.connection.client;
        let (mut head, body) = request.into_parts();
        let kind = ValidatedRequest::validate(&head)?;
        if let Some(redirect) = &self.redirect
            && let Some((response, reason)) =
                redirect.response(client, &head, &kind, context.forwarded)?
        {
            return Ok(Outcome::Declined(response, reason));
        }
        let route = find(context.snapshot, client, kind.authority(), kind.path())
            .map_err(|unrouted| log.set_unrouted(unrouted))?;
        log.set_route(route);
        route.addresses.check(&client.addr).map_err(RejectReason::AddressDenied)?;
        route.maintenance.admit()?;
        let protocol = self.connection.client.protocol;
        let memory =
            self.state.pending.charge_request(client.key, protocol, &head).map(Arc::new)?;
        log.set_dropped_headers(&route.underscores_dropped(&head.headers));
        let forwarded = ForwardedHeaders {
            client,
            forwarded: context.forwarded,
            request_id: context.request_id,
            local: self.local,
            policy: &route.forwarding,
        };
        if let (ValidatedRequest::Plain(_), Some(detail)) = (&kind, handshake_defect(&head)) {
            route.log_lost_handshake(client, detail);
        }
        match kind {
            ValidatedRequest::WebSocket(handshake) => {
                let upgrading =
                    self.upgrade(context, route, &mut head, &handshake, &forwarded, log);
                match upgrading.await? {
                    Outcome::Declined(response, reason) => {
                        let response = charged_response::declined(response, protocol, memory);
                        Ok(Outcome::Declined(response, reason))
                    }
                    other @ (Outcome::Forwarded(..) | Outcome::Upgraded(_)) => Ok(other),
                }
            }
            ValidatedRequest::Plain(_) if !route.http => Err(RejectReason::NotWebsocket),
            ValidatedRequest::Plain(_) => {
                let choice = route.pool.read_request(&head, kind.path(), client.key);
                let request = (Request::from_parts(head, body), choice, memory);
                // In a box, because it is large.
                Box::pin(self.forward(context, route, request, &forwarded, log)).await
            }
        }
    }

    /// Admits a plain request and forwards it to a backend.
    async fn forward<B: ClientBody>(
        &self,
        context: &RequestContext<'_>,
        route: &Arc<Route>,
        (request, choice, memory): (Request<B>, ChoiceRequest, Arc<RequestCharge>),
        forwarded: &ForwardedHeaders<'_>,
        log: &mut RequestLog,
    ) -> Result<Outcome, RejectReason> {
        let (snapshot, key) = (context.snapshot, forwarded.client.key);
        let protocol = self.connection.client.protocol;
        // Also if it is not admitted.
        log.set_plain(route);
        snapshot.client_rates.requests.admit(key)?;
        let limit = snapshot.settings.concurrency.requests_per_client;
        let permit = self.state.concurrency.admit_request(key, limit)?;
        let chosen = route.pool.choose(&choice, ChoicePurpose::Request, &*self.state.net);
        let connector = self.connector(route, choice, chosen, forwarded, log)?;
        let timeouts = &route.timeouts;
        let options = ForwardOptions {
            idle: IdleLimits { idle: timeouts.idle, min_body_rate: timeouts.min_body_rate },
            // A PROXY header states one client for all requests of a connection.
            keep_alive: timeouts.backend_keep_alive.filter(|_| !route.forwarding.send_proxy),
        };
        let from = (&route.pool, key);
        let mut observer = RequestObserver { log, send_interim: context.send_interim, from };
        let forwarding = forward::forward(&connector, request, forwarded, options, &mut observer);
        let response = charged_response::forwarded(forwarding.await?, protocol, &memory);
        Ok(Outcome::Forwarded(response, (permit, memory)))
    }

    /// Admits a WebSocket handshake, forwards it to a backend, and prepares the tunnel.
    async fn upgrade(
        &self,
        context: &RequestContext<'_>,
        route: &Arc<Route>,
        head: &mut Parts,
        handshake: &Handshake,
        forwarded: &ForwardedHeaders<'_>,
        log: &mut RequestLog,
    ) -> Result<Outcome, RejectReason> {
        let permit = self.admit_session(context, route, handshake, log)?;
        let backend_started = now();
        let client = context.connection.client.key;
        let choice = route.pool.read_request(head, &handshake.path, client);
        let chosen = route.pool.choose_or_wait(&choice, &*self.state.net).await;
        let key = choice.key;
        let connector = self.connector(route, choice, chosen, forwarded, log)?;
        let connected = connector.connect_tunnel(|other| route.pool.enter_tunnel(other, key)).await;
        let (socket, to, load) = connected.map_err(|failed| log.set_connect_error(&failed))?;
        log.set_load(load);
        let backend = to.backend.clone();
        log.set_backend(&backend);
        let options = UpgradeOptions {
            policy: NegotiationPolicy {
                compression: route.compression,
                strict: route.policy.strict,
            },
            limit: route.timeouts.response_header,
            idle: route.timeouts.idle,
        };
        let interim = context.send_interim;
        let upgrading =
            handshake::upgrade((socket, to), head, handshake, forwarded, options, interim);
        // In a box like a forwarded request: what is not in use now would be moved with the future of the request.
        let upgraded = Box::pin(upgrading).await;
        let response = match &upgraded {
            Err(UpgradeFailure::Rejected(reason)) => Err(*reason),
            Ok(_) | Err(UpgradeFailure::Declined(_)) => Ok(()),
        };
        route.pool.record_response(&backend, ResponseKind::Handshake, client, response);
        let upgraded = match upgraded {
            Ok(upgraded) => upgraded,
            Err(UpgradeFailure::Rejected(reason)) => return Err(reason),
            Err(UpgradeFailure::Declined(mut response)) => {
                *response.status_mut() = declined_status(head.version, response.status());
                let reason = RejectReason::BackendRejected(response.status());
                return Ok(Outcome::Declined(response.map(boxed), reason));
            }
        };
        let result = HandshakeResult { permit, upgraded, backend_started };
        let (response, tunnel) =
            PendingTunnel::new(&self.state, context.connection, route, result, log);
        // A drain that started in the meantime may have listed the open sessions before this one was
        // registered. A drain that starts from now on includes it.
        if self.state.is_draining() || route.is_draining() || backend.is_draining() {
            return Err(self.draining(route, log));
        }
        Ok(Outcome::Upgraded(Reply::Tunnel { response, tunnel: Box::new(tunnel) }))
    }

    /// Performs the admission checks of a handshake before a backend is contacted: drain state, handshake
    /// rate, origin and concurrency limits, in this order.
    fn admit_session(
        &self,
        context: &RequestContext<'_>,
        route: &Route,
        handshake: &Handshake,
        log: &mut RequestLog,
    ) -> Result<Permit, RejectReason> {
        let (state, snapshot) = (&self.state, context.snapshot);
        let client = &context.connection.client;
        if state.is_draining() || route.is_draining() {
            return Err(self.draining(route, log));
        }
        snapshot.client_rates.handshakes.admit(client.key)?;
        let own = own_origin(client, &handshake.authority, context.forwarded);
        let sent = handshake.origin.as_deref();
        if let Err(mismatch) = route.origins.check(sent, &own) {
            log.set_detail(route.origins.describe(mismatch, sent, &own));
            return Err(RejectReason::Origin(mismatch));
        }
        state.concurrency.admit_tunnel(
            client.key,
            &route.tunnels,
            TunnelLimits {
                total: snapshot.capacity.tunnels,
                per_client: snapshot.settings.concurrency.tunnels_per_client,
                per_route: route.max_tunnels,
            },
        )
    }

    /// Connects to the backend selected for the request, or to the next one in its order that accepts.
    fn connector(
        &self,
        route: &Route,
        request: ChoiceRequest,
        chosen: Result<Choice, NoChoice>,
        forwarded: &ForwardedHeaders<'_>,
        log: &mut RequestLog,
    ) -> Result<Connector<'_>, RejectReason> {
        let key = forwarded.client.key;
        let Choice { backends: order, chosen_by, load } = match chosen {
            Ok(choice) => choice,
            Err(NoChoice::Drained) => return Err(self.draining(route, log)),
            Err(NoChoice::ProbedDown) => {
                return Err(log.set_connect_error(&ConnectError::probed_down(&route.pool)));
            }
            Err(NoChoice::Full) => return Err(RejectReason::BackendsFull),
        };
        log.set_choice(request, chosen_by, load);
        let (proxy_header, limit) = (forwarded.proxy_header(), route.timeouts.connect);
        let net = &*self.state.net;
        Ok(Connector { net, order, key, proxy_header, limit, records_failures: true })
    }

    /// The reason to reject a request during a drain, after its record says what undoes it.
    fn draining(&self, route: &Route, log: &mut RequestLog) -> RejectReason {
        log.set_detail(truncate(&drained::describe(&self.state, route)).into_owned());
        RejectReason::Draining
    }
}
