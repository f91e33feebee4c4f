//! The route of a request, by host and path, and the origin that counts as the same origin.

use std::sync::Arc;

use super::snapshot::{Route, Snapshot};
use crate::client::ClientInfo;
use crate::config::values::origin::Origin;
use crate::http::authority::Authority;
use crate::http::path::RoutePath;
use crate::reject::RejectReason;

/// Finds the route of a request.
///
/// # Errors
/// [`RejectReason::Misdirected`] if another certificate serves the host than the one that this
/// connection was opened with (RFC 9110 15.5.20), [`RejectReason::NoRoute`] if no route matches, and a
/// rejection if backends could read the path in ways that lead to different routes.
pub fn find<'s>(
    snapshot: &'s Snapshot,
    client: &ClientInfo,
    authority: &Authority,
    path: &RoutePath,
) -> Result<&'s Arc<Route>, RejectReason> {
    let sni = client.tls.as_ref().and_then(|tls| tls.sni.as_deref());
    if let (Some(sni), Some(tls)) = (sni, &snapshot.tls)
        && !tls.certs().same_certificate(sni, &authority.host)
    {
        return Err(RejectReason::Misdirected);
    }
    let find = |path: &str| snapshot.routes.find(&authority.host, path).map(Arc::as_ptr);
    path.unanimous(find).ok_or(AMBIGUOUS)?;
    snapshot.routes.find(&authority.host, path.as_str()).ok_or(RejectReason::NoRoute)
}

/// The origin of a page of the requested host itself: what `same-origin` allows.
pub fn own_origin(client: &ClientInfo, authority: &Authority) -> Origin {
    let (scheme, port) = if client.secure { ("https", 443) } else { ("http", 80) };
    Origin {
        scheme: scheme.to_owned(),
        host: authority.host.clone(),
        port: Some(authority.port.unwrap_or(port)),
    }
}

/// Servers normalise paths in different ways; a path that could match two routes matches none.
const AMBIGUOUS: RejectReason =
    RejectReason::RequestInvalid("the path leads to different routes, depending on who reads it");
