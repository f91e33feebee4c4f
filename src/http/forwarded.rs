//! The client address, scheme and host that trusted proxies report in `X-Forwarded-*`, `Forwarded` (RFC
//! 7239) or a header of the provider.
//!
//! The address list is read from the right, where the nearest proxy appended its entry, to the
//! first address that is not a trusted proxy: that is the client. Everything left of it may have
//! been forged by the client and is ignored. Use this only for requests whose peer is a trusted
//! proxy.
//!
//! Scheme, host and port are taken from the left end of their list: the value of the proxy that the
//! client connected to. A list does not say which proxy wrote which value, so a client can forge
//! these if the proxies in front append to what it sends. This does not weaken the check of `Origin`:
//! a web page cannot set these fields on a handshake, and a program that can set them can set any
//! `Origin` as well. Backends also receive them with plain requests, so proxies must replace them.

pub mod client_address;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::{FORWARDED, HeaderName};

use super::authority::Authority;
use super::fields::{is_token, list_members, single_value};
use crate::client::ClientAddr;

/// What trusted proxies report about one request; empty by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// Addresses from the client to the proxy that sent the request to the peer.
    pub chain: Vec<ClientAddr>,
    /// Where reading the address list stopped, which decides how far `chain` can be trusted.
    pub chain_end: ChainEnd,
    /// Whether the peer is a trusted proxy.
    pub from_trusted: bool,
    /// Whether the client used TLS, if reported.
    pub secure: Option<bool>,
    /// The host and port that the client requested, as sent.
    pub host: Option<Box<str>>,
    /// The port that the client connected to.
    pub port: Option<u16>,
    /// The request id assigned by a proxy in front: 1 to 128 visible ASCII characters.
    pub request_id: Option<Box<str>>,
    /// What could not be understood and was ignored, for the record; at most one per field.
    pub invalid: Vec<InvalidForwarded>,
}

/// A value of a trusted proxy that could not be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidForwarded {
    /// The header field in lower case.
    pub name: &'static str,
    /// The value as sent, at most 64 bytes; empty if it may contain more than one kind of data.
    pub value: Box<str>,
    /// Why it was ignored.
    pub reason: &'static str,
}

/// Formats it for the record. The value must still be escaped.
impl fmt::Display for InvalidForwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, value, reason } = self;
        if value.is_empty() {
            write!(f, "{name}: {reason}")
        } else {
            write!(f, "{name}: {reason}: {value}")
        }
    }
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
        let mut found = Self {
            chain: hops.into_iter().rev().filter_map(|hop| hop.addr).collect(),
            chain_end,
            ..Self::default()
        };
        if chain_end == ChainEnd::Invalid {
            found.ignore("x-forwarded-for", "", "an entry is not an IP address");
        }
        found.read_x_forwarded(headers);
        found
    }

    /// Reads the fields other than the addresses: `X-Forwarded-Proto`, `-Host` and `-Port`, and
    /// `X-Request-Id`.
    fn read_x_forwarded(&mut self, headers: &HeaderMap) {
        self.secure = self.leftmost(headers, &X_FORWARDED_PROTO, is_secure, BAD_PROTO);
        self.host = self.leftmost(headers, &X_FORWARDED_HOST, authority, BAD_HOST);
        let is_used = |port: &u16| *port != 0;
        let read_port = |text: &str| port(text).filter(is_used);
        self.port = self.leftmost(headers, &X_FORWARDED_PORT, read_port, BAD_PORT);
        // Proxies that do not terminate TLS themselves often report the port of their own listener.
        if let (Some(secure), Some(port)) = (self.secure, self.port)
            && port == if secure { 80 } else { 443 }
        {
            self.port = None;
            self.ignore("x-forwarded-port", &port.to_string(), "contradicts x-forwarded-proto");
        }
        self.read_request_id(headers);
    }

    /// Reads `Forwarded` (RFC 7239) and `X-Request-Id`. Scheme and host are taken from the element
    /// that the proxy nearest to the client appended.
    pub fn from_forwarded(headers: &HeaderMap, is_trusted: impl Fn(&ClientAddr) -> bool) -> Self {
        let (mut hops, chain_end) = read_chain(headers, &FORWARDED, forwarded_hop, is_trusted);
        let first = hops.pop();
        let mut found = Self { chain_end, ..Self::default() };
        if chain_end == ChainEnd::Invalid {
            found.ignore("forwarded", "", "an element is malformed or its `for` is not an address");
        }
        if let Some(hop) = first {
            (found.secure, found.host) = (hop.secure, hop.host.clone());
            if let Some(reason) = hop.invalid {
                found.ignore("forwarded", "", reason);
            }
            hops.push(hop);
        }
        found.chain = hops.into_iter().rev().filter_map(|hop| hop.addr).collect();
        found.read_request_id(headers);
        found
    }

    /// The leftmost member of a list, if it can be read. Several lines form one list.
    fn leftmost<T>(
        &mut self,
        headers: &HeaderMap,
        name: &HeaderName,
        read: impl Fn(&str) -> Option<T>,
        (field, reason): (&'static str, &'static str),
    ) -> Option<T> {
        let text = list_members(headers, name).next()?;
        let value = std::str::from_utf8(text).ok().and_then(read);
        if value.is_none() {
            self.ignore(field, &String::from_utf8_lossy(text), reason);
        }
        value
    }

    fn read_request_id(&mut self, headers: &HeaderMap) {
        let Ok(sent) = single_value(headers, &X_REQUEST_ID, ()) else {
            return self.ignore("x-request-id", "", "more than one, with different values");
        };
        let Some(sent) = sent else { return };
        let is_valid = |text: &&str| {
            (1..=REQUEST_ID_BYTES_MAX).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        match sent.to_str().ok().filter(is_valid) {
            Some(id) => self.request_id = Some(id.into()),
            // An empty one is often written by a proxy without an id.
            None if sent.is_empty() => {}
            None => {
                let text = String::from_utf8_lossy(sent.as_bytes());
                self.ignore("x-request-id", &text, "not 1 to 128 visible characters");
            }
        }
    }

    fn ignore(&mut self, name: &'static str, value: &str, reason: &'static str) {
        let shown = value.chars().scan(0, |bytes, letter| {
            *bytes += letter.len_utf8();
            (*bytes <= INVALID_BYTES_MAX).then_some(letter)
        });
        self.invalid.push(InvalidForwarded {
            name,
            value: shown.collect::<String>().into(),
            reason,
        });
    }
}

/// One list entry: what one proxy reports about the party it received the request from.
#[derive(Debug, Default)]
struct ForwardedHop {
    addr: Option<ClientAddr>,
    secure: Option<bool>,
    host: Option<Box<str>>,
    /// Which of its parameters could not be understood.
    invalid: Option<&'static str>,
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
            "proto" => {
                found.secure = is_secure(value);
                found.invalid = found.invalid.or(found.secure.is_none().then_some(BAD_PROTO_PARAM));
            }
            "host" => {
                found.host = authority(value);
                found.invalid = found.invalid.or(found.host.is_none().then_some(BAD_HOST_PARAM));
            }
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

const BAD_PROTO: (&str, &str) = ("x-forwarded-proto", "neither http nor https");
const BAD_HOST: (&str, &str) = ("x-forwarded-host", "not a host name or address");
const BAD_PORT: (&str, &str) = ("x-forwarded-port", "not a port from 1 to 65535");
const BAD_PROTO_PARAM: &str = "proto is neither http nor https";
const BAD_HOST_PARAM: &str = "host is not a host name or address";

/// Maximum bytes of a value that could not be understood in the record.
const INVALID_BYTES_MAX: usize = 64;
/// Maximum addresses that are read; a longer list indicates a loop.
const ELEMENTS_MAX: usize = 16;
/// Maximum parameters of one element of `Forwarded`; RFC 7239 defines four.
const PARAMETERS_MAX: usize = 16;
/// Maximum length of a request id that is accepted from a trusted proxy.
const REQUEST_ID_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests;
