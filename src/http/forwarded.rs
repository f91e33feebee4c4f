//! The client address, scheme and host that trusted proxies report in `X-Forwarded-*` or
//! `Forwarded` (RFC 7239).
//!
//! The address list is read from the right, where the nearest proxy appended its entry, to the
//! first address that is not a trusted proxy: that is the client. Everything left of it may have
//! been forged by the client and is ignored. Use this only for requests whose peer is a trusted
//! proxy.

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::{FORWARDED, HeaderName, HeaderValue};

use super::authority::Authority;
use super::fields::is_token;
use crate::client::ClientAddr;

/// What trusted proxies report about one request; empty by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// Addresses from the client to the proxy that sent the request to the peer.
    pub chain: Vec<ClientAddr>,
    /// Where reading the address list stopped, which decides how far `chain` can be trusted.
    pub chain_end: ChainEnd,
    /// Whether the client used TLS, if reported.
    pub secure: Option<bool>,
    /// The host and port that the client requested, as sent.
    pub host: Option<Box<str>>,
    /// The port that the client connected to.
    pub port: Option<u16>,
    /// The request id assigned by a proxy in front: 1 to 128 visible ASCII characters.
    pub request_id: Option<Box<str>>,
}

/// Where reading the address list from the right stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChainEnd {
    /// The header is absent or empty.
    #[default]
    Absent,
    /// At an address that is not a trusted proxy: the client.
    Client,
    /// At the left end or after 16 addresses, all of which are trusted proxies.
    AllTrusted,
    /// At an entry that is not a valid address.
    Invalid,
}

impl Forwarded {
    /// Reads `X-Forwarded-For`, `-Host`, `-Port` and `-Proto`, and `X-Request-Id`.
    pub fn from_x_forwarded(headers: &HeaderMap, is_trusted: impl Fn(&ClientAddr) -> bool) -> Self {
        let (hops, chain_end) = read_chain(headers, &X_FORWARDED_FOR, x_forwarded_hop, is_trusted);
        let host = single_value(headers, &X_FORWARDED_HOST).and_then(authority);
        Self {
            chain: hops.into_iter().rev().filter_map(|hop| hop.addr).collect(),
            chain_end,
            secure: single_value(headers, &X_FORWARDED_PROTO).and_then(is_secure),
            host,
            port: single_value(headers, &X_FORWARDED_PORT).and_then(port).filter(|port| *port != 0),
            request_id: request_id(headers),
        }
    }

    /// Reads `Forwarded` (RFC 7239) and `X-Request-Id`. Scheme and host are taken from the element
    /// that the proxy nearest to the client appended.
    pub fn from_forwarded(headers: &HeaderMap, is_trusted: impl Fn(&ClientAddr) -> bool) -> Self {
        let (mut hops, chain_end) = read_chain(headers, &FORWARDED, forwarded_hop, is_trusted);
        let (secure, host) =
            hops.last_mut().map(|hop| (hop.secure, hop.host.take())).unwrap_or_default();
        let chain = hops.into_iter().rev().filter_map(|hop| hop.addr).collect();
        Self { chain, chain_end, secure, host, port: None, request_id: request_id(headers) }
    }
}

/// One list entry: what one proxy reports about the party it received the request from.
#[derive(Debug, Default)]
struct ForwardedHop {
    addr: Option<ClientAddr>,
    secure: Option<bool>,
    host: Option<Box<str>>,
}

/// The hops from the right up to where reading stops; only the last may lack an address.
///
/// Lines are split at every comma, quoted or not. An address contains none, and a fragment of a
/// quoted string is not a valid element, so an unbalanced quote sent by a client cannot absorb the
/// entry that a proxy appended after it.
fn read_chain(
    headers: &HeaderMap,
    name: &HeaderName,
    read: impl Fn(&str) -> Option<ForwardedHop>,
    is_trusted: impl Fn(&ClientAddr) -> bool,
) -> (Vec<ForwardedHop>, ChainEnd) {
    let lines = headers.get_all(name).iter().rev();
    let elements = lines
        .flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        // RFC 9110 5.6.1.2: empty elements are ignored.
        .filter(|element| !element.is_empty());
    let mut hops = Vec::new();
    for element in elements.take(ELEMENTS_MAX) {
        let Some(hop) = std::str::from_utf8(element).ok().and_then(&read) else {
            return (hops, ChainEnd::Invalid);
        };
        let addr = hop.addr;
        hops.push(hop);
        match addr {
            None => return (hops, ChainEnd::Invalid),
            Some(addr) if !is_trusted(&addr) => return (hops, ChainEnd::Client),
            Some(_) => {}
        }
    }
    let chain_end = if hops.is_empty() { ChainEnd::Absent } else { ChainEnd::AllTrusted };
    (hops, chain_end)
}

/// An element of `X-Forwarded-For`: an address, bare or with a port in URI notation.
fn x_forwarded_hop(text: &str) -> Option<ForwardedHop> {
    let bare = text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 0));
    let addr = bare.or_else(|| node(text))?;
    client_addr(addr).map(|addr| ForwardedHop { addr: Some(addr), ..ForwardedHop::default() })
}

/// An element of `Forwarded` (RFC 7239 4). The other parameters of a well-formed element count even
/// if its `for` is not an address (`unknown`, `_hidden`).
fn forwarded_hop(text: &str) -> Option<ForwardedHop> {
    let mut found = ForwardedHop::default();
    let mut seen: Vec<String> = Vec::new();
    let pairs = text.split(';').map(|pair| pair.trim_matches([' ', '\t']));
    for pair in pairs.filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let value = unquoted(value).filter(|_| is_token(name.as_bytes()))?;
        let name = name.to_ascii_lowercase();
        // RFC 7239 4: a parameter must not occur more than once in an element.
        if seen.len() == PARAMETERS_MAX || seen.contains(&name) {
            return None;
        }
        match name.as_str() {
            "for" => found.addr = node(value).and_then(client_addr),
            "proto" => found.secure = is_secure(value),
            "host" => found.host = authority(value),
            _ => {}
        }
        seen.push(name);
    }
    Some(found)
}

/// A token, or the content of a quoted string. Escapes are rejected: addresses, schemes and hosts
/// need none.
fn unquoted(value: &str) -> Option<&str> {
    match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').filter(|text| !text.contains(['"', '\\'])),
        None => Some(value).filter(|value| is_token(value.as_bytes())),
    }
}

/// A node (RFC 7239 6) that is an address, IPv6 in brackets, with an optional port; an obfuscated
/// port becomes 0.
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

/// An obfuscated identifier (RFC 7239 6.3).
fn is_obfuscated(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    text.strip_prefix('_').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(allowed))
}

fn client_addr(addr: SocketAddr) -> Option<ClientAddr> {
    Some(ClientAddr::new(addr)).filter(ClientAddr::is_unicast)
}

/// A port in decimal digits without leading zeros.
fn port(text: &str) -> Option<u16> {
    let plain =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// Whether the scheme implies TLS. Some proxies send `ws` and `wss` for WebSockets.
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
    let sent = single_value(headers, &X_REQUEST_ID)?;
    let valid = sent.len() <= REQUEST_ID_BYTES_MAX && sent.bytes().all(|b| b.is_ascii_graphic());
    Some(sent.into()).filter(|_| valid && !sent.is_empty())
}

/// The value of a field that occurs exactly once and is ASCII.
fn single_value<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next().map(HeaderValue::to_str)?.ok();
    first.filter(|_| lines.next().is_none())
}

/// Addresses, the client first.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Host and port that the client requested.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// Port that the client connected to.
pub const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
/// Scheme that the client used.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Identifier that ties the records of several proxies together.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Maximum addresses that are read; a longer list indicates a loop.
const ELEMENTS_MAX: usize = 16;
/// Maximum parameters of one element of `Forwarded`; RFC 7239 defines four.
const PARAMETERS_MAX: usize = 16;
/// Maximum length of a request id that is accepted from a trusted proxy.
const REQUEST_ID_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests;
