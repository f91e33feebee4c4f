//! Where a request belongs, by its host and path, and which origin is its own.

use std::sync::Arc;

use super::snapshot::{Route, Snapshot};
use crate::client::ClientInfo;
use crate::config::values::origin::Origin;
use crate::http::authority::Authority;
use crate::http::path::RoutePath;
use crate::reject::RejectReason;

/// The route of a request, if its host may be asked for on this connection at all.
pub fn find<'g>(
    generation: &'g Snapshot,
    visitor: &ClientInfo,
    authority: &Authority,
    path: &RoutePath,
) -> Result<&'g Arc<Route>, RejectReason> {
    let sni = visitor.tls.as_ref().and_then(|tls| tls.sni.as_deref());
    if let (Some(sni), Some(tls)) = (sni, &generation.tls)
        && !tls.certs().share(sni, &authority.host)
    {
        return Err(RejectReason::Misdirected);
    }
    let find = |path: &str| generation.routes.find(&authority.host, path).map(Arc::as_ptr);
    path.unanimous(find).ok_or(AMBIGUOUS)?;
    generation.routes.find(&authority.host, path.as_str()).ok_or(RejectReason::NoRoute)
}

/// The origin of a page that came from the very host that is asked.
pub fn own_origin(visitor: &ClientInfo, authority: &Authority) -> Origin {
    let (scheme, port) = if visitor.secure { ("https", 443) } else { ("http", 80) };
    Origin {
        scheme: scheme.to_owned(),
        host: authority.host.clone(),
        port: Some(authority.port.unwrap_or(port)),
    }
}

/// Backends read paths in different ways; one that leads to two routes leads to none.
const AMBIGUOUS: RejectReason =
    RejectReason::RequestBad("the path leads to different routes, depending on who reads it");
