//! The whole story of a connection, in one file: accepted, secured, asked, admitted, led to a
//! backend, and handed to its tunnel. The stages are in the rooms; the order is here.

use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};

use super::deciding;
use super::doors::DoorKey;
use super::gate::{Gate, now};
use super::generation::{Generation, Route};
use super::inquiry::Inquiry;
use super::session::{Plan, open};
use crate::accept::Accepted;
use crate::admit::{self, Body, HeadLimits, Permit, boxed, text};
use crate::backend::{self, Dialled, NotUpgraded};
use crate::config::origin::Origin;
use crate::config::settings::ListenerSettings;
use crate::handshake::{Asked, Authority, Handshake, RoutePath};
use crate::observe::dropped;
use crate::outcome::{Dropped, Refusal};
use crate::stream::{PlainStream, StockStream, Stream};
use crate::visitor::{ClientAddr, ClientKey, Visitor};

/// One client's connection: it counts until the last thing born of it is gone.
#[derive(Debug)]
pub struct Connection {
    /// Whose it is.
    pub visitor: Visitor,
    _permit: Permit,
}

/// Where an answer leaves the tunnel that shall follow it.
type Slot = Arc<Mutex<Option<Plan>>>;

/// One TCP connection, from the door it came in by to its record.
pub async fn serve(gate: Arc<Gate>, accepted: Accepted, door: DoorKey) {
    let began = now();
    let generation = gate.generation();
    // Accepted while a reload removed the listener.
    let Some(listener) = generation.listener(door) else { return };
    let addr = ClientAddr::new(accepted.peer);
    let key = ClientKey::new(&addr, generation.settings.client_key);
    let mut visitor = Visitor { addr, key, listener: listener.name.clone(), tls: None };
    if let Err(why) = enter(&gate, &generation, listener, accepted, &mut visitor).await {
        let deciding = deciding::of_drop(&why, &generation);
        dropped(&visitor, &why, deciding, now().duration_since(began));
    }
}

/// Permit, then TLS, then HTTP: in the order of what a refusal costs us.
async fn enter(
    gate: &Arc<Gate>,
    generation: &Generation,
    listener: &ListenerSettings,
    accepted: Accepted,
    visitor: &mut Visitor,
) -> Result<(), Dropped> {
    let most_per_client = generation.settings.caps.connections_per_client;
    let most = generation.room.connections;
    let permit = gate.occupancy.connection(visitor.key, most, most_per_client)?;
    let health = listener.health_path.clone();
    match (&generation.tls, listener.tls) {
        (Some(tls), true) => {
            let limit = generation.settings.timeouts.tls;
            let (stream, facts) = Box::pin(tls.terminate(accepted.io, limit)).await?;
            visitor.tls = Some(facts);
            let connection = Connection { visitor: visitor.clone(), _permit: permit };
            converse(gate, StockStream::new(stream), connection, health).await
        }
        // A listener that speaks TLS never exists without certificates.
        (None, true) => Ok(()),
        (_, false) => {
            let connection = Connection { visitor: visitor.clone(), _permit: permit };
            converse(gate, PlainStream::new(accepted.io), connection, health).await
        }
    }
}

/// HTTP until the connection ends, or until it becomes a tunnel.
async fn converse<S: Stream + Send + 'static>(
    gate: &Arc<Gate>,
    stream: S,
    connection: Connection,
    health: Option<String>,
) -> Result<(), Dropped> {
    let connection = Arc::new(connection);
    let slot = Slot::default();
    let generation = gate.generation();
    let limits = HeadLimits {
        head: generation.settings.timeouts.head,
        write_stall: generation.settings.timeouts.http_silence,
    };
    drop(generation);
    let answers = |request, framing| {
        let health = health.clone();
        let (gate, connection, slot) = (gate.clone(), connection.clone(), slot.clone());
        async move { answer(&gate, &connection, &slot, health.as_deref(), request, framing).await }
    };
    let served = Box::pin(admit::serve(stream, limits, gate.draining(), answers)).await;
    let plan = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
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

/// One request: an answer in any case, and a record if it is not the one that was asked for.
async fn answer(
    gate: &Arc<Gate>,
    connection: &Arc<Connection>,
    slot: &Slot,
    health: Option<&str>,
    request: Request<Incoming>,
    framing: Result<(), Refusal>,
) -> Response<Body> {
    if framing.is_ok() && health.is_some_and(|path| path == request.uri().path()) {
        return health_word(gate);
    }
    let generation = gate.generation();
    let mut inquiry = Inquiry::begin(connection.clone(), &generation, &request, now());
    let decided = match framing {
        Ok(()) => consider(gate, &generation, connection, slot, request, &mut inquiry).await,
        Err(refusal) => Err(refusal),
    };
    match decided {
        Ok(response) => {
            inquiry.close();
            response
        }
        Err(refusal) => {
            inquiry.refuse(refusal, &generation);
            admit::refuse(&refusal, super::chance::fraction())
        }
    }
}

/// Refuses a request, forwards it, or prepares its tunnel.
async fn consider(
    gate: &Arc<Gate>,
    generation: &Generation,
    connection: &Arc<Connection>,
    slot: &Slot,
    request: Request<Incoming>,
    inquiry: &mut Inquiry,
) -> Result<Response<Body>, Refusal> {
    let (head, body) = request.into_parts();
    let asked = Asked::read(&head)?;
    let route = find(generation, &connection.visitor, asked.authority(), asked.path())?;
    inquiry.on(route);
    let visitor = &connection.visitor;
    let handshake = match asked {
        Asked::WebSocket(handshake) => handshake,
        Asked::Plain(_) if !route.http => return Err(Refusal::NotWebsocket),
        Asked::Plain(_) => {
            let request = Request::from_parts(head, body);
            let dialled = dial(route, visitor).await?;
            inquiry.at(&dialled.backend);
            let silence = route.timeouts.http_silence;
            let answer = backend::forward(dialled, request, visitor, silence).await?;
            return Ok(answer.map(boxed));
        }
    };
    let permit = admit_session(gate, generation, route, visitor, &handshake)?;
    let dialling = now();
    let dialled = dial(route, visitor).await?;
    inquiry.at(&dialled.backend);
    let limit = route.timeouts.backend_answer;
    let upgrading = backend::upgrade(dialled, &head, &handshake, visitor, route.compression, limit);
    match upgrading.await {
        Ok(upgraded) => {
            let (response, plan) =
                Plan::new(gate, connection, route, permit, upgraded, dialling, inquiry);
            // A drain that began meanwhile may have called the roll already. One that begins from
            // here on finds this session on it.
            if gate.is_draining() {
                return Err(Refusal::Draining);
            }
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(plan);
            Ok(response)
        }
        Err(NotUpgraded::Refused(refusal)) => Err(refusal),
        Err(NotUpgraded::Answer(response)) => {
            inquiry.refuse(Refusal::BackendRefused(response.status()), generation);
            Ok(response.map(boxed))
        }
    }
}

/// The route of a request, if its host may be asked for on this connection at all.
fn find<'g>(
    generation: &'g Generation,
    visitor: &Visitor,
    authority: &Authority,
    path: &RoutePath,
) -> Result<&'g Arc<Route>, Refusal> {
    let sni = visitor.tls.as_ref().and_then(|tls| tls.sni.as_deref());
    if let (Some(sni), Some(tls)) = (sni, &generation.tls)
        && !tls.certs().share(sni, &authority.host)
    {
        return Err(Refusal::Misdirected);
    }
    let find = |path: &str| generation.routes.find(&authority.host, path).map(Arc::as_ptr);
    path.unanimous(find).ok_or(AMBIGUOUS)?;
    generation.routes.find(&authority.host, path.as_str()).ok_or(Refusal::NoRoute)
}

/// Draining, rate, Origin, caps: the last word before a backend is troubled.
fn admit_session(
    gate: &Arc<Gate>,
    generation: &Generation,
    route: &Arc<Route>,
    visitor: &Visitor,
    handshake: &Handshake,
) -> Result<Permit, Refusal> {
    if gate.is_draining() {
        return Err(Refusal::Draining);
    }
    generation.rate.admit(visitor.key)?;
    let own = own_origin(visitor, &handshake.authority);
    if !route.origins.welcome(handshake.origin.as_deref(), &own) {
        return Err(Refusal::Origin);
    }
    let most_per_client = generation.settings.caps.tunnels_per_client;
    gate.occupancy.tunnel(
        visitor.key,
        generation.room.tunnels,
        most_per_client,
        &route.tunnels,
        route.tunnels_max,
    )
}

/// The client's own backend, or the next in its order that takes the connection.
async fn dial(route: &Route, visitor: &Visitor) -> Result<Dialled, Refusal> {
    let order = route.pool.order(visitor.key, now().into());
    backend::dial(&order, route.timeouts.dial).await
}

/// The origin of a page that came from the very host that is asked.
fn own_origin(visitor: &Visitor, authority: &Authority) -> Origin {
    let (scheme, port) = if visitor.tls.is_some() { ("https", 443) } else { ("http", 80) };
    Origin {
        scheme: scheme.to_owned(),
        host: authority.host.clone(),
        port: Some(authority.port.unwrap_or(port)),
    }
}

/// Backends read paths in different ways; one that leads to two routes leads to none.
const AMBIGUOUS: Refusal =
    Refusal::RequestBad("the path leads to different routes, depending on who reads it");

/// For load balancers: no more than whether new clients are wanted.
fn health_word(gate: &Gate) -> Response<Body> {
    if gate.is_draining() {
        text(StatusCode::SERVICE_UNAVAILABLE, "unready\n")
    } else {
        text(StatusCode::OK, "ok\n")
    }
}
