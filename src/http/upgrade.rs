//! Validation of the WebSocket opening handshake (RFC 6455 4.2.1).

use hyper::header::{
    CONTENT_LENGTH, EXPECT, ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, StatusCode, Version};

use super::authority::Authority;
use super::extension::Extension;
use super::fields::{ConnectionOptions, list_members, lists_only, single_value};
use super::path::RoutePath;
use crate::http::Handshake;
use crate::reject::RejectReason;

/// Marks the head of an extended CONNECT for `websocket` (RFC 8441 4), which is otherwise that of the GET of
/// an HTTP/1.1 handshake.
#[derive(Clone, Copy, Debug)]
pub struct ExtendedConnect;

/// The status for the client if the backend declined its handshake with this one. In HTTP/2 the handshake is an extended
/// CONNECT, for which a 2xx would open a tunnel (RFC 9110 9.3.6).
pub fn declined_status(version: Version, status: StatusCode) -> StatusCode {
    let opens_tunnel = version == Version::HTTP_2 && status.is_success();
    if opens_tunnel { StatusCode::BAD_GATEWAY } else { status }
}

/// Whether the request asks for an upgrade to WebSocket. Other protocols in `Upgrade` are ignored.
///
/// # Errors
/// An upgrade to WebSocket with a method other than GET, without `Connection: upgrade`, or to a version in
/// the style of `websocket/13`.
pub fn is_requested(head: &Parts, options: &ConnectionOptions) -> Result<bool, RejectReason> {
    // RFC 9113 8.6: HTTP/2 has no Upgrade.
    if head.version == Version::HTTP_2 {
        return Ok(head.extensions.get::<ExtendedConnect>().is_some());
    }
    let mut members = list_members(&head.headers, &UPGRADE).peekable();
    // RFC 9110 7.8: Upgrade in an HTTP/1.0 request is ignored.
    if members.peek().is_none() || head.version != Version::HTTP_11 {
        return Ok(false);
    }
    if !options.has("upgrade") {
        // A proxy in front removed the Connection field, or a client probes for request smuggling.
        let mut names = head.headers.keys();
        return if names.any(|name| name.as_str().starts_with("sec-websocket-")) {
            Err(RejectReason::HandshakeInvalid("Upgrade without Connection: upgrade"))
        } else {
            Ok(false)
        };
    }
    let is_websocket = |member: &[u8]| {
        let name = member.split(|byte| *byte == b'/').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"websocket")
    };
    if !members.any(is_websocket) {
        return Ok(false);
    }
    if head.method != Method::GET {
        return Err(RejectReason::Method);
    }
    // RFC 9110 7.8: the server selects from the list. The backend gets only what is selected here.
    if list_members(&head.headers, &UPGRADE).any(|one| one.eq_ignore_ascii_case(b"websocket")) {
        Ok(true)
    } else {
        Err(RejectReason::HandshakeInvalid("Upgrade names a version of websocket"))
    }
}

/// What is wrong with a plain request that was evidently meant as a handshake; `None` for any other one. As a rule
/// a proxy in front has changed it. For most requests this is one lookup.
pub fn handshake_defect(head: &Parts) -> Option<&'static str> {
    let is_http_1_0 = head.version < Version::HTTP_11;
    let has_key = head.headers.contains_key(SEC_WEBSOCKET_KEY);
    if head.method != Method::GET || !(has_key || is_http_1_0) {
        return None;
    }
    let mut members = list_members(&head.headers, &UPGRADE).peekable();
    match (is_http_1_0, members.peek().is_some()) {
        (false, false) => Some("handshake without Upgrade"),
        (true, false) if has_key => Some("handshake with HTTP/1.0 and without Upgrade"),
        (true, true) if members.any(|one| one.eq_ignore_ascii_case(b"websocket")) => {
            Some("handshake with HTTP/1.0")
        }
        _ => None,
    }
}

/// Reads the remaining fields of a handshake for which [`is_requested`] returned true.
///
/// # Errors
/// A field that RFC 6455 4.2.1 does not allow, a body or an expectation.
pub fn read(
    head: &Parts,
    authority: Authority,
    path: RoutePath,
) -> Result<Handshake, RejectReason> {
    let headers = &head.headers;
    // A server that reads the body and one that does not would split the stream differently.
    if headers.contains_key(TRANSFER_ENCODING) {
        return Err(RejectReason::HandshakeInvalid("upgrade request with a body"));
    }
    // Two equal lines are rejected too: parsers disagree about them, which allows request smuggling.
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (_, Some(_)) => {
            return Err(RejectReason::HandshakeInvalid("more than one Content-Length"));
        }
        (Some(length), None) if length.as_bytes() != b"0" => {
            return Err(RejectReason::HandshakeInvalid("upgrade request with a body"));
        }
        (Some(_) | None, None) => {}
    }
    if headers.contains_key(EXPECT) {
        return Err(RejectReason::Expect);
    }
    // RFC 6455 4.4: the 426 response to another version names the supported one.
    if !lists_only(headers, &SEC_WEBSOCKET_VERSION, "13") {
        return Err(RejectReason::Version);
    }
    Ok(Handshake {
        authority,
        path,
        origin: read_origin(headers)?,
        key: read_key(headers)?,
        subprotocols: read_subprotocols(headers)?,
        extensions: Extension::read_all(headers).map_err(RejectReason::HandshakeInvalid)?,
    })
}

/// RFC 6454 7.3: one `Origin`, in printable ASCII. The check and the backend must not use different ones.
fn read_origin(headers: &HeaderMap) -> Result<Option<String>, RejectReason> {
    let different = RejectReason::HandshakeInvalid("more than one Origin, with different values");
    let Some(origin) = single_value(headers, &ORIGIN, different)? else {
        return Ok(None);
    };
    let printable = |byte: &u8| matches!(byte, b' '..=b'~');
    match std::str::from_utf8(origin.as_bytes()) {
        Ok(text) if origin.as_bytes().iter().all(printable) => Ok(Some(text.to_owned())),
        Ok(_) | Err(_) => Err(RejectReason::HandshakeInvalid("Origin is not printable ASCII")),
    }
}

/// RFC 6455 4.2.1 asks for base64 of 16 octets. The backend judges that: EV chargers send 32 octets and
/// hand-written tests `abc`, and many servers accept both. The key is no secret and grants nothing: it
/// only proves to the client that the backend read this handshake, and `Sec-WebSocket-Accept` is computed
/// over its text. Visible ASCII of a bounded length can be forwarded unchanged.
///
/// RFC 6455 11.3.1 allows one line only. Equal lines are accepted as well; the backend gets one.
fn read_key(headers: &HeaderMap) -> Result<String, RejectReason> {
    let invalid = "Sec-WebSocket-Key is missing, longer than 128 bytes or not visible ASCII";
    let different = "more than one Sec-WebSocket-Key, with different values";
    let different = RejectReason::HandshakeInvalid(different);
    let key = single_value(headers, &SEC_WEBSOCKET_KEY, different)?;
    let key = key.and_then(|key| key.to_str().ok()).unwrap_or_default();
    if (1..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(key.to_owned())
    } else {
        Err(RejectReason::HandshakeInvalid(invalid))
    }
}

/// RFC 6455 11.3.4: several lines form one list. Empty members are ignored (RFC 9110 5.6.1.2). Members
/// that are not tokens pass (`ogmios.v1:compact`, base64 with `=`): the backend selects among them, and
/// between commas they can be read in one way only.
fn read_subprotocols(headers: &HeaderMap) -> Result<Vec<String>, RejectReason> {
    let too_many = RejectReason::HandshakeInvalid("Sec-WebSocket-Protocol has too many members");
    let mut members = list_members(headers, &SEC_WEBSOCKET_PROTOCOL);
    if members.by_ref().nth(SUBPROTOCOLS_MAX).is_some() {
        return Err(too_many);
    }
    list_members(headers, &SEC_WEBSOCKET_PROTOCOL)
        .map(|member| match std::str::from_utf8(member) {
            Ok(name) if name.bytes().all(|byte| matches!(byte, b' '..=b'~')) => Ok(name.to_owned()),
            Ok(_) | Err(_) => {
                Err(RejectReason::HandshakeInvalid("Sec-WebSocket-Protocol is not printable ASCII"))
            }
        })
        .collect()
}

/// Maximum number of subprotocols. A head of 32 KiB has room for 10,000, which take a third of a millisecond.
const SUBPROTOCOLS_MAX: usize = 100;

/// Maximum length of a key. A valid one has 24 bytes.
const KEY_BYTES_MAX: usize = 128;
