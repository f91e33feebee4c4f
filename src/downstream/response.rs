//! Responses of the proxy itself: rejections and short texts.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER,
    STRICT_TRANSPORT_SECURITY, UPGRADE,
};
use hyper::{HeaderMap, Response, StatusCode};

use crate::reject::RejectReason;

/// The body of every response to a client.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Error of a forwarded body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Converts a body into a [`Body`].
pub fn boxed<B>(body: B) -> Body
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// A plain text response that must not be cached.
pub fn text(status: StatusCode, content: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(boxed(Full::new(content.into())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The response to a rejected request. `jitter` in `[0, 1)` spreads the retries of clients over time.
pub fn reject(reason: &RejectReason, jitter: f64) -> Response<Body> {
    let status = reason.status();
    let phrase = status.canonical_reason().unwrap_or("rejected");
    let mut response = text(status, format!("{} {phrase}\n", status.as_u16()));
    let headers = response.headers_mut();
    match status {
        // RFC 9110 15.5.22: a 426 names the protocol to upgrade to.
        StatusCode::UPGRADE_REQUIRED => {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            headers.insert(ALLOW, HeaderValue::from_static("GET"));
        }
        _ => {}
    }
    if *reason == RejectReason::Version {
        headers.insert(VERSIONS, HeaderValue::from_static("13"));
    }
    if reason.is_retryable() {
        let seconds = RETRY_BASE + (f64::from(RETRY_BASE) * jitter) as u32;
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    // The head may be followed by a body or frames that are not read (RFC 9112 9.3), and every rejected
    // request costs the client a new connection.
    headers.append(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Sets the policy of the proxy, which replaces that of the application: browsers keep the latest one, so
/// different ones of both would take turns (RFC 6797 8.1).
pub fn set_hsts(headers: &mut HeaderMap, hsts: Option<HeaderValue>) {
    if let Some(hsts) = hsts {
        headers.insert(STRICT_TRANSPORT_SECURITY, hsts);
    }
}

const VERSIONS: HeaderName = HeaderName::from_static("sec-websocket-version");
/// Seconds (RFC 9110 10.2.3). Clients retry after this time at the earliest, and after twice this time at
/// the latest.
const RETRY_BASE: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reject::OriginMismatch;

    // Requirements: H8, W5.
    #[test]
    fn a_426_names_protocol_and_version() {
        let response = reject(&RejectReason::Version, 0.0);
        assert_eq!(response.status(), 426);
        assert_eq!(response.headers()[UPGRADE], "websocket");
        assert_eq!(response.headers()[VERSIONS], "13");
    }

    // Requirements: H17.
    #[test]
    fn retry_after_is_jittered_seconds() {
        let seconds = |jitter| {
            let response = reject(&RejectReason::ClientRateLimit, jitter);
            response.headers()[RETRY_AFTER].to_str().unwrap().parse::<u32>().unwrap()
        };
        assert_eq!(seconds(0.0), RETRY_BASE);
        assert!((RETRY_BASE..2 * RETRY_BASE).contains(&seconds(0.999)));
        assert!(
            reject(&RejectReason::Origin(OriginMismatch::Missing), 0.0)
                .headers()
                .get(RETRY_AFTER)
                .is_none()
        );
    }
}
