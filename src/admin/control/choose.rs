//! Which tunnels an order is about.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::client::{ClientAddr, ClientKey, KeyPrefixes};
use crate::protocol::Selection;
use crate::protocol::answer::{CommandError, CommandErrorKind};
use crate::proxy::snapshot::Snapshot;
use crate::proxy::state::ProxyState;
use crate::sessions::registry::SessionHandle;
use crate::sys::clock::now;

/// One tunnel, by its number.
pub(super) fn one(gate: &ProxyState, session: u64) -> Result<Arc<SessionHandle>, CommandError> {
    gate.registry.line(session).ok_or_else(|| {
        let words = format!("no tunnel {session} is open (`tidegate ctl sessions` lists them)");
        CommandError::new(CommandErrorKind::NotFound, words)
    })
}

/// All tunnels that are meant, oldest first. A number, route or backend that is not there is a
/// fault; that nothing is left is none.
pub(super) fn choose(
    gate: &ProxyState,
    of: &Selection,
) -> Result<Vec<Arc<SessionHandle>>, CommandError> {
    let generation = gate.snapshot();
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
        return Err(unknown_route(&generation, route));
    }
    if let Some(backend) = &of.backend {
        let pools = generation.route_list.iter().flat_map(|route| route.pool.backends());
        if !pools.into_iter().any(|known| *known.id == **backend)
            && !lines.iter().any(|line| *line.facts.counts.id == **backend)
        {
            return Err(unknown_backend(&generation, backend));
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

pub(super) fn unknown_route(generation: &Snapshot, name: &str) -> CommandError {
    let there = generation.route_list.iter().map(|route| &*route.name);
    unknown("route", name, there)
}

pub(super) fn unknown_backend(generation: &Snapshot, id: &str) -> CommandError {
    let pools = generation.route_list.iter().flat_map(|route| route.pool.backends());
    unknown("backend", id, pools.map(|backend| &*backend.id))
}

/// Names those that there are, if they are few.
fn unknown<'a>(what: &str, name: &str, there: impl Iterator<Item = &'a str>) -> CommandError {
    let mut there: Vec<&str> = there.collect();
    there.sort_unstable();
    there.dedup();
    let more = there.len().saturating_sub(NAMED_MAX);
    there.truncate(NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let words = format!("there is no {what} \"{name}\"; there is {}{more}", there.join(", "));
    CommandError::new(CommandErrorKind::NotFound, words)
}

/// A client by one of its addresses, or as its key is written.
pub(super) fn client(text: &str, prefixes: KeyPrefixes) -> Result<ClientKey, CommandError> {
    let address = text.split_once('/').map_or(text, |(address, _)| address);
    let ip: IpAddr = address.parse().map_err(|_| {
        CommandError::new(CommandErrorKind::BadRequest, format!("\"{text}\" is not an IP address"))
    })?;
    let key = ClientKey::new(&ClientAddr::new(SocketAddr::new(ip, 0)), prefixes);
    if text.contains('/') && key.to_string() != text {
        let words = format!("\"{text}\" is not how clients are counted; this address is {key}");
        return Err(CommandError::new(CommandErrorKind::BadRequest, words));
    }
    Ok(key)
}

/// Routes or backends that are named at once.
const NAMED_MAX: usize = 10;
