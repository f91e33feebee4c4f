//! What the proxies in front say of a request: whom it is from, and how it came to them.
//!
//! Addresses are walked from the right, where the proxy next to us wrote, to the first that is
//! nobody we trust: that is the client, and what stands left of it is whatever the client made up.
//! To be asked only about requests that a trusted proxy passed on.

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::{FORWARDED, HeaderName, HeaderValue};

use super::authority::Authority;
use super::fields::is_token;
use crate::client::ClientAddr;

/// What trusted proxies say of one request; nothing, by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// From the client to the proxy that the peer had it from.
    pub chain: Vec<ClientAddr>,
    /// How far those can be believed.
    pub walk: ForwardedChain,
    /// Whether the client came by TLS.
    pub secure: Option<bool>,
    /// The host and port that the client asked for, as sent.
    pub host: Option<Box<str>>,
    /// The port that the client came to.
    pub port: Option<u16>,
    /// What the request is known by elsewhere: 1 to 128 visible ASCII characters.
    pub request_id: Option<Box<str>>,
}

/// How a walk along the addresses ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedChain {
    /// There was nothing to walk along.
    #[default]
    Absent,
    /// At a client.
    Client,
    /// At the left end, or after 16 addresses, and all of them are trusted proxies.
    AllTrusted,
    /// At something that is no address.
    Bad,
}

impl Forwarded {
    /// By `X-Forwarded-For` and its kin.
    pub fn by_x_forwarded(headers: &HeaderMap, is_trusted: impl Fn(&ClientAddr) -> bool) -> Self {
        let (hops, walk) = walk(headers, &X_FORWARDED_FOR, hop, is_trusted);
        let host = only(headers, &X_FORWARDED_HOST).and_then(authority);
        Self {
            chain: hops.into_iter().rev().filter_map(|hop| hop.addr).collect(),
            walk,
            secure: only(headers, &X_FORWARDED_PROTO).and_then(is_secure),
            host,
            port: only(headers, &X_FORWARDED_PORT).and_then(port).filter(|port| *port != 0),
            request_id: request_id(headers),
        }
    }

    /// By `Forwarded` (RFC 7239). Scheme and host are those that the proxy next to the client
    /// wrote.
    pub fn by_forwarded(headers: &HeaderMap, is_trusted: impl Fn(&ClientAddr) -> bool) -> Self {
        let (mut hops, walk) = walk(headers, &FORWARDED, element, is_trusted);
        let (secure, host) =
            hops.last_mut().map(|hop| (hop.secure, hop.host.take())).unwrap_or_default();
        let chain = hops.into_iter().rev().filter_map(|hop| hop.addr).collect();
        Self { chain, walk, secure, host, port: None, request_id: request_id(headers) }
    }
}

/// One step of a walk.
#[derive(Debug, Default)]
struct ForwardedHop {
    addr: Option<ClientAddr>,
    secure: Option<bool>,
    host: Option<Box<str>>,
}

/// The hops from the right to where the walk ends; only the last may lack an address.
///
/// Lines are cut at every comma, quoted or not: an address has none, and a quoted text that was
/// cut is no element, whichever way one begins. So what a client wrote further left can never
/// swallow what a proxy wrote behind it.
fn walk(
    headers: &HeaderMap,
    name: &HeaderName,
    read: impl Fn(&str) -> Option<ForwardedHop>,
    is_trusted: impl Fn(&ClientAddr) -> bool,
) -> (Vec<ForwardedHop>, ForwardedChain) {
    let lines = headers.get_all(name).iter().rev();
    let elements = lines
        .flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        // RFC 9110 5.6.1.2: empty elements do not count.
        .filter(|element| !element.is_empty());
    let mut hops = Vec::new();
    for element in elements.take(ELEMENTS_MAX) {
        let Some(hop) = std::str::from_utf8(element).ok().and_then(&read) else {
            return (hops, ForwardedChain::Bad);
        };
        let addr = hop.addr;
        hops.push(hop);
        match addr {
            None => return (hops, ForwardedChain::Bad),
            Some(addr) if !is_trusted(&addr) => return (hops, ForwardedChain::Client),
            Some(_) => {}
        }
    }
    let walk = if hops.is_empty() { ForwardedChain::Absent } else { ForwardedChain::AllTrusted };
    (hops, walk)
}

/// An element of `X-Forwarded-For`: an address, bare, or with a port as in a URI.
fn hop(text: &str) -> Option<ForwardedHop> {
    let bare = text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 0));
    let addr = bare.or_else(|| node(text))?;
    possible(addr).map(|addr| ForwardedHop { addr: Some(addr), ..ForwardedHop::default() })
}

/// An element of `Forwarded` (RFC 7239 4). One that is well-formed and names no address
/// (`unknown`, `_hidden`) is still its proxy's word for the rest.
fn element(text: &str) -> Option<ForwardedHop> {
    let mut found = ForwardedHop::default();
    let mut seen: Vec<String> = Vec::new();
    let pairs = text.split(';').map(|pair| pair.trim_matches([' ', '\t']));
    for pair in pairs.filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let value = unquoted(value).filter(|_| is_token(name.as_bytes()))?;
        let name = name.to_ascii_lowercase();
        // Each parameter must not occur more than once.
        if seen.len() == PARAMETERS_MAX || seen.contains(&name) {
            return None;
        }
        match name.as_str() {
            "for" => found.addr = node(value).and_then(possible),
            "proto" => found.secure = is_secure(value),
            "host" => found.host = authority(value),
            _ => {}
        }
        seen.push(name);
    }
    Some(found)
}

/// A token, or what stands between quotes. Escapes have no place in what is read here.
fn unquoted(value: &str) -> Option<&str> {
    match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').filter(|text| !text.contains(['"', '\\'])),
        None => Some(value).filter(|value| is_token(value.as_bytes())),
    }
}

/// A node (RFC 7239 6) that is an address: IPv6 in brackets, perhaps a port, which may be hidden.
fn node(text: &str) -> Option<SocketAddr> {
    let (ip, rest) = match text.strip_prefix('[') {
        Some(rest) => {
            let (ip, rest) = rest.split_once(']')?;
            (IpAddr::V6(ip.parse().ok()?), rest)
        }
        None => {
            let (ip, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
            (IpAddr::V4(ip.parse().ok()?), rest)
        }
    };
    let port = match rest.strip_prefix(':') {
        None if rest.is_empty() => 0,
        None => return None,
        Some(text) if is_obfuscated(text) => 0,
        Some(text) => port(text)?,
    };
    Some(SocketAddr::new(ip, port))
}

/// RFC 7239 6.3
fn is_obfuscated(text: &str) -> bool {
    let lawful = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    text.strip_prefix('_').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(lawful))
}

fn possible(addr: SocketAddr) -> Option<ClientAddr> {
    Some(ClientAddr::new(addr)).filter(ClientAddr::is_possible)
}

/// Decimal digits without leading zeros.
fn port(text: &str) -> Option<u16> {
    let plain =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// Some proxies name WebSockets by their own schemes.
fn is_secure(scheme: &str) -> Option<bool> {
    if ["https", "wss"].iter().any(|name| scheme.eq_ignore_ascii_case(name)) {
        Some(true)
    } else if ["http", "ws"].iter().any(|name| scheme.eq_ignore_ascii_case(name)) {
        Some(false)
    } else {
        None
    }
}

fn authority(text: &str) -> Option<Box<str>> {
    Authority::parse(text.as_bytes()).ok().map(|_| text.into())
}

fn request_id(headers: &HeaderMap) -> Option<Box<str>> {
    let sent = only(headers, &X_REQUEST_ID)?;
    let lawful = sent.len() <= REQUEST_ID_BYTES_MAX && sent.bytes().all(|b| b.is_ascii_graphic());
    Some(sent.into()).filter(|_| lawful && !sent.is_empty())
}

/// The value of a field that is there once, in ASCII.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next().map(HeaderValue::to_str)?.ok();
    first.filter(|_| lines.next().is_none())
}

/// `X-Forwarded-For`
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `X-Forwarded-Host`
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// `X-Forwarded-Port`
pub const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
/// `X-Forwarded-Proto`
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// `X-Request-Id`
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Most addresses that are walked along; more proxies than that are a loop.
const ELEMENTS_MAX: usize = 16;
/// Most parameters of one element of `Forwarded`; RFC 7239 knows four.
const PARAMETERS_MAX: usize = 16;
/// Longest id of a request that is taken over.
const REQUEST_ID_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests;
