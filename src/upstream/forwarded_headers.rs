//! What the proxy adds to a request for the backend: the client's address, scheme and host, the request
//! id, the PROXY header, and the header changes configured for the route.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper::HeaderMap;
use hyper::header::{FORWARDED, HeaderName, HeaderValue};
use proxy_header::{ProxiedAddress, ProxyHeader};

use crate::client::ascii::push_ip;
use crate::client::{ClientAddr, ClientInfo};
use crate::config::settings::HeaderRules;
use crate::http::authority::Authority;
use crate::http::forwarded::{
    Forwarded, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO, X_REQUEST_ID,
};
use crate::http::head_limits::HeadLimits;

/// How requests of a route are forwarded to its backends.
#[derive(Clone, Debug, Default)]
pub struct ForwardingPolicy {
    /// Whether a connection starts with a PROXY header, version 2.
    pub send_proxy: bool,
    /// Whether `Forwarded` (RFC 7239) is sent in addition to `X-Forwarded-For`.
    pub send_forwarded: bool,
    /// The name of this proxy in `Via` (RFC 9110 7.6.3); `None` if the field is not added.
    pub via: Option<Arc<str>>,
    /// Names with underscores that are forwarded nevertheless.
    pub underscore_headers: Vec<HeaderName>,
    /// Changes to request headers, applied last.
    pub request_headers: HeaderRules,
    /// Changes to response headers.
    pub response_headers: HeaderRules,
    /// How large response heads may be.
    pub response_head: HeadLimits,
}

impl ForwardingPolicy {
    /// Whether a client's header is removed because of an underscore in its name. CGI maps `-` and `_` to
    /// the same character, so that an application would take `x_forwarded_for` for `X-Forwarded-For`.
    pub fn drops_underscore(&self, name: &HeaderName) -> bool {
        name.as_str().bytes().any(|byte| byte == b'_') && !self.underscore_headers.contains(name)
    }

    /// The PROXY header for a connection without a client (the command LOCAL); empty if the route does not
    /// send one.
    pub fn local_proxy_header(&self) -> Vec<u8> {
        if self.send_proxy { encoded(&ProxyHeader::with_local()) } else { Vec::new() }
    }
}

/// The forwarding information of one request.
#[derive(Clone, Copy, Debug)]
pub struct ForwardedHeaders<'r> {
    /// The client.
    pub client: &'r ClientInfo,
    /// What trusted proxies reported. The chain starts with the client and ends with the peer of this
    /// connection.
    pub forwarded: &'r Forwarded,
    /// Identifier of the request: visible ASCII.
    pub request_id: &'r str,
    /// Local address of the client connection.
    pub local: SocketAddr,
    /// Settings of the route.
    pub policy: &'r ForwardingPolicy,
}

impl ForwardedHeaders<'_> {
    /// Adds the forwarded headers to a head from which the client's have been removed. `host` is the
    /// validated host of the request.
    pub fn add_to(&self, host: &HeaderValue, headers: &mut HeaderMap) {
        let client = self.client.addr.ip();
        let host_text = match &self.forwarded.host {
            Some(host) => host,
            None => host.to_str().unwrap_or_default(),
        };
        let port = || {
            let authority = host_text.contains(':').then(|| Authority::parse(host_text.as_bytes()));
            authority?.ok()?.port
        };
        let default = if self.client.secure { 443 } else { 80 };
        let port = self.forwarded.port.or_else(port).unwrap_or(default);
        let mut addresses = Vec::with_capacity(ADDRESSES_BYTES);
        for hop in &self.forwarded.chain {
            if !addresses.is_empty() {
                addresses.extend_from_slice(b", ");
            }
            push_ip(&mut addresses, hop.ip());
        }
        set(headers, X_FORWARDED_FOR, &addresses);
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(self.scheme()));
        match &self.forwarded.host {
            Some(host) => set(headers, X_FORWARDED_HOST, host.as_bytes()),
            None => drop(headers.insert(X_FORWARDED_HOST, host.clone())),
        }
        // The usual ones need no memory.
        let port = match port {
            443 => HeaderValue::from_static("443"),
            80 => HeaderValue::from_static("80"),
            _ => HeaderValue::from(port),
        };
        headers.insert(X_FORWARDED_PORT, port);
        addresses.clear();
        push_ip(&mut addresses, client);
        set(headers, X_REAL_IP, &addresses);
        set(headers, X_REQUEST_ID, self.request_id.as_bytes());
        if self.policy.send_forwarded {
            set(headers, FORWARDED, self.forwarded_elements(host_text).as_bytes());
        }
    }

    /// The PROXY header for a connection to a backend; empty if the route does not send one.
    pub fn proxy_header(&self) -> Vec<u8> {
        if !self.policy.send_proxy {
            return Vec::new();
        }
        let (client, local) = (self.client.addr, ClientAddr::new(self.local));
        let (client, local) = match (client.ip(), local.ip()) {
            (IpAddr::V4(_), IpAddr::V4(_)) => (client.socket(), local.socket()),
            // The header requires two addresses of the same family.
            (_, _) => (mapped(client.socket()), mapped(local.socket())),
        };
        encoded(&ProxyHeader::with_address(ProxiedAddress::stream(client, local)))
    }

    /// One `Forwarded` element per hop; the first one carries the scheme and host of the client.
    fn forwarded_elements(&self, host: &str) -> String {
        let first = format!(";host=\"{host}\";proto={}", self.scheme());
        let elements = self.forwarded.chain.iter().enumerate().map(|(index, hop)| {
            let parameters = if index == 0 { &first } else { "" };
            // RFC 7239 6: an IPv6 address is enclosed in brackets and therefore quoted.
            match hop.ip() {
                IpAddr::V4(v4) => format!("for={v4}{parameters}"),
                IpAddr::V6(v6) => format!("for=\"[{v6}]\"{parameters}"),
            }
        });
        elements.collect::<Vec<_>>().join(", ")
    }

    fn scheme(&self) -> &'static str {
        if self.client.secure { "https" } else { "http" }
    }
}

/// Applies the header changes of a route: removals first, then values to set.
pub fn apply_rules(rules: &HeaderRules, headers: &mut HeaderMap) {
    for name in &rules.remove {
        headers.remove(name);
    }
    for (name, value) in &rules.set {
        headers.insert(name, value.clone());
    }
}

fn encoded(header: &ProxyHeader<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoded = header.encode_v2(&mut bytes);
    debug_assert!(encoded.is_ok(), "at most two addresses, of one family");
    bytes
}

fn mapped(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(v4) => SocketAddr::new(v4.to_ipv6_mapped().into(), addr.port()),
        IpAddr::V6(_) => addr,
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, text: &[u8]) {
    if let Ok(value) = HeaderValue::from_bytes(text) {
        headers.insert(name, value);
    }
}

/// Maximum number of headers that [`ForwardedHeaders::add_to`] adds.
pub const ADDED_MAX: usize = 7;

/// Initial capacity for a list of addresses; most have one.
const ADDRESSES_BYTES: usize = 64;
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

#[cfg(test)]
mod tests;
