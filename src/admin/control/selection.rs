//! Finds the tunnels that a command applies to.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::client::{ClientAddr, ClientKey, KeyPrefixes};
use crate::control_protocol::Selection;
use crate::control_protocol::response::{CommandError, CommandErrorKind};
use crate::proxy::snapshot::Snapshot;
use crate::proxy::state::ProxyState;
use crate::sessions::registry::SessionHandle;
use crate::sys::clock::now;

/// Finds one tunnel by its number.
pub(super) fn find(state: &ProxyState, session: u64) -> Result<Arc<SessionHandle>, CommandError> {
    state.registry.session(session).ok_or_else(|| {
        let message = format!("no tunnel {session} is open (`tidegate ctl sessions` lists them)");
        CommandError::new(CommandErrorKind::NotFound, message)
    })
}

/// Returns the selected tunnels, oldest first. An unknown number, route or backend is an error, an
/// empty result is not.
pub(super) fn select(
    state: &ProxyState,
    selection: &Selection,
) -> Result<Vec<Arc<SessionHandle>>, CommandError> {
    let snapshot = state.snapshot();
    let client = match &selection.client {
        Some(text) => Some(parse_client(text, snapshot.settings.client_key)?),
        None => None,
    };
    let mut selected = match selection.sessions.as_slice() {
        [] => state.registry.sessions(),
        numbers => numbers.iter().map(|number| find(state, *number)).collect::<Result<_, _>>()?,
    };
    if let Some(route) = &selection.route
        && !snapshot.route_list.iter().any(|known| *known.name == **route)
        && !selected.iter().any(|session| *session.info.counts.route.name == **route)
    {
        return Err(unknown_route(&snapshot, route));
    }
    if let Some(backend) = &selection.backend
        && !snapshot.route_list.iter().any(|route| route.pool.is_listed(backend))
        && !selected.iter().any(|session| is_at(session, backend))
    {
        return Err(unknown_backend(&snapshot, backend));
    }
    let (now, older) = (now(), selection.older_ms.map(Duration::from_millis));
    selected.retain(|session| {
        let info = &session.info;
        client.is_none_or(|client| info.client() == client)
            && selection.route.as_ref().is_none_or(|route| *info.counts.route.name == **route)
            && selection.backend.as_ref().is_none_or(|backend| is_at(session, backend))
            && older.is_none_or(|older| now.saturating_duration_since(info.opened) > older)
    });
    selected.sort_by_key(|session| session.number);
    selected.dedup_by_key(|session| session.number);
    Ok(selected)
}

pub(super) fn unknown_route(snapshot: &Snapshot, name: &str) -> CommandError {
    let known = snapshot.route_list.iter().map(|route| &*route.name);
    unknown("route", name, known)
}

pub(super) fn unknown_backend(snapshot: &Snapshot, id: &str) -> CommandError {
    let backends: Vec<_> = snapshot.backends().collect();
    unknown("backend", id, backends.iter().map(|backend| &*backend.id))
}

/// Whether a tunnel leads to the backend with this id, or to an address of the name with this id.
fn is_at(session: &SessionHandle, backend: &str) -> bool {
    let counts = &session.info.counts;
    **counts.place() == *backend || **counts.listed_id() == *backend
}

/// An error that lists the first known names.
pub(super) fn unknown<'a>(
    kind: &str,
    name: &str,
    known: impl Iterator<Item = &'a str>,
) -> CommandError {
    let mut known: Vec<&str> = known.collect();
    known.sort_unstable();
    known.dedup();
    let more = known.len().saturating_sub(LISTED_MAX);
    known.truncate(LISTED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let message = format!("unknown {kind} \"{name}\"; known: {}{more}", known.join(", "));
    CommandError::new(CommandErrorKind::NotFound, message)
}

/// Parses an address of a client, or a client key with its prefix length.
fn parse_client(text: &str, prefixes: KeyPrefixes) -> Result<ClientKey, CommandError> {
    let address = text.split_once('/').map_or(text, |(address, _)| address);
    let ip: IpAddr = address.parse().map_err(|_| {
        CommandError::new(CommandErrorKind::BadRequest, format!("\"{text}\" is not an IP address"))
    })?;
    let key = ClientKey::new(&ClientAddr::new(SocketAddr::new(ip, 0)), prefixes);
    if text.contains('/') && key.to_string() != text {
        let message = format!(
            "--client selects one client and no other network: \"{text}\" is not a client key; write an \
             address, or the key {key}"
        );
        return Err(CommandError::new(CommandErrorKind::BadRequest, message));
    }
    Ok(key)
}

const LISTED_MAX: usize = 10;
