//! The WebSocket handshake with a backend: forwards the client's and validates the response strictly
//! (RFC 6455 4.1).

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::header::{SEC_WEBSOCKET_ACCEPT, UPGRADE};
use hyper::http::{request, response};
use hyper::{Request, Response, Version};
use sha1::{Digest, Sha1};
use tokio::time::{Instant, timeout_at};
use ws::{DeflateMode, Strictness};

use super::connect::ConnectedBackend;
use super::forwarded_headers::ForwardedHeaders;
use super::head;
use super::http1::connection::HttpConnection;
use super::http1::exchange::BackendExchange;
use super::http1::idle_timer::{IdleLimits, IdleTimer};
use super::http1::interim::InterimRelay;
use super::http1::response_body::ResponseBody;
use super::negotiate::{
    NegotiationPolicy, SelectedSubprotocol, allowed_offers, check_extensions, check_subprotocol,
    deflate_mode,
};
use crate::config::settings::HeaderRules;
use crate::http::Handshake;
use crate::http::extension::Extension;
use crate::http::fields::{ConnectionOptions, lists_only, single_value};
use crate::http::head_limits::HeadLimits;
use crate::net::socket::Socket;
use crate::reject::RejectReason;

/// A backend that accepted the handshake.
#[derive(Debug)]
pub struct UpgradedBackend {
    /// The stream, which carries frames from now on.
    pub stream: Socket,
    /// Frame bytes received together with the 101, at most as many as a response head may have.
    pub after_head: Bytes,
    /// The 101 response for the client.
    pub response: Response<()>,
    /// How compressed messages are handled.
    pub deflate: DeflateMode,
    /// The subprotocol that the backend selected.
    pub subprotocol: Option<SelectedSubprotocol>,
    /// The backend.
    pub to: ConnectedBackend,
}

/// Why there is no tunnel.
#[derive(Debug)]
pub enum UpgradeFailure {
    /// The proxy rejects the request.
    Rejected(RejectReason),
    /// The backend declined with this response, which is forwarded and ends the client's connection.
    /// Records show it as [`RejectReason::BackendRejected`].
    Declined(Response<ResponseBody>),
}

impl From<RejectReason> for UpgradeFailure {
    fn from(reason: RejectReason) -> Self {
        Self::Rejected(reason)
    }
}

/// How a handshake is forwarded.
#[derive(Clone, Copy, Debug)]
pub struct UpgradeOptions {
    /// What the client and the backend may agree on.
    pub policy: NegotiationPolicy,
    /// Covers the exchange up to the end of the response head.
    pub limit: Duration,
    /// The longest time without progress in the body of a declining response.
    pub idle: Duration,
}

/// Forwards the head of the client's handshake and checks the response. `handshake` was parsed from
/// `head`. `send_interim` gets the interim responses (1xx) for the client.
///
/// # Errors
/// [`UpgradeFailure::Declined`] if the backend answered with a status of 200 or more, and
/// [`UpgradeFailure::Rejected`] if it did not answer in time or its response is invalid.
pub async fn upgrade(
    (stream, to): (Socket, ConnectedBackend),
    head: &mut request::Parts,
    handshake: &Handshake,
    forwarded: &ForwardedHeaders<'_>,
    options: UpgradeOptions,
    send_interim: &(dyn Fn(&Response<()>) + Sync),
) -> Result<UpgradedBackend, UpgradeFailure> {
    let UpgradeOptions { policy, limit, idle } = options;
    let offered = allowed_offers(&handshake.extensions, policy.compression);
    let request = head::upgrade_request(head, handshake, forwarded, &offered)?;
    let deadline = Instant::now() + limit;
    let rules = &forwarded.policy.response_headers;
    let interim = InterimRelay { rules, send: send_interim };
    let sending = send_request(stream, forwarded.policy.response_head, request, interim);
    let response = match timeout_at(deadline, to.backend.idle.give_up_while(sending)).await {
        Ok(response) => response,
        Err(_elapsed) => Err(RejectReason::ResponseTimeout),
    };
    let checked =
        response.and_then(|response| check_response(response, handshake, &offered, policy, rules));
    match checked {
        Ok(CheckedResponse::Switching {
            negotiated: Negotiated { extensions, subprotocol },
            response,
            stream,
            after_head,
        }) => {
            let deflate = deflate_mode(&extensions, policy.compression);
            Ok(UpgradedBackend { stream, after_head, response, deflate, subprotocol, to })
        }
        Ok(CheckedResponse::Declined { response, body, exchange }) => {
            let limits = IdleLimits { idle, min_body_rate: None };
            let activity = Arc::default();
            let timer = IdleTimer::new(limits, activity, &to.backend.health, Instant::now());
            let body = ResponseBody::new(body, exchange, timer, to, None);
            Err(UpgradeFailure::Declined(response.map(|()| body)))
        }
        Err(reason) => Err(reason.into()),
    }
}

/// The response of a backend.
pub(super) enum BackendResponse {
    Switching { head: response::Parts, stream: Socket, after_head: Bytes },
    Declined { head: response::Parts, body: Incoming, exchange: BackendExchange },
}

/// A valid response, with the response for the client that was built from it.
enum CheckedResponse {
    Switching { negotiated: Negotiated, response: Response<()>, stream: Socket, after_head: Bytes },
    Declined { response: Response<()>, body: Incoming, exchange: BackendExchange },
}

/// What the backend selected from the client's offer.
pub(super) struct Negotiated {
    extensions: Vec<Extension>,
    subprotocol: Option<SelectedSubprotocol>,
}

/// Sends a request without a body, and waits for the response head.
///
/// # Errors
/// [`RejectReason::BackendHandshakeInvalid`] if the response is malformed or missing.
pub(super) async fn send_request(
    stream: Socket,
    limits: HeadLimits,
    request: Request<()>,
    interim: InterimRelay<'_>,
) -> Result<BackendResponse, RejectReason> {
    let request = request.map(|()| Empty::new().map_err(|never| match never {}).boxed_unsync());
    let http = HttpConnection::new(stream, limits).await?;
    let (mut exchange, mut response) = BackendExchange::start(http, request);
    let response = match poll_fn(|cx| exchange.poll_response(cx, &mut response, interim)).await {
        Ok(response) => response,
        Err(reason) => return Err(exchange.into_reason(reason)),
    };
    let (head, body) = response.into_parts();
    match head.status.as_u16() {
        101 => {
            let upgraded = exchange.into_upgraded().await;
            let (stream, after_head) = upgraded.ok_or(RejectReason::BackendHandshakeInvalid(
                "the connection failed after the response",
            ))?;
            Ok(BackendResponse::Switching { head, stream, after_head })
        }
        _ => Ok(BackendResponse::Declined { head, body, exchange }),
    }
}

fn check_response(
    response: BackendResponse,
    handshake: &Handshake,
    offered: &[Extension],
    policy: NegotiationPolicy,
    rules: &HeaderRules,
) -> Result<CheckedResponse, RejectReason> {
    match response {
        BackendResponse::Switching { mut head, stream, after_head } => {
            let Handshake { key, subprotocols, .. } = handshake;
            let negotiated = check_switching(&head, key, subprotocols, offered, policy.strict)
                .map_err(RejectReason::BackendHandshakeInvalid)?;
            let response = head::switching_response(&mut head, &negotiated.extensions, rules)?;
            Ok(CheckedResponse::Switching { negotiated, response, stream, after_head })
        }
        // A 2xx is a response like any other, such as a login page: it accepts a tunnel in HTTP/2 only (Envoy
        // CVE-2024-23326). hyper returns no interim responses here.
        BackendResponse::Declined { mut head, body, exchange } => Ok(CheckedResponse::Declined {
            response: head::declined_response(&mut head, rules)?,
            body,
            exchange,
        }),
    }
}

/// Checks a 101 as RFC 6455 4.1 requires. A 101 has no body, whatever its `Content-Length` and
/// `Transfer-Encoding` say (RFC 9112 6.3, rule 1): they are ignored, and the tunnel starts after the
/// head.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check_switching(
    head: &response::Parts,
    key: &str,
    subprotocols: &[String],
    offered: &[Extension],
    strict: Strictness,
) -> Result<Negotiated, &'static str> {
    let headers = &head.headers;
    if head.version != Version::HTTP_11 {
        return Err("101 response in HTTP/1.0");
    }
    if !lists_only(headers, &UPGRADE, "websocket") {
        return Err("101 response without Upgrade: websocket");
    }
    if !ConnectionOptions::parse(headers)?.has("upgrade") {
        return Err("101 response without Connection: Upgrade");
    }
    let wrong = "101 response with a wrong Sec-WebSocket-Accept";
    let accept = single_value(headers, &SEC_WEBSOCKET_ACCEPT, wrong)?.ok_or(wrong)?;
    if accept.as_bytes() != accept_key(key).as_bytes() {
        return Err(wrong);
    }
    Ok(Negotiated {
        extensions: check_extensions(headers, offered)?,
        subprotocol: check_subprotocol(headers, subprotocols, strict)?,
    })
}

/// The `Sec-WebSocket-Accept` value for a `Sec-WebSocket-Key` (RFC 6455 4.2.2).
fn accept_key(key: &str) -> String {
    let digest = Sha1::new().chain_update(key).chain_update(ACCEPT_GUID);
    BASE64.encode(&digest.finalize())
}

/// The GUID of RFC 6455 1.3.
const ACCEPT_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests;
