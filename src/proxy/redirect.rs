//! The redirect of requests without TLS to the same URL with `https`.

use std::sync::Arc;

use hyper::header::{HeaderValue, LOCATION};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};

use super::route_match::requested_authority;
use crate::client::ClientInfo;
use crate::config::settings::{HttpsRedirect, ListenerSettings};
use crate::config::values::patterns::PathPrefix;
use crate::downstream::response::{self, Body};
use crate::http::ValidatedRequest;
use crate::http::forwarded::Forwarded;
use crate::http::path::RoutePath;
use crate::reject::RejectReason;

/// The redirect of a listener.
#[derive(Clone, Debug)]
pub struct ListenerRedirect {
    kind: HttpsRedirect,
    /// Paths that are served.
    except: Arc<[PathPrefix]>,
}

impl ListenerRedirect {
    /// The redirect of this listener, if it has one.
    pub fn of(listener: &ListenerSettings) -> Option<Self> {
        let except = listener.redirect_except.clone();
        listener.redirect.map(|kind| Self { kind, except })
    }

    /// The status of the redirect of a request; `None` if it is served: the client used TLS up to a trusted
    /// proxy in front, or every interpretation of the path is one of those that are served.
    pub fn status(
        &self,
        client: &ClientInfo,
        method: &Method,
        path: &RoutePath,
    ) -> Option<StatusCode> {
        let is_served = |path: &str| self.except.iter().any(|prefix| prefix.covers(path));
        if client.secure || is_served(path.normalized()) && path.check_readings(is_served).is_ok() {
            return None;
        }
        Some(match (self.kind, method) {
            (HttpsRedirect::Moved, &Method::GET | &Method::HEAD) => StatusCode::MOVED_PERMANENTLY,
            // RFC 9110 15.4.2: clients may turn another method into GET after a 301.
            (HttpsRedirect::Permanent | HttpsRedirect::Moved, _) => StatusCode::PERMANENT_REDIRECT,
        })
    }

    /// The response that redirects a request to the default port of `https`, and the reason for its record;
    /// `None` if the request is served.
    ///
    /// # Errors
    /// [`RejectReason::RequestInvalid`] if the request names no host.
    pub fn response(
        &self,
        client: &ClientInfo,
        head: &Parts,
        request: &ValidatedRequest,
        forwarded: &Forwarded,
    ) -> Result<Option<(Response<Body>, RejectReason)>, RejectReason> {
        let Some(status) = self.status(client, &head.method, request.path()) else {
            return Ok(None);
        };
        let host = requested_authority(request.authority(), forwarded).host;
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let url = HeaderValue::try_from(format!("https://{host}{target}"));
        let url = url.ok().filter(|_| !host.is_empty()).ok_or(NO_HOST)?;
        let reason = RejectReason::Redirected(status);
        let mut response = response::reject(&reason, 0.0);
        response.headers_mut().insert(LOCATION, url);
        Ok(Some((response, reason)))
    }
}

const NO_HOST: RejectReason =
    RejectReason::RequestInvalid("missing Host header, so the request cannot be redirected");
