//! Validation of one request head according to RFC 9110, RFC 9112 and RFC 6455 4.2.1.
//!
//! Performs no I/O: takes a parsed head and returns an owned value or a [`RejectReason`]. hyper
//! accepts more than a proxy should; the stricter rules are here. The returned values do not
//! reference hyper's read buffer. Routing, origin checks and limits follow in other modules.

pub(crate) mod authority;
pub(crate) mod cookies;
pub(crate) mod extension;
pub(crate) mod fields;
pub mod forwarded;
pub mod head_limits;
pub(crate) mod path;
pub(crate) mod proxy_fields;
pub(crate) mod query;
pub(crate) mod upgrade;

use hyper::header::{EXPECT, HOST, HeaderName, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::{Method, Version};

use crate::http::authority::Authority;
use crate::http::extension::Extension;
use crate::http::fields::{ConnectionOptions, list_members};
use crate::http::path::RoutePath;
use crate::reject::RejectReason;

/// A valid request head, by what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValidatedRequest {
    /// An opening handshake (RFC 6455 4.2.1).
    WebSocket(Handshake),
    /// Any other request; `Upgrade` to another protocol is ignored.
    Plain(PlainRequest),
}

/// A valid opening handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// Host and port that the client addresses.
    pub authority: Authority,
    /// The path for routing; the request keeps the original target.
    pub path: RoutePath,
    /// The `Origin` value as sent: printable ASCII.
    pub origin: Option<String>,
    /// `Sec-WebSocket-Key` as sent: 1 to 128 bytes of visible ASCII.
    pub key: String,
    /// `Sec-WebSocket-Protocol`, combined from all its field lines, in the client's order.
    pub subprotocols: Vec<String>,
    /// `Sec-WebSocket-Extensions`, combined from all its field lines, in the client's order; at most
    /// 16.
    pub extensions: Vec<Extension>,
}

/// A valid request that is not an opening handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainRequest {
    /// Host and port that the client addresses.
    pub authority: Authority,
    /// The path for routing; the request keeps the original target.
    pub path: RoutePath,
}

impl ValidatedRequest {
    /// Validates a request head.
    ///
    /// # Errors
    /// The first rule that the head violates; the response status follows from the reason.
    pub fn validate(head: &Parts) -> Result<Self, RejectReason> {
        // RFC 9110 9.3.6, 9.3.8: a gateway does not serve CONNECT or TRACE. `OPTIONS *` asks about
        // the server as a whole, which no single backend can answer.
        let asterisk = head.uri.authority().is_none() && head.uri.path() == "*";
        if matches!(head.method, Method::CONNECT | Method::TRACE)
            || (head.method == Method::OPTIONS && asterisk)
        {
            return Err(RejectReason::Method);
        }
        if head.method.as_str().len() > METHOD_BYTES_MAX {
            return Err(RejectReason::RequestInvalid("method longer than 32 bytes"));
        }
        let (authority, path) = read_target(head)?;
        check_framing(head)?;
        let options =
            ConnectionOptions::parse(&head.headers).map_err(RejectReason::RequestInvalid)?;
        if options.lists_protected_field() {
            return Err(RejectReason::RequestInvalid(
                "Connection lists a field that must reach the backend",
            ));
        }
        check_loop(head)?;
        if upgrade::is_requested(head, &options)? {
            return upgrade::read(head, authority, path).map(Self::WebSocket);
        }
        check_expectation(head)?;
        Ok(Self::Plain(PlainRequest { authority, path }))
    }

    /// Host and port that the client addresses.
    pub fn authority(&self) -> &Authority {
        match self {
            Self::WebSocket(handshake) => &handshake.authority,
            Self::Plain(plain) => &plain.authority,
        }
    }

    /// The path for routing.
    pub fn path(&self) -> &RoutePath {
        match self {
            Self::WebSocket(handshake) => &handshake.path,
            Self::Plain(plain) => &plain.path,
        }
    }
}

/// The authority and the path of the request target (RFC 9112 3.2 and 3.3).
fn read_target(head: &Parts) -> Result<(Authority, RoutePath), RejectReason> {
    let uri = &head.uri;
    let host = read_host(head)?;
    let authority = match (uri.scheme(), uri.authority()) {
        // RFC 9112 3.2.2: in absolute-form the target names the host, and Host is ignored.
        (Some(scheme), Some(authority)) => {
            // Clients that take this for a forward proxy send the URL of the WebSocket.
            if !["http", "https", "ws", "wss"]
                .contains(&scheme.as_str().to_ascii_lowercase().as_str())
            {
                return Err(RejectReason::RequestInvalid(
                    "scheme of the request target is none of http, https, ws and wss",
                ));
            }
            Authority::parse(authority.as_str().as_bytes()).map_err(RejectReason::RequestInvalid)?
        }
        // No name: only a route for every host serves it.
        (None, None) => host.unwrap_or(Authority { host: String::new(), port: None }),
        (Some(_), None) | (None, Some(_)) => {
            return Err(RejectReason::RequestInvalid(
                "request target is neither a path nor an absolute URI",
            ));
        }
    };
    let path_and_query = uri.path_and_query().map_or("", |target| target.as_str());
    if !path_and_query.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(RejectReason::RequestInvalid("request target is not printable ASCII"));
    }
    let path = uri.path();
    // Some backends treat `\` as `/`. In a query it is harmless, and browsers send it there.
    if !path.starts_with('/') || path.contains('\\') {
        return Err(RejectReason::RequestInvalid(
            "path of the request target does not start with / or contains a backslash",
        ));
    }
    Ok((authority, RoutePath::new(path)))
}

/// The single valid Host header (RFC 9112 3.2). HTTP/1.0 may omit it, as the checks of monitoring systems
/// and balancers do.
fn read_host(head: &Parts) -> Result<Option<Authority>, RejectReason> {
    let mut lines = head.headers.get_all(HOST).iter();
    match (lines.next(), lines.next()) {
        (None, _) if head.version < Version::HTTP_11 => Ok(None),
        (None, _) => Err(RejectReason::RequestInvalid("missing Host header")),
        (Some(host), None) => {
            Authority::parse(host.as_bytes()).map(Some).map_err(RejectReason::RequestInvalid)
        }
        (Some(_), Some(_)) => Err(RejectReason::RequestInvalid("more than one Host header")),
    }
}

/// RFC 9112 6.1: rejects a message whose length two recipients could determine differently.
/// Content-Length together with Transfer-Encoding, which hyper hides, is detected by
/// `downstream::framing`.
///
/// Unlike in other lists, a repeated or empty member is rejected: parties that treat it differently
/// could determine different lengths.
fn check_framing(head: &Parts) -> Result<(), RejectReason> {
    let mut lines = head.headers.get_all(TRANSFER_ENCODING).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(()),
        (Some(_), _) if head.version < Version::HTTP_11 => {
            Err(RejectReason::RequestInvalid("Transfer-Encoding in an HTTP/1.0 request"))
        }
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        (Some(_), _) => {
            Err(RejectReason::RequestInvalid("Transfer-Encoding is not a single `chunked`"))
        }
    }
}

/// RFC 9110 7.6 and RFC 8586: detects forwarding loops. One pass is allowed, as one instance may be in front
/// of another.
fn check_loop(head: &Parts) -> Result<(), RejectReason> {
    let is_ours = |member: &&[u8]| {
        let id = member.split(|byte| *byte == b';').next().unwrap_or_default();
        id.trim_ascii().eq_ignore_ascii_case(LOOP_ID.as_bytes())
    };
    let ours = list_members(&head.headers, &CDN_LOOP).filter(is_ours).count();
    if ours >= 2 { Err(RejectReason::Loop) } else { Ok(()) }
}

/// RFC 9110 10.1.1: `100-continue` is the only defined expectation.
fn check_expectation(head: &Parts) -> Result<(), RejectReason> {
    let is_supported = |expectation: &[u8]| expectation.eq_ignore_ascii_case(b"100-continue");
    if list_members(&head.headers, &EXPECT).all(is_supported) {
        Ok(())
    } else {
        Err(RejectReason::Expect)
    }
}

/// The field that detects loops (RFC 8586). `Via` would do as well (RFC 9110 7.6.3), but some servers behave
/// differently if a request has one: nginx does not compress the response.
pub const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");
/// The id of this proxy in it.
pub const LOOP_ID: &str = "tidegate";

/// Maximum method length. The longest registered method has 17 bytes.
const METHOD_BYTES_MAX: usize = 32;

/// Request heads for tests.
#[cfg(test)]
pub(crate) mod sample {
    use hyper::Request;
    use hyper::http::request::Parts;

    /// A head from its text: a request line and field lines, each ended by `\n`.
    pub(crate) fn head(text: &str) -> Parts {
        head_from_bytes(text.as_bytes())
    }

    /// Like [`head`], for values that are not UTF-8.
    pub(crate) fn head_from_bytes(text: &[u8]) -> Parts {
        let mut lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let first = std::str::from_utf8(lines.next().unwrap()).unwrap();
        let mut words = first.split(' ');
        let mut request = Request::builder().method(words.next().unwrap());
        request = request.uri(words.next().unwrap());
        request = request.version(match words.next().unwrap() {
            "HTTP/1.0" => hyper::Version::HTTP_10,
            "HTTP/1.1" => hyper::Version::HTTP_11,
            other => panic!("version {other}"),
        });
        for line in lines {
            let colon = line.iter().position(|byte| *byte == b':').unwrap();
            request = request.header(&line[..colon], line[colon + 1..].trim_ascii());
        }
        request.body(()).unwrap().into_parts().0
    }

    /// A valid opening handshake with additional header lines.
    pub(crate) fn opening(more: &str) -> Parts {
        head(&format!(
            "GET /chat?room=1 HTTP/1.1\nHost: example.com\nUpgrade: websocket\n\
             Connection: Upgrade\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n\
             Sec-WebSocket-Version: 13\n{more}"
        ))
    }
}

#[cfg(test)]
mod tests;
