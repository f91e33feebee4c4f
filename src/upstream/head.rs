//! Heads, made anew for the next hop (RFC 9110 7.6): what is for this hop only is taken off,
//! what a client may not say is taken off, what we have to say is put on. The rest passes, in
//! its order, octet for octet.

use hyper::HeaderMap;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL, TRANSFER_ENCODING, UPGRADE, VIA,
};
use hyper::http::{request, response};
use hyper::{Request, Response, StatusCode, Uri, Version};

use super::forwarded_headers::{ForwardedHeaders, WRITTEN_MAX, apply, is_not_the_clients};
use super::negotiate;
use crate::config::settings::HeaderRules;
use crate::http::VIA_NAME;
use crate::http::extension::Extension;
use crate::http::fields::ConnectionOptions;
use crate::reject::RejectReason;

/// The upgrade request to a backend, from a head that was read as a
/// [`Handshake`](crate::http::Handshake). The client's key is passed on, so that the
/// backend's proof is the client's; `offered` is what may still be offered of its extensions.
pub fn upgrade_request(
    head: &request::Parts,
    introduction: &ForwardedHeaders<'_>,
    offered: &[Extension],
) -> Result<Request<()>, RejectReason> {
    let mut headers = request_headers(head, introduction, |name| {
        matches!(*name, SEC_WEBSOCKET_EXTENSIONS | CONTENT_LENGTH)
    })?;
    if let Some(offered) = negotiate::line(offered) {
        headers.insert(SEC_WEBSOCKET_EXTENSIONS, offered);
    }
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    Ok(request(head, headers))
}

/// The head of a plain request to a backend. The body keeps its framing: its length, or chunks.
pub fn plain_request(
    head: &request::Parts,
    introduction: &ForwardedHeaders<'_>,
) -> Result<Request<()>, RejectReason> {
    let mut headers = request_headers(head, introduction, |_| false)?;
    if head.headers.contains_key(TRANSFER_ENCODING) {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    // RFC 9112 9.6: nothing is pooled, so the backend need not wait for another request.
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(request(head, headers))
}

/// Our 101, from a backend's that was found lawful: accept and subprotocol as the backend chose
/// them, these extensions, and what else the application says (cookies, for one).
pub fn switching(
    headers: &HeaderMap,
    extensions: &[Extension],
    rules: &HeaderRules,
) -> Result<Response<()>, RejectReason> {
    let mut ours = response_headers(headers, rules)?;
    for name in [SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL] {
        ours.remove(&name);
        for value in headers.get_all(&name) {
            ours.append(&name, value.clone());
        }
    }
    ours.remove(SEC_WEBSOCKET_EXTENSIONS);
    if let Some(extensions) = negotiate::line(extensions) {
        ours.insert(SEC_WEBSOCKET_EXTENSIONS, extensions);
    }
    ours.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    ours.insert(UPGRADE, HeaderValue::from_static("websocket"));
    Ok(response(StatusCode::SWITCHING_PROTOCOLS, ours))
}

/// The answer of a backend that declined to upgrade; the client's connection ends with it.
pub fn declined(head: &response::Parts, rules: &HeaderRules) -> Result<Response<()>, RejectReason> {
    let mut headers = response_headers(&head.headers, rules)?;
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if head.status == StatusCode::UPGRADE_REQUIRED {
        // RFC 9110 15.5.22: a 426 says to which protocol. Ours, whatever the backend named.
        headers.insert(CONNECTION, HeaderValue::from_static("close, Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    Ok(response(head.status, headers))
}

/// The head of a plain answer. Its length is the one that framed it; an answer framed twice is
/// refused (RFC 9112 6.3).
pub fn plain_response(
    head: &response::Parts,
    rules: &HeaderRules,
) -> Result<Response<()>, RejectReason> {
    let mut headers = response_headers(&head.headers, rules)?;
    headers.remove(CONTENT_LENGTH);
    let length = content_length(&head.headers)?;
    if length.is_some() && head.headers.contains_key(TRANSFER_ENCODING) {
        return Err(RejectReason::BackendHandshakeInvalid(
            "both Content-Length and Transfer-Encoding",
        ));
    }
    // RFC 9110 8.6: a 204 has no length.
    if let (Some(length), true) = (length, head.status != StatusCode::NO_CONTENT) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    if head.status == StatusCode::UPGRADE_REQUIRED {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    Ok(response(head.status, headers))
}

fn request(head: &request::Parts, headers: HeaderMap) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = head.method.clone();
    // RFC 9112 3.2.1: origin-form towards an origin server; RFC 9110 7.7: not one octet changed.
    *request.uri_mut() = match head.uri.path_and_query() {
        Some(target) => Uri::from(target.clone()),
        None => Uri::from_static("/"),
    };
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = headers;
    request
}

fn response(status: StatusCode, headers: HeaderMap) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// What passes of a client's fields, without those that `dropped` names, and what we add.
fn request_headers(
    head: &request::Parts,
    introduction: &ForwardedHeaders<'_>,
    dropped: impl Fn(&HeaderName) -> bool,
) -> Result<HeaderMap, RejectReason> {
    // What a client nominates is taken off before ours is put on: it may not reach that.
    let options = ConnectionOptions::read(&head.headers).map_err(RejectReason::RequestInvalid)?;
    let mut headers = HeaderMap::with_capacity(head.headers.len() + ADDED);
    let host = match (head.uri.authority(), head.headers.get(HOST)) {
        // RFC 9112 3.2.2: the Host beside an absolute target is replaced.
        (Some(target), _) => HeaderValue::from_str(target.as_str()).ok(),
        (None, host) => host.cloned(),
    };
    let host = host.ok_or(RejectReason::RequestInvalid("no Host"))?;
    headers.insert(HOST, host.clone());
    for (name, value) in &head.headers {
        let stays = is_hop_by_hop(name) || is_not_the_clients(name) || options.has(name.as_str());
        if !stays && !dropped(name) {
            headers.append(name, value.clone());
        }
    }
    // RFC 9110 7.6.3: the version is the one we received.
    let received = if head.version == Version::HTTP_10 { "1.0" } else { "1.1" };
    if let Ok(value) = HeaderValue::from_str(&format!("{received} {VIA_NAME}")) {
        headers.append(VIA, value);
    }
    introduction.write(&host, &mut headers);
    // What frames the message, or opens the tunnel, is put on after this.
    apply(&introduction.manner.request_headers, &mut headers);
    Ok(headers)
}

/// What passes of a backend's fields, changed as the route has it. What frames the answer, or opens
/// the tunnel, is put on after this.
fn response_headers(headers: &HeaderMap, rules: &HeaderRules) -> Result<HeaderMap, RejectReason> {
    let options =
        ConnectionOptions::read(headers).map_err(RejectReason::BackendHandshakeInvalid)?;
    let passes = |name: &HeaderName| !is_hop_by_hop(name) && !options.has(name.as_str());
    let passing = headers.iter().filter(|(name, _)| passes(name));
    let mut passed = passing.map(|(name, value)| (name.clone(), value.clone())).collect();
    apply(rules, &mut passed);
    Ok(passed)
}

/// The one length that all members of all lines agree on (RFC 9112 6.3).
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, RejectReason> {
    let mut agreed = None;
    for line in headers.get_all(CONTENT_LENGTH) {
        for member in line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let digits = !member.is_empty() && member.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(member).ok().filter(|_| digits);
            let length = length.and_then(|text| text.parse::<u64>().ok());
            match (agreed, length) {
                (None, Some(length)) => agreed = Some(length),
                (Some(before), Some(length)) if before == length => {}
                (_, _) => {
                    return Err(RejectReason::BackendHandshakeInvalid(
                        "Content-Length is malformed",
                    ));
                }
            }
        }
    }
    Ok(agreed)
}

/// RFC 9110 7.6.1, and what only proxies say to each other.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Host, Via, Connection, Upgrade or Transfer-Encoding, and what is said of the client.
const ADDED: usize = 4 + WRITTEN_MAX;

#[cfg(test)]
mod tests;
