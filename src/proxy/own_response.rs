//! The responses that tidegate gives itself, before any route.

use hyper::{Response, StatusCode};

use super::snapshot::Snapshot;
use super::state::ProxyState;
use crate::client::ClientInfo;
use crate::downstream::response::{Body, text};

/// The response to a health check of a load balancer, or to a certificate authority that checks a name (RFC 8555
/// 8.3); `None` if the path belongs to neither.
pub(super) fn own_response(
    state: &ProxyState,
    snapshot: &Snapshot,
    health_path: Option<&str>,
    peer: &ClientInfo,
    path: &str,
) -> Option<Response<Body>> {
    if health_path.is_some_and(|health| health == path) {
        // It shows readiness and nothing else.
        return Some(match state.unready_cause().is_none() {
            true => text(StatusCode::OK, "ok\n"),
            false => text(StatusCode::SERVICE_UNAVAILABLE, "unready\n"),
        });
    }
    let acme = snapshot.acme.as_ref().filter(|_| !peer.secure)?;
    acme.answers.http(path).map(|answer| text(StatusCode::OK, answer))
}
