//! What a response says about using its connection again.

use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::{CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING, WWW_AUTHENTICATE};
use hyper::http::response::Parts;

use crate::http::fields::list_members;

/// Whether and how long a connection may be used after a response. hyper observes `Connection: close`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReuseHint {
    /// It is not certain that the response ends where it seems to: it has two lengths (RFC 9112 6.3), or a length
    /// without having a body, which some backends then send. Or it starts an authentication of the
    /// connection, which would hold for the requests of other clients (RFC 4559 6). Or it refuses a request
    /// with a body, which backends then often leave unread, and would take for the next request.
    Never,
    /// The backend does not say how long it keeps the connection.
    Unlimited,
    /// The backend closes the connection after this time.
    Within(Duration),
}

/// What a response does not say about its request.
#[derive(Clone, Copy, Debug)]
pub struct RequestKind {
    /// The request has a body.
    pub has_body: bool,
    /// Its method is HEAD.
    pub is_head: bool,
}

impl ReuseHint {
    /// Reads the head of a response, `Keep-Alive: timeout=5` (RFC 2068 19.7.1) included.
    pub fn of(response: &Parts, request: RequestKind) -> Self {
        let headers = &response.headers;
        let lengths = [TRANSFER_ENCODING, CONTENT_LENGTH].map(|name| headers.contains_key(name));
        let status = response.status;
        let is_empty = request.is_head || matches!(status.as_u16(), 204 | 205 | 304);
        let is_ambiguous = lengths == [true; 2] || (is_empty && lengths != [false; 2]);
        let leaves_body =
            request.has_body && (status.is_client_error() || status.is_server_error());
        if is_ambiguous || leaves_body || authenticates_connection(headers, &WWW_AUTHENTICATE) {
            return Self::Never;
        }
        let seconds = |member: &[u8]| {
            let (name, value) = std::str::from_utf8(member).ok()?.split_once('=')?;
            let is_timeout = name.trim().eq_ignore_ascii_case("timeout");
            is_timeout.then(|| value.trim().trim_matches('"').parse().ok())?
        };
        match list_members(headers, &KEEP_ALIVE).find_map(seconds) {
            Some(seconds) => Self::Within(Duration::from_secs(seconds)),
            None => Self::Unlimited,
        }
    }

    /// How long the connection may be idle, at most `most`; `None` if it must not be used again. It ends before
    /// the backend closes it, so that no request meets that.
    pub fn apply(self, most: Duration) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::Unlimited => Some(most),
            Self::Within(time) => {
                time.checked_sub(MARGIN).map(|time| time.min(most)).filter(|time| !time.is_zero())
            }
        }
    }
}

/// Whether a field, `Authorization` or `WWW-Authenticate`, names a scheme that authenticates a connection and
/// not a request: NTLM, or Negotiate, which may be NTLM (RFC 4559 6).
pub fn authenticates_connection(headers: &HeaderMap, field: &HeaderName) -> bool {
    let starts_with = |value: &[u8], scheme: &str| {
        value.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes()))
    };
    list_members(headers, field)
        .any(|member| ["ntlm", "negotiate"].into_iter().any(|scheme| starts_with(member, scheme)))
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// How long before the backend a connection is closed.
const MARGIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use hyper::Response;

    use super::*;

    const MOST: Duration = Duration::from_secs(60);

    fn applied(fields: &[(&'static str, &'static str)]) -> Option<u64> {
        applied_to(200, fields, false, false)
    }

    fn applied_to(
        status: u16,
        fields: &[(&'static str, &'static str)],
        has_body: bool,
        is_head: bool,
    ) -> Option<u64> {
        let mut response = Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        let (parts, ()) = response.body(()).unwrap().into_parts();
        ReuseHint::of(&parts, RequestKind { has_body, is_head })
            .apply(MOST)
            .map(|time| time.as_secs())
    }

    #[test]
    fn connection_is_closed_before_the_backend_does() {
        assert_eq!(applied(&[]), Some(60));
        assert_eq!(applied(&[("keep-alive", "timeout=5")]), Some(4));
        assert_eq!(applied(&[("keep-alive", "max=100, Timeout = 5")]), Some(4));
        assert_eq!(applied(&[("keep-alive", "timeout=\"5\"")]), Some(4));
        assert_eq!(applied(&[("keep-alive", "timeout=900")]), Some(60));
        assert_eq!(applied(&[("keep-alive", "timeout=1")]), None);
        assert_eq!(applied(&[("keep-alive", "timeout=0")]), None);
        for unclear in ["timeout", "timeout=x", "max=5", "timeout=-1", ""] {
            assert_eq!(applied(&[("keep-alive", unclear)]), Some(60), "{unclear}");
        }
    }

    #[test]
    fn response_with_two_lengths_is_the_last() {
        let both = [("transfer-encoding", "chunked"), ("content-length", "5")];
        assert_eq!(applied(&both), None);
        assert_eq!(applied(&both[..1]), Some(60));
    }

    #[test]
    fn length_without_a_body_is_the_last() {
        let length = [("content-length", "5")];
        for status in [204, 205, 304] {
            assert_eq!(applied_to(status, &length, false, false), None);
            assert_eq!(applied_to(status, &[], false, false), Some(60));
        }
        assert_eq!(applied_to(200, &length, false, true), None);
        assert_eq!(applied_to(200, &length, false, false), Some(60));
    }

    #[test]
    fn refused_upload_is_the_last() {
        for (status, kept) in [(200, Some(60)), (302, Some(60)), (404, None), (500, None)] {
            assert_eq!(applied_to(status, &[], true, false), kept);
            assert_eq!(applied_to(status, &[], false, false), Some(60));
        }
    }

    #[test]
    fn connection_with_an_identity_is_not_shared() {
        for scheme in ["NTLM", "negotiate", "Basic realm=x, Negotiate", "NTLM TlRMTVNT"] {
            assert_eq!(applied(&[("www-authenticate", scheme)]), None, "{scheme}");
        }
        assert_eq!(applied(&[("www-authenticate", "Basic realm=ntlm")]), Some(60));
    }
}
