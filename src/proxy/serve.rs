//! The whole story of a connection, in one file: accepted, secured, asked, admitted, led to a
//! backend, and handed to its tunnel. The stages are in the rooms; the order is here.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};

use super::deciding_setting;
use super::request_log::RequestLog;
use super::route_match::{find, own_origin};
use super::session::{PendingTunnel, open};
use super::snapshot::{Route, Snapshot};
use super::state::ProxyState;
use crate::admission::concurrency::Permit;
use crate::client::{AddrSource, ClientInfo};
use crate::config::settings::{ListenerSettings, TlsStreamKind};
use crate::downstream::client_address;
use crate::downstream::h1::{self, HeadLimits};
use crate::downstream::response::{self, Body, boxed, text};
use crate::http::forwarded::Forwarded;
use crate::http::{Handshake, RequestKind};
use crate::listener::key::ListenerKey;
use crate::listener::proxy_protocol::read_proxy_header;
use crate::listener::socket::AcceptedStream;
use crate::net::Stream;
use crate::net::plain::PlainStream;
use crate::reject::{DropReason, RejectReason};
use crate::sessions::connection::Connection;
use crate::sys::clock::now;
use crate::sys::entropy::{fraction, request_id};
use crate::telemetry::metrics::HandshakeStep;
use crate::telemetry::metrics::handles::OpenConnection;
use crate::telemetry::record::dropped;
use crate::upstream::connect::{self, BackendConnection};
use crate::upstream::forward;
use crate::upstream::forwarded_headers::ForwardedHeaders;
use crate::upstream::handshake::{self, UpgradeFailure};

/// What all requests of one connection have in common; gone when its HTTP phase is over.
struct ConnectionContext {
    gate: Arc<ProxyState>,
    connection: Arc<Connection>,
    /// Where the client's connection came to.
    local: SocketAddr,
    health: Option<String>,
    slot: TunnelSlot,
}

/// Where an answer leaves the tunnel that shall follow it.
type TunnelSlot = Mutex<Option<PendingTunnel>>;

/// One TCP connection, from the door it came in by to its record.
pub async fn serve(gate: Arc<ProxyState>, accepted: AcceptedStream, door: ListenerKey) {
    let began = now();
    let generation = gate.generation();
    // Accepted while a reload removed the listener.
    let Some(listener) = generation.listener(door) else { return };
    let counted = generation.listener_counts(door).map(|counts| counts.accepted());
    let prefixes = generation.settings.client_key;
    let mut visitor = ClientInfo::new(accepted.peer, prefixes, listener.name.clone());
    let entered = enter(&gate, &generation, listener, accepted, counted, &mut visitor);
    if let Err(why) = entered.await {
        gate.metrics.dropped(&why);
        let deciding = deciding_setting::of_drop(&why, &generation);
        dropped(&visitor, &why, deciding, now().duration_since(began));
    }
}

/// Permit, then TLS, then HTTP: in the order of what a refusal costs us.
async fn enter(
    gate: &Arc<ProxyState>,
    generation: &Snapshot,
    listener: &ListenerSettings,
    mut accepted: AcceptedStream,
    counted: Option<OpenConnection>,
    visitor: &mut ClientInfo,
) -> Result<(), DropReason> {
    let settings = &generation.settings;
    if listener.proxy_protocol && !settings.trusted.has(&visitor.addr) {
        return Err(DropReason::ProxyHeaderUntrusted);
    }
    let mut permit = gate.occupancy.connection(generation.room.connections)?;
    let mut local = accepted.local;
    if listener.proxy_protocol {
        let reading = read_proxy_header(&mut accepted.io, settings.timeouts.proxy_header);
        if let Some(proxied) = Box::pin(reading).await? {
            let (by, prefixes) = (AddrSource::ProxyHeader, settings.client_key);
            *visitor = visitor.on_behalf_of(proxied.source, by, prefixes);
            gate.metrics.named(by);
            local = proxied.destination;
        }
    }
    // A trusted proxy brings the connections of many clients.
    if !settings.trusted.has(&visitor.addr) {
        permit.count_for(visitor.key, settings.concurrency.connections_per_client)?;
    }
    let ground = |visitor: &ClientInfo| ConnectionContext {
        gate: gate.clone(),
        connection: Arc::new(Connection::accepted(visitor.clone(), permit, counted)),
        local,
        health: listener.health_path.clone(),
        slot: TunnelSlot::default(),
    };
    match (&generation.tls, listener.tls) {
        (Some(tls), true) => {
            let (limit, began) = (settings.timeouts.tls, now());
            let took = || gate.metrics.took(HandshakeStep::Tls, now().duration_since(began));
            match settings.tls {
                TlsStreamKind::Lean => {
                    let (stream, facts) = Box::pin(tls.terminate(accepted.io, limit)).await?;
                    took();
                    (visitor.secure, visitor.tls) = (true, Some(facts));
                    converse(stream, ground(visitor)).await
                }
                TlsStreamKind::Stock => {
                    let (stream, facts) = Box::pin(tls.terminate_stock(accepted.io, limit)).await?;
                    took();
                    (visitor.secure, visitor.tls) = (true, Some(facts));
                    converse(stream, ground(visitor)).await
                }
            }
        }
        // A listener that speaks TLS never exists without certificates.
        (None, true) => Ok(()),
        (_, false) => converse(PlainStream::new(accepted.io), ground(visitor)).await,
    }
}

/// HTTP until the connection ends, or until it becomes a tunnel.
async fn converse<S: Stream + Send + 'static>(
    stream: S,
    ground: ConnectionContext,
) -> Result<(), DropReason> {
    let ground = Arc::new(ground);
    let gate = &ground.gate;
    let generation = gate.generation();
    let limits = HeadLimits {
        head: generation.settings.timeouts.request_header,
        write_timeout: generation.settings.timeouts.idle,
    };
    drop(generation);
    let answers = |request, framing| {
        let ground = ground.clone();
        async move { ground.answer(request, framing).await }
    };
    let served = Box::pin(h1::serve(stream, limits, gate.draining(), answers)).await;
    let plan = ground.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (served, plan) {
        (Ok(Some(served)), Some(plan)) => {
            open(gate, served, plan);
            Ok(())
        }
        // The client went while its 101 was on the way.
        (_, Some(plan)) => {
            plan.abandon();
            Ok(())
        }
        (served, None) => served.map(drop),
    }
}

impl ConnectionContext {
    /// One request: an answer in any case, and a record if it is not the one that was asked for.
    async fn answer(
        &self,
        request: Request<Incoming>,
        framing: Result<(), RejectReason>,
    ) -> Response<Body> {
        let health = self.health.as_deref();
        if framing.is_ok() && health.is_some_and(|path| path == request.uri().path()) {
            return health_word(&self.gate);
        }
        let generation = self.gate.generation();
        let (connection, mut said) = self.client_of(&request, &generation);
        let request_id = said.request_id.take().unwrap_or_else(request_id);
        let mut inquiry =
            RequestLog::begin(connection.clone(), &generation, &request, request_id, now());
        let decided = match framing {
            Ok(()) => self.consider(&generation, &connection, &said, request, &mut inquiry).await,
            Err(refusal) => Err(refusal),
        };
        match decided {
            Ok(response) => {
                inquiry.close();
                response
            }
            Err(refusal) => {
                inquiry.refuse(refusal, &generation);
                response::refuse(&refusal, fraction())
            }
        }
    }

    /// Whom a request is from, with the connection that carries it, and what was said of it.
    fn client_of(
        &self,
        request: &Request<Incoming>,
        generation: &Snapshot,
    ) -> (Arc<Connection>, Forwarded) {
        let peer = &self.connection;
        let (trusted, prefixes) = (&generation.settings.trusted, generation.settings.client_key);
        let (client, said) =
            client_address::identify(&peer.visitor, request.headers(), trusted, prefixes);
        let connection = match client {
            Some(visitor) => {
                if visitor.known_by != peer.visitor.known_by {
                    self.gate.metrics.named(visitor.known_by);
                }
                Arc::new(Connection::forwarded(visitor, peer.clone()))
            }
            None => peer.clone(),
        };
        (connection, said)
    }

    /// Refuses a request, forwards it, or prepares its tunnel.
    async fn consider(
        &self,
        generation: &Snapshot,
        connection: &Arc<Connection>,
        said: &Forwarded,
        request: Request<Incoming>,
        inquiry: &mut RequestLog,
    ) -> Result<Response<Body>, RejectReason> {
        let (gate, visitor) = (&self.gate, &connection.visitor);
        let (head, body) = request.into_parts();
        let asked = RequestKind::read(&head)?;
        let route = find(generation, visitor, asked.authority(), asked.path())?;
        inquiry.on(route);
        let request_id = inquiry.request_id.clone();
        let introduction = ForwardedHeaders {
            visitor,
            forwarded: said,
            request_id: &request_id,
            local: self.local,
            manner: &route.manner,
        };
        let handshake = match asked {
            RequestKind::WebSocket(handshake) => handshake,
            RequestKind::Plain(_) if !route.http => return Err(RejectReason::NotWebsocket),
            RequestKind::Plain(_) => {
                let request = Request::from_parts(head, body);
                let dialled = dial(route, &introduction).await?;
                inquiry.at(&dialled.backend);
                let silence = route.timeouts.idle;
                let answer = forward::forward(dialled, request, &introduction, silence).await?;
                route.counts.requests.add_one();
                return Ok(answer.map(boxed));
            }
        };
        let permit = admit_session(gate, generation, route, visitor, &handshake)?;
        let dialling = now();
        let dialled = dial(route, &introduction).await?;
        inquiry.at(&dialled.backend);
        let backend = dialled.backend.clone();
        let (compression, limit) = (route.compression, route.timeouts.response_header);
        let upgrading =
            handshake::upgrade(dialled, &head, &handshake, &introduction, compression, limit);
        match upgrading.await {
            Ok(upgraded) => {
                let (response, plan) = PendingTunnel::new(
                    gate, connection, route, permit, upgraded, dialling, inquiry,
                );
                // A drain that began meanwhile may have called the roll already. One that begins
                // from here on finds this session on it.
                if gate.is_closed() || route.away.is_away() || backend.standing.away.is_away() {
                    return Err(RejectReason::Draining);
                }
                *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(plan);
                Ok(response)
            }
            Err(UpgradeFailure::Refused(refusal)) => Err(refusal),
            Err(UpgradeFailure::Answer(response)) => {
                inquiry.refuse(RejectReason::BackendRefused(response.status()), generation);
                Ok(response.map(boxed))
            }
        }
    }
}

/// Draining, rate, Origin, caps: the last word before a backend is troubled.
fn admit_session(
    gate: &Arc<ProxyState>,
    generation: &Snapshot,
    route: &Arc<Route>,
    visitor: &ClientInfo,
    handshake: &Handshake,
) -> Result<Permit, RejectReason> {
    if gate.is_closed() || route.away.is_away() {
        return Err(RejectReason::Draining);
    }
    generation.rate.admit(visitor.key)?;
    let own = own_origin(visitor, &handshake.authority);
    if !route.origins.welcome(handshake.origin.as_deref(), &own) {
        return Err(RejectReason::Origin);
    }
    let most_per_client = generation.settings.concurrency.tunnels_per_client;
    gate.occupancy.tunnel(
        visitor.key,
        generation.room.tunnels,
        most_per_client,
        &route.tunnels,
        route.tunnels_max,
    )
}

/// The client's own backend, or the next in its order that takes the connection.
async fn dial(
    route: &Route,
    introduction: &ForwardedHeaders<'_>,
) -> Result<BackendConnection, RejectReason> {
    let order = route.pool.order(introduction.visitor.key, now().into());
    // Each was drained by order.
    if order.is_empty() {
        return Err(RejectReason::Draining);
    }
    connect::dial(&order, &introduction.proxy_header(), route.timeouts.connect).await
}

/// For load balancers: no more than whether new clients are wanted.
fn health_word(gate: &ProxyState) -> Response<Body> {
    if !gate.is_wanted() {
        text(StatusCode::SERVICE_UNAVAILABLE, "unready\n")
    } else {
        text(StatusCode::OK, "ok\n")
    }
}
