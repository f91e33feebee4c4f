//! What they ask for: one request head, judged by RFC 9110, 9112 and 6455 4.2.1.
//!
//! Pure: a head goes in, an owned value or a [`RejectReason`](crate::reject::Refusal) comes out.
//! hyper is a parser, not a policy: what it lets through is decided here. Nothing kept here points
//! into hyper's read buffer. Routes, origins and caps are judged elsewhere.

pub(crate) mod authority;
pub(crate) mod extension;
pub(crate) mod fields;
pub mod forwarded;
pub(crate) mod path;
pub(crate) mod upgrade;

use hyper::header::{EXPECT, HOST, TRANSFER_ENCODING, VIA};
use hyper::http::request::Parts;
use hyper::http::uri::Scheme;
use hyper::{Method, Version};

use crate::http::authority::Authority;
use crate::http::extension::Extension;
use crate::http::fields::{ConnectionOptions, list_members};
use crate::http::path::RoutePath;
use crate::reject::RejectReason;

/// What a request head asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// To open a WebSocket (RFC 6455 4.2.1), lawfully.
    WebSocket(Handshake),
    /// Anything else; an upgrade to another protocol is not an upgrade here.
    Plain(PlainRequest),
}

/// A lawful opening handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// Whom the client wants to speak to.
    pub authority: Authority,
    /// Where to, for routing; the target itself stays in the request.
    pub path: RoutePath,
    /// The `Origin` line as sent: printable ASCII.
    pub origin: Option<String>,
    /// `Sec-WebSocket-Key`: canonical base64 of 16 octets, 24 characters.
    pub key: String,
    /// `Sec-WebSocket-Protocol` over all its lines, in the client's order.
    pub subprotocols: Vec<String>,
    /// `Sec-WebSocket-Extensions` over all its lines, in the client's order; at most 16.
    pub extensions: Vec<Extension>,
}

/// A lawful request that opens no WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainRequest {
    /// Whom the client wants to speak to.
    pub authority: Authority,
    /// Where to, for routing; the target itself stays in the request.
    pub path: RoutePath,
}

impl RequestKind {
    /// Judges a head. Every error names the rule; the status follows from the [`RejectReason`].
    pub fn read(head: &Parts) -> Result<Self, RejectReason> {
        // RFC 9110 9.3.6, 9.3.8: a gateway neither connects nor traces. `OPTIONS *` asks about
        // the server as a whole, and there is none behind us.
        let asterisk = head.uri.authority().is_none() && head.uri.path() == "*";
        if matches!(head.method, Method::CONNECT | Method::TRACE)
            || (head.method == Method::OPTIONS && asterisk)
        {
            return Err(RejectReason::Method);
        }
        if head.method.as_str().len() > METHOD_BYTES_MAX {
            return Err(RejectReason::RequestBad("the method is longer than any there is"));
        }
        let (authority, path) = read_target(head)?;
        check_framing(head)?;
        let options = ConnectionOptions::read(&head.headers).map_err(RejectReason::RequestBad)?;
        if options.nominates_protected() {
            return Err(RejectReason::RequestBad(
                "Connection nominates a field that is not hop-by-hop",
            ));
        }
        check_loop(head)?;
        if upgrade::is_asked(head, &options)? {
            return upgrade::read(head, authority, path).map(Self::WebSocket);
        }
        check_expectation(head)?;
        Ok(Self::Plain(PlainRequest { authority, path }))
    }

    /// Whom the client wants to speak to.
    pub fn authority(&self) -> &Authority {
        match self {
            Self::WebSocket(handshake) => &handshake.authority,
            Self::Plain(plain) => &plain.authority,
        }
    }

    /// Where to, for routing.
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
    let named = uri.authority().map_or(0, |authority| authority.as_str().len());
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    if named + target.len() > TARGET_BYTES_MAX {
        return Err(RejectReason::UriTooLong);
    }
    let host = read_host(head)?;
    let authority = match (uri.scheme(), uri.authority()) {
        // RFC 9112 3.2.2: in absolute-form the target names the host, and Host is ignored.
        (Some(scheme), Some(authority)) => {
            if *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS {
                return Err(RejectReason::RequestBad(
                    "the request target is neither http nor https",
                ));
            }
            Authority::parse(authority.as_str().as_bytes()).map_err(RejectReason::RequestBad)?
        }
        (None, None) => host.ok_or(RejectReason::RequestBad("no Host"))?,
        (Some(_), None) | (None, Some(_)) => {
            return Err(RejectReason::RequestBad("the request target is no path"));
        }
    };
    if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(RejectReason::RequestBad("the request target is not printable ASCII"));
    }
    let path = uri.path();
    // Some backends read `\` as `/`. In a query it divides nothing, and browsers send it there.
    if !path.starts_with('/') || path.contains('\\') {
        return Err(RejectReason::RequestBad("the request target is no path"));
    }
    Ok((authority, RoutePath::new(path)))
}

/// The one valid Host line (RFC 9112 3.2). Only HTTP/1.0 may leave it out, and only in
/// absolute-form does it help: otherwise there is nothing to route by.
fn read_host(head: &Parts) -> Result<Option<Authority>, RejectReason> {
    let mut lines = head.headers.get_all(HOST).iter();
    match (lines.next(), lines.next()) {
        (None, _) if head.version < Version::HTTP_11 => Ok(None),
        (None, _) => Err(RejectReason::RequestBad("no Host")),
        (Some(host), None) => {
            Authority::parse(host.as_bytes()).map(Some).map_err(RejectReason::RequestBad)
        }
        (Some(_), Some(_)) => Err(RejectReason::RequestBad("more than one Host")),
    }
}

/// RFC 9112 6.1: a message whose length two readers could see differently is refused. What hyper
/// hides of it (Content-Length beside Transfer-Encoding) is found by `admit`'s head watch.
fn check_framing(head: &Parts) -> Result<(), RejectReason> {
    let mut lines = head.headers.get_all(TRANSFER_ENCODING).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(()),
        (Some(coding), None)
            if coding.as_bytes().eq_ignore_ascii_case(b"chunked")
                && head.version >= Version::HTTP_11 =>
        {
            Ok(())
        }
        (Some(_), _) => Err(RejectReason::RequestBad("Transfer-Encoding is not one `chunked`")),
    }
}

/// RFC 9110 7.6: no gateway forwards to itself for ever. Once is lawful: one instance may stand
/// before another.
fn check_loop(head: &Parts) -> Result<(), RejectReason> {
    let ours = list_members(&head.headers, &VIA)
        .filter(|member| {
            let received_by = member.split(|byte| matches!(byte, b' ' | b'\t')).nth(1);
            received_by.is_some_and(|name| name.eq_ignore_ascii_case(VIA_NAME.as_bytes()))
        })
        .count();
    if ours >= 2 { Err(RejectReason::Loop) } else { Ok(()) }
}

/// RFC 9110 10.1.1: `100-continue` is the only expectation there is.
fn check_expectation(head: &Parts) -> Result<(), RejectReason> {
    let met =
        |value: &hyper::header::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if head.headers.get_all(EXPECT).iter().all(met) { Ok(()) } else { Err(RejectReason::Expect) }
}

/// The pseudonym under which we enter `Via` (RFC 9110 7.6.3).
pub const VIA_NAME: &str = "tidegate";

/// The longest registered method has 17.
const METHOD_BYTES_MAX: usize = 32;

/// Longest authority, path and query together that are judged at all.
const TARGET_BYTES_MAX: usize = 8 * 1024;

/// Heads for tests, here and in the rooms that read a [`Handshake`].
#[cfg(test)]
pub(crate) mod sample {
    use hyper::Request;
    use hyper::http::request::Parts;

    /// A head from its text: a request line and field lines, each ended by `\n`.
    pub(crate) fn head(text: &str) -> Parts {
        head_from_bytes(text.as_bytes())
    }

    /// As [`head`], for values that are not UTF-8.
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

    /// A lawful opening handshake, with these lines added.
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
