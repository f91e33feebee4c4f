//! Whom a request is from: the other end of its connection, or, where that is a trusted proxy,
//! whom it names.

use hyper::HeaderMap;

use crate::client::{AddrSource, ClientInfo, KeyPrefixes};
use crate::config::settings::{ForwardedHeader, TrustedProxies};
use crate::http::forwarded::{Forwarded, ForwardedChain};

/// Reads whom a request on this connection is from, and what trusted proxies say of it. The
/// visitor is `None` where it is the connection's own. The chain of addresses always ends with
/// that one, and begins with the client.
pub fn identify(
    connection: &ClientInfo,
    headers: &HeaderMap,
    trusted: &TrustedProxies,
    prefixes: KeyPrefixes,
) -> (Option<ClientInfo>, Forwarded) {
    let is_trusted = |addr: &_| trusted.contains(addr);
    let mut said = match trusted.header {
        _ if !trusted.contains(&connection.addr) => Forwarded::default(),
        ForwardedHeader::XForwardedFor => Forwarded::by_x_forwarded(headers, is_trusted),
        ForwardedHeader::Forwarded => Forwarded::by_forwarded(headers, is_trusted),
    };
    said.chain.push(connection.addr);
    let known_by = match said.walk {
        ForwardedChain::Absent => connection.known_by,
        ForwardedChain::Client => AddrSource::Forwarded,
        ForwardedChain::AllTrusted => AddrSource::ForwardedAllTrusted,
        ForwardedChain::Bad => AddrSource::ForwardedBad,
    };
    let client = said.chain.first().copied().unwrap_or(connection.addr);
    let secure = said.secure.unwrap_or(connection.secure);
    if (client, known_by, secure) == (connection.addr, connection.known_by, connection.secure) {
        return (None, said);
    }
    let mut visitor = if client == connection.addr {
        ClientInfo { known_by, ..connection.clone() }
    } else {
        connection.on_behalf_of(client, known_by, prefixes)
    };
    visitor.secure = secure;
    (Some(visitor), said)
}
