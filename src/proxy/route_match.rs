//! The route of a request, by host and path, and the origin that counts as the same origin.

use std::sync::Arc;

use super::route::Route;
use super::snapshot::Snapshot;
use crate::client::ClientInfo;
use crate::config::values::origin::Origin;
use crate::http::authority::Authority;
use crate::http::path::RoutePath;
use crate::reject::RejectReason;

/// Finds the route of a request.
///
/// # Errors
/// [`RejectReason::Misdirected`] if the host has a different certificate than this TLS connection (RFC
/// 9110 15.5.20), [`RejectReason::NoRoute`] if no route matches, and [`RejectReason::RequestInvalid`] if the
/// path selects different routes depending on how it is normalized.
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
    path.unanimous(find).ok_or(AMBIGUOUS_PATH)?;
    snapshot.routes.find(&authority.host, path.as_str()).ok_or(RejectReason::NoRoute)
}

/// The origin of pages served by the requested host, which `same-origin` allows.
pub fn own_origin(client: &ClientInfo, authority: &Authority) -> Origin {
    let (scheme, port) = if client.secure { ("https", 443) } else { ("http", 80) };
    Origin {
        scheme: scheme.to_owned(),
        host: authority.host.clone(),
        port: Some(authority.port.unwrap_or(port)),
    }
}

/// Backends normalize paths in different ways. A path that could match two routes is rejected, so that a
/// request cannot bypass the rules of the route that the backend will apply.
const AMBIGUOUS_PATH: RejectReason =
    RejectReason::RequestInvalid("ambiguous path: normalizing it selects a different route");
