//! Request and response heads for the next hop (RFC 9110 7.6). Hop-by-hop headers and headers that a
//! client must not send are removed, the proxy's own are added, and all others are forwarded
//! unchanged and in order. Field names keep the spelling of their sender: names are case-insensitive (RFC
//! 9110 5.1), but some devices and servers compare them exactly.
//!
//! hyper keeps the spelling in the extensions of a head, from which it is moved to the built head.

use hyper::HeaderMap;
use hyper::ext::ReasonPhrase;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue, ORIGIN,
    SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use hyper::http::{Extensions, request, response};
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode, Uri, Version};

use super::forwarded_headers::{ADDED_MAX, ForwardedHeaders, apply_rules};
use super::{negotiate, trailers};
use crate::config::settings::HeaderRules;
use crate::http::extension::Extension;
use crate::http::fields::{ConnectionOptions, content_length, is_hop_by_hop, lists_only};
use crate::http::proxy_fields::{is_proxy_field, is_rewritten_field};
use crate::http::{CDN_LOOP, Handshake, LOOP_ID};
use crate::reject::RejectReason;

/// Builds the upgrade request for a backend. `handshake` was parsed from `head`; its fields are sent as
/// one line each. The client's key is forwarded, so that the client can verify the backend's
/// `Sec-WebSocket-Accept`. `offered` are those of the client's extensions that the route allows.
///
/// # Errors
/// [`RejectReason::RequestInvalid`] if `Connection` is malformed or the host is missing.
pub fn upgrade_request(
    head: &mut request::Parts,
    handshake: &Handshake,
    forwarded: &ForwardedHeaders<'_>,
    offered: &[Extension],
) -> Result<Request<()>, RejectReason> {
    let mut has_origin = false;
    let mut headers = request_headers(head, forwarded, |name| match *name {
        CONTENT_LENGTH
        | SEC_WEBSOCKET_EXTENSIONS
        | SEC_WEBSOCKET_KEY
        | SEC_WEBSOCKET_PROTOCOL
        | SEC_WEBSOCKET_VERSION => true,
        // Validation has ensured that all lines are equal; the first is sent.
        ORIGIN => std::mem::replace(&mut has_origin, true),
        _ => false,
    })?;
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    if let Ok(key) = HeaderValue::from_str(&handshake.key) {
        headers.insert(SEC_WEBSOCKET_KEY, key);
    }
    let subprotocols = HeaderValue::from_str(&handshake.subprotocols.join(", ")).ok();
    if let Some(subprotocols) = subprotocols.filter(|list| !list.is_empty()) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, subprotocols);
    }
    if let Some(offered) = negotiate::header_value(offered) {
        headers.insert(SEC_WEBSOCKET_EXTENSIONS, offered);
    }
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let spelling = take_spelling(&mut head.extensions);
    Ok(build_request(head, spelling, headers))
}

/// Builds the head of a plain request for a backend. The body keeps its framing (`Content-Length` or
/// chunked), and a chunked one the announcement of its trailers. `spelling` is that of `head`
/// ([`take_spelling`]); `keeps_alive` is whether the connection may carry more requests.
///
/// # Errors
/// [`RejectReason::RequestInvalid`] if `Connection` or `Content-Length` is malformed or the host is missing.
pub fn plain_request(
    head: &request::Parts,
    spelling: Extensions,
    forwarded: &ForwardedHeaders<'_>,
    keeps_alive: bool,
) -> Result<Request<()>, RejectReason> {
    // RFC 9110 10.1.1: an expectation in HTTP/1.0 has no meaning.
    let is_old = head.version < Version::HTTP_11;
    let mut headers = request_headers(head, forwarded, |name| is_old && *name == EXPECT)?;
    // RFC 9110 8.6: as one number. A backend might read several lines, or one with zeros in front, in another way.
    if let Some(length) = content_length(&headers).map_err(RejectReason::RequestInvalid)? {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    if head.headers.contains_key(TRANSFER_ENCODING) {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        let rules = &forwarded.policy.request_headers;
        if let Some(announcement) = trailers::announcement(&head.headers, rules) {
            headers.insert(TRAILER, announcement);
        }
    }
    let accepts_trailers = trailers::are_accepted(&head.headers);
    if accepts_trailers {
        // RFC 9110 10.1.4: TE is for one hop, and Connection names it.
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    // RFC 9112 9.6: after the last request the backend need not wait for another one.
    let options = match (keeps_alive, accepts_trailers) {
        (true, false) => None,
        (true, true) => Some("TE"),
        (false, false) => Some("close"),
        (false, true) => Some("close, TE"),
    };
    if let Some(options) = options {
        headers.insert(CONNECTION, HeaderValue::from_static(options));
    }
    Ok(build_request(head, spelling, headers))
}

/// Builds the 101 for the client from the validated one of a backend: its `Sec-WebSocket-Accept` and
/// subprotocol, these extensions, and other headers of the application such as cookies. Framing headers
/// have no meaning in a 101 and are removed (RFC 9112 6.3, rule 1).
///
/// # Errors
/// [`RejectReason::BackendHandshakeInvalid`] if `Connection` is malformed.
pub fn switching_response(
    head: &mut response::Parts,
    extensions: &[Extension],
    rules: &HeaderRules,
) -> Result<Response<()>, RejectReason> {
    let headers = &head.headers;
    let mut built = response_headers(headers, rules)?;
    for name in [SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL] {
        built.remove(&name);
        if let Some(value) = headers.get(&name).filter(|value| !value.is_empty()) {
            built.insert(name, value.clone());
        }
    }
    built.remove(SEC_WEBSOCKET_EXTENSIONS);
    if let Some(extensions) = negotiate::header_value(extensions) {
        built.insert(SEC_WEBSOCKET_EXTENSIONS, extensions);
    }
    built.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    built.insert(UPGRADE, HeaderValue::from_static("websocket"));
    Ok(build_response(head, built))
}

/// Builds the response for the client from a backend's response that declines the upgrade: as for a plain
/// request, but it ends the client's connection.
///
/// # Errors
/// As for [`plain_response`].
pub fn declined_response(
    head: &mut response::Parts,
    rules: &HeaderRules,
) -> Result<Response<()>, RejectReason> {
    let mut response = plain_response(head, rules)?;
    // Bytes that the client sent after its handshake may be frames, and must not be read as another request.
    let close = match head.status {
        StatusCode::UPGRADE_REQUIRED => "close, Upgrade",
        _ => "close",
    };
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static(close));
    Ok(response)
}

/// Builds an interim response for the client. It has no body, and so no framing.
///
/// # Errors
/// [`RejectReason::BackendHandshakeInvalid`] if `Connection` is malformed.
pub fn interim_response(
    status: StatusCode,
    headers: &HeaderMap,
    rules: &HeaderRules,
) -> Result<Response<()>, RejectReason> {
    Ok(response_with(status, response_headers(headers, rules)?))
}

/// Builds the head of a plain response for the client. `Content-Length` is written as the single
/// value by which the body was delimited.
///
/// # Errors
/// [`RejectReason::BackendHandshakeInvalid`] if the framing is ambiguous (RFC 9112 6.3) or `Connection` is malformed.
pub fn plain_response(
    head: &mut response::Parts,
    rules: &HeaderRules,
) -> Result<Response<()>, RejectReason> {
    let options =
        ConnectionOptions::parse(&head.headers).map_err(RejectReason::BackendHandshakeInvalid)?;
    let length = body_length(&head.headers)?;
    let announcement = match length {
        None if head.headers.contains_key(TRANSFER_ENCODING) => {
            trailers::announcement(&head.headers, rules)
        }
        None | Some(_) => None,
    };
    // RFC 9110 8.6: a 204 has no Content-Length.
    let length = length.filter(|_| head.status != StatusCode::NO_CONTENT);
    let mut headers = if are_all_sent(&head.headers, &options, length) {
        std::mem::take(&mut head.headers)
    } else {
        let mut copied = forwarded_fields(&head.headers, &options);
        copied.extend(length.map(|length| (CONTENT_LENGTH, HeaderValue::from(length))));
        copied
    };
    apply_rules(rules, &mut headers);
    if let Some(announcement) = announcement {
        headers.insert(TRAILER, announcement);
    }
    if head.status == StatusCode::UPGRADE_REQUIRED {
        // RFC 9110 15.5.22: a 426 names the protocol to upgrade to. Only WebSocket is supported here,
        // regardless of what the backend named.
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    Ok(build_response(head, headers))
}

fn build_request(head: &request::Parts, spelling: Extensions, headers: HeaderMap) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = head.method.clone();
    // RFC 9112 3.2.1: origin-form for an origin server. RFC 9110 7.7: the target is not modified.
    *request.uri_mut() = match head.uri.path_and_query() {
        Some(target) => Uri::from(target.clone()),
        None => Uri::from_static("/"),
    };
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = headers;
    *request.extensions_mut() = spelling;
    request
}

fn build_response(head: &mut response::Parts, headers: HeaderMap) -> Response<()> {
    let mut response = response_with(head.status, headers);
    *response.extensions_mut() = take_spelling(&mut head.extensions);
    response
}

fn response_with(status: StatusCode, headers: HeaderMap) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Moves the spelling of the field names out of a head. hyper does not export its type, so everything else that
/// hyper adds to a head is removed.
pub fn take_spelling(extensions: &mut Extensions) -> Extensions {
    let mut spelling = std::mem::take(extensions);
    spelling.remove::<OnUpgrade>();
    spelling.remove::<ReasonPhrase>();
    spelling
}

/// The client's headers that are forwarded, without those for which `dropped` is true, and the headers
/// that the proxy adds.
fn request_headers(
    head: &request::Parts,
    forwarded: &ForwardedHeaders<'_>,
    mut dropped: impl FnMut(&HeaderName) -> bool,
) -> Result<HeaderMap, RejectReason> {
    // Headers listed in `Connection` are removed before the proxy's are added, so that a client cannot
    // remove those.
    let options = ConnectionOptions::parse(&head.headers).map_err(RejectReason::RequestInvalid)?;
    let mut headers = HeaderMap::with_capacity(head.headers.len() + EXTRA_FIELDS);
    let host = match (head.uri.authority(), head.headers.get(HOST)) {
        // RFC 9112 3.2.2: an absolute target replaces Host.
        (Some(target), _) => HeaderValue::from_str(target.as_str()).ok(),
        // HTTP/1.0 may omit Host, which HTTP/1.1 requires: the address that the client connected to is used.
        (None, None) if head.version < Version::HTTP_11 => {
            HeaderValue::from_str(&forwarded.local.to_string()).ok()
        }
        (None, host) => host.cloned(),
    };
    let host = host.ok_or(RejectReason::RequestInvalid("missing Host header"))?;
    headers.insert(HOST, host.clone());
    let is_reserved =
        if forwarded.forwarded.from_trusted { is_rewritten_field } else { is_proxy_field };
    for (name, value) in &head.headers {
        let is_removed = is_hop_by_hop(name)
            || is_reserved(name.as_str())
            || forwarded.policy.drops_underscore(name)
            || options.has(name.as_str());
        if !is_removed && !dropped(name) {
            headers.append(name, value.clone());
        }
    }
    headers.append(CDN_LOOP, HeaderValue::from_static(LOOP_ID));
    if let Some(name) = &forwarded.policy.via {
        // RFC 9110 7.6.3: the version of the received message.
        let received = match head.version {
            Version::HTTP_10 => "1.0",
            Version::HTTP_2 => "2.0",
            _ => "1.1",
        };
        if let Ok(value) = HeaderValue::from_str(&format!("{received} {name}")) {
            headers.append(VIA, value);
        }
    }
    forwarded.add_to(&host, &mut headers);
    // Framing and upgrade headers are added afterwards, so that rules cannot change them.
    apply_rules(&forwarded.policy.request_headers, &mut headers);
    Ok(headers)
}

/// The backend's headers that are forwarded, with the changes of the route applied. Framing and upgrade headers,
/// `Content-Length` among them, are added afterwards. Rules cannot concern them.
fn response_headers(headers: &HeaderMap, rules: &HeaderRules) -> Result<HeaderMap, RejectReason> {
    let options =
        ConnectionOptions::parse(headers).map_err(RejectReason::BackendHandshakeInvalid)?;
    let mut built = forwarded_fields(headers, &options);
    apply_rules(rules, &mut built);
    Ok(built)
}

/// A copy of the fields that are forwarded, without `Content-Length`.
fn forwarded_fields(headers: &HeaderMap, options: &ConnectionOptions) -> HeaderMap {
    let mut built = HeaderMap::with_capacity(headers.len() + RESPONSE_FIELDS);
    for (name, value) in headers {
        if *name != CONTENT_LENGTH && is_forwarded(name, options) {
            built.append(name, value.clone());
        }
    }
    built
}

/// Whether a response is sent with the fields that it has, as most are: then none has to be copied. `length` is that of
/// its body, if it is sent.
fn are_all_sent(headers: &HeaderMap, options: &ConnectionOptions, length: Option<u64>) -> bool {
    let mut has_length = false;
    headers.iter().all(|(name, value)| match *name {
        CONTENT_LENGTH => {
            let is_repeated = std::mem::replace(&mut has_length, true);
            let is_as_written = matches!(value.as_bytes(), [b'0'] | [b'1'..=b'9', ..])
                && value.as_bytes().iter().all(u8::is_ascii_digit);
            length.is_some() && !is_repeated && is_as_written
        }
        _ => is_forwarded(name, options),
    })
}

fn is_forwarded(name: &HeaderName, options: &ConnectionOptions) -> bool {
    !is_hop_by_hop(name) && !options.has(name.as_str())
}

/// The length of the body of a response, unless it is chunked or ends with the connection.
///
/// RFC 9112 6.3: `Transfer-Encoding` overrides `Content-Length`. In a response the length is dropped, as other
/// proxies do: the backend is the operator's own, and its connection is not used again, so that a
/// disagreement about the length cannot smuggle in a second response. `identity` is no coding (it was one in RFC 2616). Other codings are not asked for
/// (`TE` never names one) and not undone, so the client could not read the body.
fn body_length(headers: &HeaderMap) -> Result<Option<u64>, RejectReason> {
    let declared = || content_length(headers).map_err(RejectReason::BackendHandshakeInvalid);
    let Some(codings) = headers.get_all(TRANSFER_ENCODING).iter().next_back() else {
        return declared();
    };
    // hyper decodes chunks, once, only if the very last member is `chunked`; after `chunked,` it does not.
    let last = codings.as_bytes().rsplit(|byte| *byte == b',').next().unwrap_or_default();
    let is_chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
    if is_chunked && lists_only(headers, &TRANSFER_ENCODING, "chunked") {
        Ok(None)
    } else if lists_only(headers, &TRANSFER_ENCODING, "identity") {
        declared()
    } else {
        Err(RejectReason::BackendHandshakeInvalid("Transfer-Encoding other than chunked"))
    }
}

/// Room for the fields that tidegate adds to a response, and those that hyper adds: Content-Length, Trailer or
/// Upgrade, Connection, Strict-Transport-Security, Date.
const RESPONSE_FIELDS: usize = 5;
/// Room for the fields that tidegate adds: Host, CDN-Loop, Via, Connection, Upgrade or Transfer-Encoding, and
/// the forwarded headers.
const EXTRA_FIELDS: usize = 5 + ADDED_MAX;

#[cfg(test)]
mod tests;
