//! The route of a request, by host and path, and the origin that counts as the same origin.

use std::sync::Arc;

use super::route::Route;
use super::routing_table::RouteSelection;
use super::snapshot::Snapshot;
use crate::client::ClientInfo;
use crate::config::values::origin::Origin;
use crate::http::authority::Authority;
use crate::http::forwarded::Forwarded;
use crate::http::path::RoutePath;
use crate::reject::RejectReason;

/// Finds the route of a request.
///
/// # Errors
/// [`RejectReason::Misdirected`] if the host has a different certificate than this TLS connection (RFC
/// 9110 15.5.20), [`RejectReason::NoRoute`] if no route matches, and [`RejectReason::RequestInvalid`] with a
/// detail if the path selects different routes depending on how it is read.
pub fn find<'s>(
    snapshot: &'s Snapshot,
    client: &ClientInfo,
    authority: &Authority,
    path: &RoutePath,
) -> Result<&'s Arc<Route>, Unrouted> {
    let sni = client.tls.as_ref().and_then(|tls| tls.sni.as_deref());
    if let (Some(sni), Some(tls)) = (sni, &snapshot.tls)
        && !tls.certs().may_request(sni, &authority.host)
    {
        return Err(RejectReason::Misdirected.into());
    }
    let RouteSelection { route, other_reading } = snapshot.routes.select(&authority.host, path);
    match (route, other_reading) {
        (Some(route), None) => Ok(route),
        (Some(route), Some(_)) if route.allows_ambiguous_paths => Ok(route),
        (None, None) => Err(RejectReason::NoRoute.into()),
        (route, Some(other)) => {
            let of = route.map_or("no route".into(), |route| format!("route \"{}\"", route.name));
            let detail = format!("ambiguous path: {of} as it is, but {other}");
            Err(Unrouted { reason: AMBIGUOUS_PATH, detail: Some(detail) })
        }
    }
}

/// Why a request has no route.
#[derive(Debug)]
pub struct Unrouted {
    /// The reason to reject it.
    pub reason: RejectReason,
    /// A more detailed text than that of the reason; contains nothing that the client sent.
    pub detail: Option<String>,
}

impl From<RejectReason> for Unrouted {
    fn from(reason: RejectReason) -> Self {
        Self { reason, detail: None }
    }
}

/// The origin of pages served by the requested host, which `same-origin` allows.
pub fn own_origin(client: &ClientInfo, authority: &Authority, forwarded: &Forwarded) -> Origin {
    let (scheme, default) = if client.secure { ("https", 443) } else { ("http", 80) };
    let Authority { host, port } = requested_authority(authority, forwarded);
    Origin { scheme: scheme.to_owned(), host, port: Some(port.unwrap_or(default)) }
}

/// Host and port that the client requested. A trusted proxy in front may have changed `Host`, so those that
/// it reports take precedence.
pub fn requested_authority(authority: &Authority, forwarded: &Forwarded) -> Authority {
    let reported = forwarded.host.as_deref();
    let reported = reported.and_then(|host| Authority::parse(host.as_bytes()).ok());
    match reported {
        Some(Authority { host, port }) => Authority { host, port: port.or(forwarded.port) },
        None => Authority { host: authority.host.clone(), port: forwarded.port.or(authority.port) },
    }
}

/// Backends read paths in different ways. A path that could match two routes is rejected, so that a request
/// cannot bypass the rules of the route that the backend will apply.
const AMBIGUOUS_PATH: RejectReason =
    RejectReason::RequestInvalid("ambiguous path: some servers read it as one of another route");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::fixtures;

    #[test]
    fn reported_host_and_port_take_precedence() {
        let own = |host: &str, reported: Option<&str>, port| {
            let authority = Authority::parse(host.as_bytes()).unwrap();
            let host = reported.map(Into::into);
            let forwarded = Forwarded { host, port, ..Forwarded::default() };
            let client = ClientInfo { secure: true, ..fixtures::client() };
            own_origin(&client, &authority, &forwarded).to_string()
        };
        assert_eq!(own("a", None, None), "https://a");
        assert_eq!(own("a:8443", None, None), "https://a:8443");
        assert_eq!(own("inner:9000", Some("A.example"), None), "https://a.example");
        assert_eq!(own("inner:9000", Some("a:8443"), Some(443)), "https://a:8443");
        assert_eq!(own("inner", Some("a"), Some(8443)), "https://a:8443");
        assert_eq!(own("a:9000", None, Some(443)), "https://a");
    }
}
