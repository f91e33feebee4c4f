//! What a backend is told of a request beside its own head: whom it is from, how it came, and by
//! what name it is known; and the changes that a route makes to heads.

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::{FORWARDED, HeaderName, HeaderValue};
use proxy_header::{ProxiedAddress, ProxyHeader};

use crate::client::{ClientAddr, ClientInfo};
use crate::config::settings::HeaderRules;
use crate::http::authority::Authority;
use crate::http::forwarded::{
    Forwarded, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO, X_REQUEST_ID,
};

/// How the backends of a route are spoken to.
#[derive(Clone, Debug, Default)]
pub struct ForwardingPolicy {
    /// A connection begins with a PROXY header, version 2.
    pub send_proxy: bool,
    /// `Forwarded` (RFC 7239) is sent beside `X-Forwarded-For`.
    pub send_forwarded: bool,
    /// Changes to a request's head, after all else.
    pub request_headers: HeaderRules,
    /// Changes to what an answer's head says.
    pub response_headers: HeaderRules,
}

/// One request's client, made known to a backend.
#[derive(Clone, Copy, Debug)]
pub struct ForwardedHeaders<'r> {
    /// Whom it is from.
    pub visitor: &'r ClientInfo,
    /// What trusted proxies say of it. Its chain begins with the client and ends with who passed
    /// the request to us.
    pub forwarded: &'r Forwarded,
    /// What the request is known by: visible ASCII.
    pub request_id: &'r str,
    /// Where the client's connection came to.
    pub local: SocketAddr,
    /// The route's way.
    pub manner: &'r ForwardingPolicy,
}

impl ForwardedHeaders<'_> {
    /// Writes what is to be said into a head that has none of it. `host` is what the request is
    /// for, as validated before.
    pub fn write(&self, host: &HeaderValue, headers: &mut HeaderMap) {
        let client = self.visitor.addr.ip();
        let host = match &self.forwarded.host {
            Some(host) => host,
            None => host.to_str().unwrap_or_default(),
        };
        let port = || Authority::parse(host.as_bytes()).ok().and_then(|named| named.port);
        let usual = if self.visitor.secure { 443 } else { 80 };
        let port = self.forwarded.port.or_else(port).unwrap_or(usual);
        let hops = self.forwarded.chain.iter().map(|hop| hop.ip().to_string());
        set(headers, X_FORWARDED_FOR, &hops.collect::<Vec<_>>().join(", "));
        set(headers, X_FORWARDED_PROTO, self.scheme());
        set(headers, X_FORWARDED_HOST, host);
        headers.insert(X_FORWARDED_PORT, HeaderValue::from(port));
        set(headers, X_REAL_IP, &client.to_string());
        set(headers, X_REQUEST_ID, self.request_id);
        if self.manner.send_forwarded {
            set(headers, FORWARDED, &self.forwarded_elements(host));
        }
    }

    /// The PROXY header that begins a connection to a backend; empty where the route sends none.
    pub fn proxy_header(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.manner.send_proxy {
            let (client, local) = (self.visitor.addr, ClientAddr::new(self.local));
            let (client, local) = match (client.ip(), local.ip()) {
                (IpAddr::V4(_), IpAddr::V4(_)) => (client.socket(), local.socket()),
                // The header has both in one family.
                (_, _) => (mapped(client.socket()), mapped(local.socket())),
            };
            let header = ProxyHeader::with_address(ProxiedAddress::stream(client, local));
            let encoded = header.encode_v2(&mut bytes);
            debug_assert!(encoded.is_ok(), "two addresses of one family");
        }
        bytes
    }

    /// One element for each hop; scheme and host are what the first of them asked for.
    fn forwarded_elements(&self, host: &str) -> String {
        let first = format!(";host=\"{host}\";proto={}", self.scheme());
        let elements = self.forwarded.chain.iter().enumerate().map(|(place, hop)| {
            let said = if place == 0 { &first } else { "" };
            // RFC 7239 6: IPv6 stands in brackets, and so in quotes.
            match hop.ip() {
                IpAddr::V4(v4) => format!("for={v4}{said}"),
                IpAddr::V6(v6) => format!("for=\"[{v6}]\"{said}"),
            }
        });
        elements.collect::<Vec<_>>().join(", ")
    }

    fn scheme(&self) -> &'static str {
        if self.visitor.secure { "https" } else { "http" }
    }
}

/// What we say about the client, what a backend would believe came from us, and what names a
/// backend could mistake for those.
pub fn is_not_the_clients(name: &HeaderName) -> bool {
    let name = name.as_str();
    // Common Gateway Interfaces fold `_` and `-` into one: `x_forwarded_for`. The same fold makes
    // `Proxy` the variable HTTP_PROXY.
    name.contains('_')
        || name.starts_with("x-forwarded-")
        || name.starts_with("proxy-")
        || matches!(
            name,
            "cf-connecting-ip"
                | "cf-connecting-ipv6"
                | "cf-pseudo-ipv4"
                | "client-ip"
                // RFC 8470 5.1: only a server that takes early data may say so.
                | "early-data"
                | "fastly-client-ip"
                | "forwarded"
                | "forwarded-for"
                | "host"
                | "proxy"
                | "true-client-ip"
                | "x-appengine-user-ip"
                | "x-azure-clientip"
                | "x-client-ip"
                | "x-cluster-client-ip"
                | "x-envoy-external-address"
                | "x-forwarded"
                | "x-original-forwarded-for"
                | "x-original-url"
                | "x-real-ip"
                | "x-remote-addr"
                | "x-remote-ip"
                | "x-request-id"
                | "x-rewrite-url"
        )
}

/// Changes a head as a route has it.
pub fn apply(rules: &HeaderRules, headers: &mut HeaderMap) {
    for name in &rules.remove {
        headers.remove(name);
    }
    for (name, value) in &rules.set {
        headers.insert(name, value.clone());
    }
}

fn mapped(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(v4) => SocketAddr::new(v4.to_ipv6_mapped().into(), addr.port()),
        IpAddr::V6(_) => addr,
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

/// Most fields that [`ForwardedHeaders::write`] adds.
pub const WRITTEN_MAX: usize = 7;

const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

#[cfg(test)]
mod tests;
