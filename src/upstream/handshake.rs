//! Asks a backend to become the far end of a tunnel, and believes only a flawless yes
//! (RFC 6455 4.1).

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use data_encoding::BASE64;
use http_body_util::{Empty, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_LENGTH, HeaderName, SEC_WEBSOCKET_ACCEPT, TRANSFER_ENCODING, UPGRADE};
use hyper::http::{request, response};
use hyper::{HeaderMap, Request, Response, Version};
use sha1::{Digest, Sha1};
use tokio::time::{Instant, timeout_at};
use ws::DeflateMode;

use super::connect::BackendConnection;
use super::exchange::BackendExchange;
use super::forwarded_headers::ForwardedHeaders;
use super::head;
use super::negotiate::{offers, read_extensions, read_subprotocol, without_client_takeover};
use super::pool::Backend;
use crate::config::settings::{Compression, HeaderRules};
use crate::http::Handshake;
use crate::http::extension::Extension;
use crate::http::fields::{ConnectionOptions, list_members};
use crate::net::socket::Socket;
use crate::reject::RejectReason;

/// A backend that said yes.
#[derive(Debug)]
pub struct UpgradedBackend {
    /// Carries frames from here on.
    pub stream: Socket,
    /// Frames that came with the 101, at most 16 KiB.
    pub early: Bytes,
    /// Our 101 to the client.
    pub response: Response<()>,
    /// What was agreed on about compressed messages.
    pub deflate: DeflateMode,
    /// The one the backend chose.
    pub subprotocol: Option<String>,
    /// Who it is.
    pub backend: Arc<Backend>,
}

/// Why there is no tunnel.
#[derive(Debug)]
pub enum UpgradeFailure {
    /// Ours to refuse.
    Refused(RejectReason),
    /// The application's own refusal, to be passed on; the client's connection ends with it. Its
    /// name in records is [`RejectReason::BackendRejected`].
    Answer(Response<Full<Bytes>>),
}

impl From<RejectReason> for UpgradeFailure {
    fn from(refusal: RejectReason) -> Self {
        Self::Refused(refusal)
    }
}

/// Sends the client's handshake on, and checks the answer. `head` is the one that `handshake`
/// was read from. `limit` is for the whole exchange, to the last byte of the answer's head.
///
/// Nothing of the client's but the head goes out here. Interim responses (1xx) are not passed
/// on, since hyper's server cannot send them; a 103 to an upgrade has no use.
pub async fn upgrade(
    dialled: BackendConnection,
    head: &request::Parts,
    handshake: &Handshake,
    introduction: &ForwardedHeaders<'_>,
    compression: Compression,
    limit: Duration,
) -> Result<UpgradedBackend, UpgradeFailure> {
    let offered = offers(&handshake.extensions, compression);
    let request = head::upgrade_request(head, introduction, &offered)?;
    let BackendConnection { stream, backend } = dialled;
    let deadline = Instant::now() + limit;
    let heard = match timeout_at(deadline, ask(stream, request)).await {
        Ok(heard) => heard,
        Err(_elapsed) => Err(RejectReason::ResponseTimeout),
    };
    // What a client asks to upgrade may be a page, and a page is answered with 200: three of these
    // must not put the backend out of service for everybody else.
    let rules = &introduction.manner.response_headers;
    let alive = matches!(heard, Ok(BackendAnswer::No { .. }));
    match heard.and_then(|heard| judge(heard, handshake, &offered, compression, rules)) {
        Ok(CheckedAnswer::Yes {
            chosen: NegotiatedAnswer { extensions, subprotocol },
            response,
            stream,
            early,
        }) => {
            backend.answered();
            let deflate = deflate(&extensions, compression);
            Ok(UpgradedBackend { stream, early, response, deflate, subprotocol, backend })
        }
        Ok(CheckedAnswer::No { response, body, exchange }) => {
            backend.answered();
            let body = read_bounded(body, exchange, deadline).await;
            Err(UpgradeFailure::Answer(response.map(|()| Full::new(body))))
        }
        Err(refusal) => {
            // Only a refused connect speaks against the backend itself: a bad answer may be to
            // what this client asked for, and must not take the backend from all others.
            if alive {
                backend.answered();
            }
            Err(refusal.into())
        }
    }
}

/// What a backend said.
enum BackendAnswer {
    Yes { head: response::Parts, stream: Socket, early: Bytes },
    No { head: response::Parts, body: Incoming, exchange: BackendExchange<Empty<Bytes>> },
}

/// The same, found lawful.
enum CheckedAnswer {
    Yes { chosen: NegotiatedAnswer, response: Response<()>, stream: Socket, early: Bytes },
    No { response: Response<()>, body: Incoming, exchange: BackendExchange<Empty<Bytes>> },
}

struct NegotiatedAnswer {
    extensions: Vec<Extension>,
    subprotocol: Option<String>,
}

async fn ask(stream: Socket, request: Request<()>) -> Result<BackendAnswer, RejectReason> {
    let request = request.map(|()| Empty::new());
    let (mut exchange, mut answer) = BackendExchange::begin(stream, request).await?;
    let answer = poll_fn(|cx| exchange.poll_answer(cx, &mut answer)).await?;
    let (head, body) = answer.into_parts();
    match head.status.as_u16() {
        101 => {
            let (stream, early) = exchange.switch().await;
            Ok(BackendAnswer::Yes { head, stream, early })
        }
        _ => Ok(BackendAnswer::No { head, body, exchange }),
    }
}

fn judge(
    heard: BackendAnswer,
    handshake: &Handshake,
    offered: &[Extension],
    compression: Compression,
    rules: &HeaderRules,
) -> Result<CheckedAnswer, RejectReason> {
    match heard {
        BackendAnswer::Yes { head, stream, early } => {
            let mut chosen =
                check(&head, handshake, offered).map_err(RejectReason::BackendHandshakeInvalid)?;
            if compression == Compression::Inspect {
                chosen.extensions = without_client_takeover(chosen.extensions);
            }
            let response = head::switching(&head.headers, &chosen.extensions, rules)?;
            Ok(CheckedAnswer::Yes { chosen, response, stream, early })
        }
        BackendAnswer::No { head, body, exchange } => match head.status.as_u16() {
            300..=599 => {
                Ok(CheckedAnswer::No { response: head::declined(&head, rules)?, body, exchange })
            }
            // A 2xx opens a tunnel in HTTP/2, and nowhere else (Envoy CVE-2024-23326).
            _ => Err(RejectReason::BackendHandshakeInvalid(
                "an upgrade answered with neither 101 nor a refusal",
            )),
        },
    }
}

/// What RFC 6455 4.1 has a client check, and that the head claims no body, whose bytes would
/// become frames.
fn check(
    head: &response::Parts,
    handshake: &Handshake,
    offered: &[Extension],
) -> Result<NegotiatedAnswer, &'static str> {
    let headers = &head.headers;
    if head.version != Version::HTTP_11 {
        return Err("a 101 in HTTP/1.0");
    }
    if headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING) {
        return Err("a 101 with a body");
    }
    let protocols: Vec<&[u8]> = list_members(headers, &UPGRADE).collect();
    match protocols.as_slice() {
        [only] if only.eq_ignore_ascii_case(b"websocket") => {}
        _ => return Err("a 101 that switches to something else"),
    }
    if !ConnectionOptions::read(headers)?.has("upgrade") {
        return Err("a 101 without Connection: upgrade");
    }
    let expected = accept_key(&handshake.key);
    if only_value(headers, &SEC_WEBSOCKET_ACCEPT) != Some(expected.as_bytes()) {
        return Err("a 101 with a wrong Sec-WebSocket-Accept");
    }
    Ok(NegotiatedAnswer {
        extensions: read_extensions(headers, offered)?,
        subprotocol: read_subprotocol(headers, &handshake.subprotocols)?,
    })
}

/// The `Sec-WebSocket-Accept` value for a `Sec-WebSocket-Key` (RFC 6455 4.2.2).
fn accept_key(key: &str) -> String {
    let digest = Sha1::new().chain_update(key).chain_update(ACCEPT_GUID);
    BASE64.encode(&digest.finalize())
}

/// The GUID of RFC 6455 1.3.
const ACCEPT_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

fn deflate(extensions: &[Extension], compression: Compression) -> DeflateMode {
    match compression {
        _ if !extensions.iter().any(Extension::is_deflate) => DeflateMode::Off,
        Compression::Strip => DeflateMode::Off,
        Compression::Pass => DeflateMode::Pass,
        Compression::Inspect => DeflateMode::Inspect,
    }
}

fn only_value<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    lines.next().is_none().then(|| first.as_bytes())
}

/// As much of a refusal's body as came in time and fits; it is for a person to read.
async fn read_bounded(
    mut body: Incoming,
    mut exchange: BackendExchange<Empty<Bytes>>,
    deadline: Instant,
) -> Bytes {
    let mut kept = BytesMut::new();
    while kept.len() < REFUSAL_BYTES_MAX {
        let next = poll_fn(|cx| {
            exchange.poll_drive(cx);
            Pin::new(&mut body).poll_frame(cx)
        });
        let Ok(Some(Ok(frame))) = timeout_at(deadline, next).await else {
            break;
        };
        if let Ok(data) = frame.into_data() {
            kept.extend_from_slice(&data);
        }
    }
    kept.truncate(REFUSAL_BYTES_MAX);
    kept.freeze()
}

/// Most bytes of a refusal's body that are passed on.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests;
