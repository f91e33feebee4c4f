//! Which tunnels an order is about.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::super::gate::{Gate, now};
use super::super::registry::Line;
use crate::control::{Fault, FaultKind, Selection};
use crate::visitor::{ClientAddr, ClientKey, KeyPrefixes};

/// One tunnel, by its number.
pub(super) fn one(gate: &Gate, session: u64) -> Result<Arc<Line>, Fault> {
    gate.registry.line(session).ok_or_else(|| {
        let words = format!("no tunnel {session} is open (`tidegate ctl sessions` lists them)");
        Fault::new(FaultKind::NotFound, words)
    })
}

/// All tunnels that are meant, oldest first. A number, route or backend that is not there is a
/// fault; that nothing is left is none.
pub(super) fn choose(gate: &Gate, of: &Selection) -> Result<Vec<Arc<Line>>, Fault> {
    let generation = gate.generation();
    let client = match &of.client {
        Some(text) => Some(client(text, generation.settings.client_key)?),
        None => None,
    };
    let mut lines = match of.sessions.as_slice() {
        [] => gate.registry.lines(),
        some => some.iter().map(|session| one(gate, *session)).collect::<Result<_, _>>()?,
    };
    if let Some(route) = &of.route
        && !generation.route_list.iter().any(|known| *known.name == **route)
        && !lines.iter().any(|line| *line.facts.counts.route.name == **route)
    {
        return Err(unknown("route", route));
    }
    if let Some(backend) = &of.backend {
        let pools = generation.route_list.iter().flat_map(|route| route.pool.backends());
        if !pools.into_iter().any(|known| *known.id == **backend)
            && !lines.iter().any(|line| *line.facts.counts.id == **backend)
        {
            return Err(unknown("backend", backend));
        }
    }
    let (now, older) = (now(), of.older_ms.map(Duration::from_millis));
    lines.retain(|line| {
        let facts = &line.facts;
        client.is_none_or(|client| facts.client() == client)
            && of.route.as_ref().is_none_or(|route| *facts.counts.route.name == **route)
            && of.backend.as_ref().is_none_or(|backend| *facts.counts.id == **backend)
            && older.is_none_or(|older| now.saturating_duration_since(facts.opened) > older)
    });
    lines.sort_by_key(|line| line.session);
    lines.dedup_by_key(|line| line.session);
    Ok(lines)
}

/// Nothing is said of which.
pub(super) fn is_everything(of: &Selection) -> bool {
    *of == Selection::default()
}

pub(super) fn unknown(what: &str, name: &str) -> Fault {
    Fault::new(FaultKind::NotFound, format!("there is no {what} \"{name}\""))
}

/// A client by one of its addresses, or as its key is written.
pub(super) fn client(text: &str, prefixes: KeyPrefixes) -> Result<ClientKey, Fault> {
    let address = text.split_once('/').map_or(text, |(address, _)| address);
    let ip: IpAddr = address.parse().map_err(|_| {
        Fault::new(FaultKind::BadRequest, format!("\"{text}\" is not an IP address"))
    })?;
    let key = ClientKey::new(&ClientAddr::new(SocketAddr::new(ip, 0)), prefixes);
    if text.contains('/') && key.to_string() != text {
        let words = format!("\"{text}\" is not how clients are counted; this address is {key}");
        return Err(Fault::new(FaultKind::BadRequest, words));
    }
    Ok(key)
}
